from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.base import Options
from adapters.inspection import Verdict, verdicts
from tests.extras import MISSING

from .kits import files_in, unpack


@pytest.mark.parametrize(
    ("kit", "trust", "path", "adapter", "words"),
    [
        ("iris-onnx", "data", "model/iris.onnx", "onnx", None),
        ("iris-onnx", "data", "model/samples.json", None, None),
        ("corrupt-onnx", "data", "m.onnx", "onnx", "is not a whole ONNX model"),
        ("evil-pickle", "restricted", "evil.pkl", "sklearn", "a pickle that wants builtins.print"),
        ("evil-pickle", "unsafe", "evil.pkl", "sklearn", None),
        ("wine-sklearn", "restricted", "models/wine.joblib", "sklearn", None),
        ("wine-sklearn", "data", "models/wine.joblib", "sklearn", "a pickle, which --trust data"),
        pytest.param("diabetes-skops", "data", "diabetes.skops", "sklearn", None, marks=pytest.mark.slow),
        pytest.param("mlp-pt2", "restricted", "mlp.pt2", "pytorch", None, marks=pytest.mark.slow),
        pytest.param(
            *("mlp-pt2", "data", "mlp.pt2", "pytorch", "its member data/sample_inputs/model.pt is pickled"),
            marks=pytest.mark.slow,
        ),
        ("cnn-torchscript", "restricted", "model/cnn.pt", "pytorch", "TorchScript, which needs"),
        ("mlp-statedict", "restricted", "weights.pth", "pytorch", "weights, which need the kit's own code"),
        ("mlp-statedict", "restricted", "net.py", None, None),
        ("mlp-safetensors", "restricted", "weights.safetensors", "pytorch", "weights, which need the kit's own code"),
        ("iris-lightgbm", "data", "model.txt", "lightgbm", None),
        ("iris-xgboost", "data", "model.ubj", "xgboost", None),
        ("unknown-framework", "restricted", "model.weird", None, None),
    ],
)
def test_each_file_gets_a_verdict(kit: str, trust: str, path: str, adapter: Any, words: Any, tmp_path: Path) -> None:
    if adapter == "pytorch" and "torch" in MISSING:
        pytest.skip("torch is not installed")
    found = {v.path: v for v in verdicts(unpack(kit, tmp_path).files, Options(trust=trust))}
    verdict = found[path]
    assert verdict.adapter == adapter
    if words is None:
        assert verdict == Verdict(path, adapter)
    else:
        assert words in (verdict.refused or "")


def test_an_empty_file_is_said_to_be_that(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.pkl", "m.cbm", "empty.csv"):
        (tmp_path / name).touch()
    found = {each.path: each.refused for each in verdicts(files_in(tmp_path, "m.onnx"), Options())}
    assert {path for path, refused in found.items() if refused} == {"m.onnx", "m.pkl", "m.cbm"}
    assert found["m.pkl"] == "m.pkl is empty (0 bytes): save or copy the model again"
