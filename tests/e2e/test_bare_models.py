"""Models as people have them, without a Kitfile: a file alone, and a folder with one model in it."""

from pathlib import Path
from typing import Any

import catboost
import joblib
import numpy as np
import pandas as pd
import pytest

from tests.e2e.server import Server

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"size": RNG.normal(size=40), "colour": RNG.choice(["red", "green"], 40)})


def dumped(root: Path) -> Any:
    """A wrapper of CatBoost, whose model is loaded through a file in memory: a confined worker has to be able to."""
    made = catboost.CatBoostClassifier(iterations=3, verbose=0, thread_count=1, allow_writing_files=False)
    made.fit(TABLE, np.where(TABLE["size"] > 0, "big", "small"), cat_features=["colour"])
    joblib.dump(made, root / "model.joblib")
    return made


@pytest.mark.parametrize("reference", ["model.joblib", "."])
def test_it_is_served_as_what_it_is_and_unverified(reference: str, tmp_path: Path) -> None:
    root = tmp_path / "kit"
    root.mkdir()
    model = dumped(root)
    with Server(str(root / reference), "--drain-delay", "0", cache=tmp_path / "cache") as server:
        with server.ready() as client:
            warned = server.event("kit.no_kitfile")
            assert (warned["level"], warned["path"]) == ("warning", str(root / reference))
            sizes, colours = TABLE["size"].tolist(), TABLE["colour"].tolist()
            columns = [("size", "FP64", sizes), ("colour", "BYTES", colours)]
            inputs = [{"name": n, "datatype": d, "shape": [40], "data": data} for n, d, data in columns]
            name = "model.joblib" if reference == "model.joblib" else "kit"
            answer = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs}).json()
            assert answer["outputs"][0]["data"] == model.predict(TABLE).tolist()
            assert client.get(f"/v2/models/{name}").headers["modelkit-verified"] == "false"
        assert server.stop() == 0
