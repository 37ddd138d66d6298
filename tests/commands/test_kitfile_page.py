"""Every Kitfile of docs/kitfile.md is served, and says what the page says it does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator

import runtime
from runtime.commands.schema import FILE
from runtime.worker.declared import Declared
from tests.adapters.kits import unpack
from tests.extras import MISSING
from tests.places import ROOT

PAGE = (ROOT / "docs" / "kitfile.md").read_text()
KITFILES = dict(re.findall(r"^```yaml (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
(SAMPLES,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CODE = """
import json

def load(path, options):
    weights = json.loads(path.read_text())

    def mean(arrays):
        mean = (arrays["image"] * weights["factor"]).mean(axis=(1, 2, 3))
        return {"mean": (mean + arrays.get("bias", 0)).round(options["digits"])}

    return mean
"""
SCHEMA = json.loads(FILE.read_text())


def served(name: str, folder: Path, files: dict[str, bytes], **options: Any) -> Any:
    for path, data in files.items():
        (folder / path).write_bytes(data)
    (folder / "Kitfile").write_text(KITFILES[name])
    return runtime.load(folder, **options)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("iris")
    unpack("iris-onnx", folder)
    return {"iris.onnx": (folder / "model" / "iris.onnx").read_bytes(), "samples.json": SAMPLES.encode()}


def test_one_line_is_enough(tmp_path: Path, iris: dict[str, bytes]):
    model = served("bare", tmp_path, {"iris.onnx": iris["iris.onnx"]})
    assert set(model.predict({"X": [[5.1, 3.5, 1.4, 0.2]]})) == {"label", "probabilities"}


def test_outputs_labels_and_samples(tmp_path: Path, iris: dict[str, bytes]):
    model = served("iris", tmp_path, iris)
    assert {name: array.tolist() for name, array in model.predict({"X": [[5.1, 3.5, 1.4, 0.2]]}).items()} == {
        "label": [0]
    }
    assert model.model.labels == ("setosa", "versicolor", "virginica")
    assert model.example is not None


@pytest.mark.skipif("PIL" in MISSING, reason="Pillow is not installed")
def test_inputs_options_and_batching(tmp_path: Path):
    model = served("mean", tmp_path, {"weights.json": b'{"factor": 2}', "mean.py": CODE.encode()}, trust="unsafe")
    pixels = np.ones((2, 3, 2, 2), np.float32)
    assert model.predict({"image": pixels})["mean"].tolist() == [2, 2]
    assert model.predict({"image": pixels, "bias": [1, 2]})["mean"].tolist() == [3, 4]
    assert not model.signature.pictures.keys() ^ {"image"}


@pytest.mark.parametrize("name", KITFILES)
def test_the_schema_takes_what_the_page_shows(name: str):
    assert list(Draft202012Validator(SCHEMA).iter_errors(yaml.safe_load(KITFILES[name]))) == []


def test_the_page_names_every_key():
    block: dict[str, Any] = {}
    for text in KITFILES.values():
        block |= yaml.safe_load(text)["model"].get("parameters", {}).get("serving", {})
    known = SCHEMA["$defs"]
    assert block.keys() == known["serving"]["properties"].keys()
    assert {key for one in block["inputs"] for key in one} == known["input"]["properties"].keys()
    assert block["inputs"][0]["image"].keys() == known["image"]["properties"].keys()
    assert block["batching"].keys() == known["serving"]["properties"]["batching"]["properties"].keys()
    assert Declared.parse({"serving": block})


@pytest.mark.slow
def test_a_misplaced_block_is_named_in_the_log(tmp_path: Path, iris: dict[str, bytes]):
    (tmp_path / "iris.onnx").write_bytes(iris["iris.onnx"])
    (tmp_path / "Kitfile").write_text("serving: {labels: [a]}\n" + KITFILES["bare"])
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "inspect", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["reason"] for event in events if event["event"] == "kitfile.misplaced"] == [
        "the Kitfile has serving, which nothing reads; it belongs to model.parameters.serving"
    ]
