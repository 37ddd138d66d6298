"""A runtime that was installed without extras: a kit of another framework names what to install."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.e2e.test_predict_page import photos
from tests.installed import Installed, environ
from tests.kit.made import made_kit
from tests.places import KITS, ROOT

pytestmark = pytest.mark.slow
EXTRAS = {
    "wine-sklearn": "sklearn",
    "diabetes-skops": "sklearn",
    "mlp-pt2": "pytorch",
    "iris-xgboost": "xgboost",
    "iris-lightgbm": "lightgbm",
    "boosted": "catboost",
    "photos": "images",
}
LOAD = """
import json, sys
import runtime
from runtime.exits import exit_code
for reference in sys.argv[1:]:
    try:
        runtime.load(reference)
    except Exception as error:
        print(json.dumps([exit_code(error), str(error)]))
"""


@pytest.fixture(scope="module")
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


def test_what_is_not_installed_is_named_with_its_extra(bare, tmp_path):
    made_kit(tmp_path / "boosted", {"m.cbm": b"CBM1" + bytes(64)})
    photos(tmp_path / "photos")
    kits = [tmp_path / kit if (tmp_path / kit).exists() else KITS / kit for kit in EXTRAS]
    done = subprocess.run(
        [bare / "python3", "-c", LOAD, *(f"oci:{kit}:v1" for kit in kits)], env=environ(bare, tmp_path),
        capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
    )  # fmt: skip
    for extra, line in zip(EXTRAS.values(), done.stdout.splitlines(), strict=True):
        code, said = json.loads(line)
        assert (code, installs(said, extra)) == (78, True), said


def test_the_core_alone_serves_onnx(bare, tmp_path):
    done = verify(bare, f"oci:{KITS / 'iris-onnx'}:v1", tmp_path)
    assert (done.returncode, "the onnx adapter loaded it in " in done.stdout) == (0, True), done


def test_nothing_is_fetched_of_a_kit_whose_framework_is_not_installed(bare, lying, tmp_path):
    registry = lying("wine-sklearn")
    done = verify(bare, f"{registry.host}/kits/wine-sklearn:v1", tmp_path)
    assert (done.returncode, installs(done.stdout, "sklearn")) == (78, True), done
    assert "Traceback" not in done.stderr
    assert len(registry.seen("/blobs/")) == 1  # the config
