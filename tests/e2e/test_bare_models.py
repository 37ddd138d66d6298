"""Models as people have them, without a Kitfile: a file alone, and a folder with one model in it."""

import io
from pathlib import Path
from typing import Any

import catboost
import joblib
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

import runtime

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"size": RNG.normal(size=40), "colour": RNG.choice(["red", "green"], 40)})


def dumped(root: Path) -> Any:
    """A wrapper of CatBoost: of a framework that its suffix does not name."""
    made = catboost.CatBoostClassifier(iterations=3, verbose=0, thread_count=1, allow_writing_files=False)
    made.fit(TABLE, np.where(TABLE["size"] > 0, "big", "small"), cat_features=["colour"])
    joblib.dump(made, root / "model.joblib")
    return made


@pytest.mark.parametrize("reference", ["model.joblib", "."])
def test_it_is_served_as_what_it_is_and_unverified(reference: str, tmp_path: Path, written: io.StringIO) -> None:
    root = tmp_path / "kit"
    root.mkdir()
    model = dumped(root)
    with TestClient(runtime.app(root / reference, cache_dir=tmp_path / "cache")) as client:
        assert f"kit.no_kitfile path={root / reference}" in written.getvalue()
        sizes, colours = TABLE["size"].tolist(), TABLE["colour"].tolist()
        columns = [("size", "FP64", sizes), ("colour", "BYTES", colours)]
        inputs = [{"name": n, "datatype": d, "shape": [40], "data": data} for n, d, data in columns]
        name = "model.joblib" if reference == "model.joblib" else "kit"
        answer = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs}).json()
        assert answer["outputs"][0]["data"] == model.predict(TABLE).tolist()
        assert client.get(f"/v2/models/{name}").headers["modelkit-verified"] == "false"
