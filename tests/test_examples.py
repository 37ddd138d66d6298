"""The example kit is the golden one, and the script beside it makes a kit that serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.places import ROOT
from tests.registries import digest_of

EXAMPLES = ROOT / "examples"


def test_the_example_is_the_golden_kit_byte_for_byte(kits: Path) -> None:
    assert digest_of(EXAMPLES / "iris-onnx", "v1") == digest_of(kits / "iris-onnx", "v1")
    for blob in (EXAMPLES / "iris-onnx/blobs/sha256").iterdir():
        assert blob.read_bytes() == (kits / "iris-onnx/blobs/sha256" / blob.name).read_bytes()


@pytest.mark.slow
def test_the_training_script_makes_a_kit_that_answers_as_its_samples_say(tmp_path: Path) -> None:
    folder = tmp_path / "iris"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train_iris.py", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sample = json.loads((folder / "model/samples.json").read_text())["samples"][0]
    with Server(str(folder), "--drain-delay", "0", cache=tmp_path / "cache") as server, server.ready() as client:
        answer = client.post("/v2/models/iris/infer", json=sample["request"]).json()
        label, probabilities = answer["outputs"]
        assert label["data"] == [0, 1, 2]
        assert probabilities["data"] == pytest.approx(sample["response"]["outputs"][1]["data"], abs=1e-5)
