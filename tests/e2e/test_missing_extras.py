"""A runtime that was installed without extras: a kit of another framework names what to install."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.doc_commands import blocks
from tests.e2e.test_predict_page import photos
from tests.installed import Installed, environ
from tests.kit.made import made_kit
from tests.places import KITS, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def bare(installed: Installed) -> Path:
    return installed.bin()


def verify(programs: Path, reference: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "runtime", "verify", reference], env=environ(programs, home),
        capture_output=True, text=True, timeout=60, check=False, cwd=home,
    )  # fmt: skip


def installs(text: str, extra: str) -> bool:
    """Whether a line says how to install an extra: its packages, or it in a checkout that is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = " ".join(f"'{package}'" for package in project["optional-dependencies"][extra])
    return f"-m pip install {packages}" in text or f"pip install '.[{extra}]' in the folder" in text


@pytest.mark.parametrize(
    ("kit", "extra"),
    [
        ("wine-sklearn", "sklearn"),
        ("diabetes-skops", "sklearn"),
        ("mlp-pt2", "pytorch"),
        ("iris-xgboost", "xgboost"),
        ("iris-lightgbm", "lightgbm"),
    ],
)
def test_a_framework_that_is_not_installed_is_named_with_its_extra(kit, extra, bare, tmp_path):
    done = verify(bare, f"oci:{KITS / kit}:v1", tmp_path)
    assert done.returncode == 78
    assert installs(done.stdout, extra)
    assert "Traceback" not in done.stderr


def test_the_extra_of_catboost_is_named_too(bare, tmp_path):
    made_kit(tmp_path / "kit", {"m.cbm": b"CBM1" + bytes(64)})
    done = verify(bare, f"oci:{tmp_path / 'kit'}:v1", tmp_path)
    assert (done.returncode, installs(done.stdout, "catboost")) == (78, True)


def test_the_extra_of_images_is_named_when_the_kit_is_loaded(bare, tmp_path):
    kit = photos(tmp_path / "kit")
    done = verify(bare, f"oci:{kit}:v1", tmp_path)
    assert (done.returncode, installs(done.stdout, "images")) == (78, True), done.stdout


def test_the_core_alone_serves_onnx(bare, tmp_path):
    done = verify(bare, f"oci:{KITS / 'iris-onnx'}:v1", tmp_path)
    assert (done.returncode, "the onnx adapter loaded it in " in done.stdout) == (0, True), done


def test_an_extra_is_all_that_a_model_of_ones_own_needs(installed, tmp_path):
    """The README's own model, in an environment that has the extra and nothing else."""
    train = next(line for block in blocks(ROOT / "README.md", "console") for line in block if "joblib.dump" in line)
    script = f"{train.replace('/tmp/', '')} && runtime predict ./model.joblib --alone"
    done = subprocess.run(
        ["bash", "-c", script], input="5.1,3.5,1.4,0.2\n", env=environ(installed.bin("sklearn"), tmp_path),
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "predict\n0\n"), done.stderr


def test_nothing_is_fetched_of_a_kit_whose_framework_is_not_installed(bare, lying, tmp_path):
    registry = lying("wine-sklearn")
    done = verify(bare, f"{registry.host}/kits/wine-sklearn:v1", tmp_path)
    assert (done.returncode, installs(done.stdout, "sklearn")) == (78, True), done
    assert len(registry.seen("/blobs/")) == 1  # the config
