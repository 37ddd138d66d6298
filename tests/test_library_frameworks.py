"""`runtime.load` of models of scikit-learn and PyTorch: columns as a frame has them, and samples of frameworks that say
less about themselves than ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import runtime
from adapters.base import TensorSpec
from runtime.errors import InvalidInput, SamplesDiffer
from tests.adapters.kits import check_case, unpack
from tests.expected import cases
from tests.extras import MISSING
from tests.kit.made import made_kit


def test_columns_are_taken_as_a_frame_has_them(tmp_path: Path) -> None:
    rows = pd.DataFrame({"old": np.arange(8) > 4, "age": np.arange(8), "note": ["a", "b"] * 4})
    columns = make_column_transformer(("passthrough", ["old"]), (StandardScaler(), ["age"]))
    joblib.dump(make_pipeline(columns, Ridge()).fit(rows, rows.age), tmp_path / "m.joblib")
    served = runtime.load(tmp_path / "m.joblib")
    wanted = served.predict({"old": [0, 1], "age": [1, 2]})["predict"].tolist()
    for old in (np.array([False, True]), [False, True]):
        got = served.predict({"old": old, "age": np.array([1, 2]), "note": ["dropped", 5]})
        assert got["predict"].tolist() == wanted


def test_many_columns_are_taken_as_one_matrix_or_each(tmp_path: Path) -> None:
    rows = pd.DataFrame(np.eye(80), columns=[f"of {i}" for i in range(80)])
    joblib.dump(Ridge().fit(rows, np.arange(80)), tmp_path / "m.joblib")
    served = runtime.load(tmp_path / "m.joblib")
    by_column = served.predict({name: rows[name].to_numpy() for name in rows})
    assert by_column["predict"].tolist() == served.predict({"x": rows.to_numpy()})["predict"].tolist()


def kit_with_samples(kit: str, folder: Path, *, wrong: tuple[bytes, bytes] = (b"", b""), **serving: Any) -> str:
    """The golden kit's model with its right answers as samples, one of them `wrong`, and other words about serving."""
    golden = unpack(kit, folder / kit)
    right = [{"request": {**case["request"], "id": "s"}, "response": {"outputs": case["outputs"]}, "rtol": case["rtol"],
              "atol": case["atol"]} for case in cases(kit)]  # fmt: skip
    model = (golden.files.root / golden.files.path).read_bytes()
    samples = json.dumps({"samples": right}).encode().replace(*wrong, bool(wrong[0]))
    parameters = {"serving": {"samples": "samples.json", **serving}}
    files = {golden.files.path: model, "samples.json": samples}
    return f"oci:{made_kit(folder / 'kit', files, framework=golden.model.get('framework'), parameters=parameters)}:v1"


def test_samples_are_replayed(tmp_path: Path) -> None:
    reference = kit_with_samples("wine-sklearn", tmp_path, outputs=["predict", "predict_proba"])
    assert runtime.load(reference, cache_dir=tmp_path / "cache").example["id"] == "s"


def test_samples_that_differ_are_shown(tmp_path: Path) -> None:
    reference = kit_with_samples("titanic-sklearn", tmp_path, wrong=(b'"survived"', b'"sank"'))
    with pytest.raises(SamplesDiffer, match="the sample says 'sank'"):
        runtime.load(reference, cache_dir=tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.skipif("torch" in MISSING, reason="torch is not installed")
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
def test_a_signature_that_no_file_tells_is_that_of_the_samples(tmp_path: Path) -> None:
    reference = kit_with_samples("cnn-torchscript", tmp_path, labels=["a", "b", "c"])
    served = runtime.load(reference, cache_dir=tmp_path / "cache", trust="unsafe")
    assert served.model.inputs == (TensorSpec("image", "FP32", (-1, 3, 32, 32)),)
    assert served.model.labels == ("a", "b", "c")
    check_case(served.model, cases("cnn-torchscript")[0])
    with pytest.raises(InvalidInput, match=r"\[-1, 3, 32, 32\]"):
        served.predict({"image": [[1, 2, 3, 4]]})
