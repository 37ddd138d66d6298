"""`runtime inspect --files`: what each file is and whether the trust level would load it, with nothing loaded."""

import json
import os
from pathlib import Path

import pytest

from adapters.confinement import landlock_abi
from tests.e2e.server import run
from tests.kit.made import made_kit
from tests.places import KITS

pytestmark = pytest.mark.slow


def inspect(reference, tmp_path, *options, **environ):
    done = run("inspect", reference, "--files", "--json", "--cache-dir", str(tmp_path / "cache"), *options, **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def verdict(report, path):
    (found,) = (file for file in report["files"] if file["path"] == path)
    return found["adapter"], found["refused"]


@pytest.mark.parametrize(
    ("kit", "options", "path", "adapter", "words"),
    [
        ("evil-pickle", (), "evil.pkl", "sklearn", "wants builtins.print"),
        ("evil-pickle", ("--allow-global", "builtins.print"), "evil.pkl", "sklearn", None),
        ("evil-pickle", ("--trust", "data"), "evil.pkl", "sklearn", "--trust data"),
        ("evil-pickle", ("--trust", "signed"), "evil.pkl", "sklearn", "cannot check signatures yet"),
        ("evil-pickle", ("--trust", "unsafe"), "evil.pkl", "sklearn", None),
        ("evil-pickle", ("--adapter", "python"), "evil.pkl", "python", "the kit's own code"),
        ("wine-sklearn", (), "models/wine.joblib", "sklearn", None),
        ("diabetes-skops", ("--trust", "data"), "diabetes.skops", "sklearn", None),
        ("mlp-statedict", (), "weights.pth", "pytorch", "the kit's own code"),
        ("mlp-safetensors", (), "weights.safetensors", "pytorch", "the kit's own code"),
        ("mlp-pt2", (), "mlp.pt2", "pytorch", None),
        ("cnn-torchscript", (), "model/cnn.pt", "pytorch", None if landlock_abi() else "confined by Landlock"),
        ("cnn-torchscript", ("--trust", "data"), "model/cnn.pt", "pytorch", "TorchScript"),
        ("corrupt-onnx", (), "m.onnx", "onnx", "is not a whole ONNX model"),
        ("iris-onnx", (), "model/samples.json", None, None),
    ],
)  # fmt: skip
def test_each_file_has_a_verdict(kit, options, path, adapter, words, tmp_path):
    report = inspect(f"oci:{KITS / kit}:v1", tmp_path, *options)
    seen, refused = verdict(report, path)
    assert seen == adapter
    assert (refused is None) if words is None else (words in refused), refused


def test_the_trust_settings_may_be_variables(tmp_path):
    environ = {"RUNTIME_ALLOW_GLOBAL": "builtins.print", "RUNTIME_TRUST": "restricted"}
    report = inspect(f"oci:{KITS / 'evil-pickle'}:v1", tmp_path, **environ)
    assert (report["trust"], verdict(report, "evil.pkl")) == ("restricted", ("sklearn", None))


def test_people_read_the_verdict_beside_the_file(tmp_path):
    shown = run("inspect", f"oci:{KITS / 'evil-pickle'}:v1", "--files", "--cache-dir", str(tmp_path)).stdout
    assert "files (under --trust restricted)" in shown
    assert "65 B  evil.pkl  sklearn: REFUSED, a pickle that wants builtins.print" in shown


def test_who_looks_at_the_files_may_be_lost(tmp_path):
    """An adapter of somebody's that ends the process which imports it: the report says so and ends well."""
    site, info = tmp_path / "site", tmp_path / "site" / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "deadly.py").write_text("import os\nos.abort()\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelkit_runtime.adapters]\ndeadly = deadly:ADAPTER\n")
    made_kit(tmp_path / "kit", {"model": b"of no known kind"})
    environ = {"PYTHONPATH": os.pathsep.join([str(site), str(Path.cwd())])}
    report = inspect(f"oci:{tmp_path / 'kit'}:v1", tmp_path, **environ)
    assert "SIGABRT" in report["adapter"]["reason"]
    assert "SIGABRT" in verdict(report, "model")[1]
