"""The example kit is the golden one, and the script beside it makes a kit that serves."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import runtime
from tests.places import ROOT
from tests.registries import digest_of

EXAMPLES = ROOT / "examples"


def test_the_example_is_the_golden_kit_byte_for_byte(kits: Path) -> None:
    assert digest_of(EXAMPLES / "iris-onnx", "v1") == digest_of(kits / "iris-onnx", "v1")
    for blob in (EXAMPLES / "iris-onnx/blobs/sha256").iterdir():
        assert blob.read_bytes() == (kits / "iris-onnx/blobs/sha256" / blob.name).read_bytes()


@pytest.mark.slow
def test_the_training_script_makes_a_kit_that_answers_as_its_samples_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_iris.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "train_iris.py"), run_name="__main__")
    sample = json.loads((tmp_path / "model/samples.json").read_text())["samples"][0]
    (given,) = sample["request"]["inputs"]
    answer = runtime.load(tmp_path).predict({"X": np.reshape(given["data"], given["shape"])})
    assert answer["label"].tolist() == [0, 1, 2]
    assert answer["probabilities"].ravel() == pytest.approx(sample["response"]["outputs"][1]["data"], abs=1e-5)
