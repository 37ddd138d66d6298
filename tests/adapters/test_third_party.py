from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import Installed, environ
from tests.kit.made import made_kit
from tests.places import ROOT

GUIDE = ROOT / "docs" / "writing-an-adapter.md"

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from adapters import choose, guess, load
from adapters.base import ModelFiles, NoAdapter, Options
files = ModelFiles(Path(sys.argv[1]), "iris.centroids", files=("iris.centroids",))
def served(**said):
    said = {"framework": None, "format": None} | said
    adapter, model = load(files, Options(), **said, warn=print)
    made = model.predict({"x": np.array([[5.0, 3.4], [1.0, 1.0]])}, ("label", "distance"))
    return [adapter.name, [label.decode() for label in made["label"]], made["distance"].round(3).tolist()]
print(json.dumps([served(framework="centroids"), served(adapter="centroids"), served(), served(framework="Centroids:1.0")]))
print(guess("iris.centroids", framework=None, format=None).name, guess("m", framework="centroids", format=None).name)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.slow
def test_example_of_the_guide_is_built_installed_and_served(installed: Installed, tmp_path: Path) -> None:
    package, kit, site = tmp_path / "package", tmp_path / "kit", tmp_path / "site"
    package.mkdir()
    kit.mkdir()
    (code,), (project,) = blocks("python"), blocks("toml")
    assert len(code.splitlines()) < 40
    (package / "centroids_adapter.py").write_text(code)
    (package / "pyproject.toml").write_text(project)
    (kit / "iris.centroids").write_text("setosa,5.0,3.4\nversicolor,5.9,2.8\nlow,1,1\n")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(site), str(package)], check=True, timeout=100, capture_output=True)
    programs = installed.bin()
    variables = {**environ(programs, tmp_path), "PYTHONPATH": str(site)}
    found = subprocess.run(
        ["python3", "-c", PROGRAM, str(kit)], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    answers, guessed = found.stdout.splitlines()
    assert json.loads(answers) == [["centroids", ["setosa", "low"], [0.0, 0.0]]] * 4
    assert guessed == "centroids centroids"
    layout = made_kit(tmp_path / "layout", {"iris.centroids": (kit / "iris.centroids").read_bytes()})
    served = subprocess.run(
        ["runtime", "verify", f"oci:{layout}:v1"],
        env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (served.returncode, "the centroids adapter loaded it in " in served.stdout) == (0, True), served


def test_adapter_that_is_broken_is_named(tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelkit_runtime.adapters]\nbroken = no_such_module:ADAPTER\n")
    program = "from adapters import guess\ntry: guess('x.weird', framework='acme', format=None)\nexcept Exception as e: print(type(e).__name__, e)"
    env = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.startswith(
        "NoAdapter the adapter 'broken' (no_such_module:ADAPTER) cannot be imported: No module"
    )
