"""Workers, one for each core, have one copy of a verified model's numbers in memory together."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tests.e2e.server import Server
from tests.kit.made import made_kit
from tests.mapped import of_file

pytestmark = pytest.mark.slow
WIDTH, OUTPUTS = 1024, 512


def test_workers_share_the_numbers_of_a_verified_model(tmp_path: Path) -> None:
    ridge = Ridge().fit(np.eye(4), np.eye(4))
    ridge.coef_, ridge.intercept_, ridge.n_features_in_ = np.ones((OUTPUTS, WIDTH)), np.zeros(OUTPUTS), WIDTH
    joblib.dump(ridge, tmp_path / "m.joblib")
    layout = made_kit(tmp_path / "layout", {"m.joblib": (tmp_path / "m.joblib").read_bytes()}, framework="sklearn")
    kit, cores = f"m=oci:{layout}:v1", sorted(os.sched_getaffinity(0))[:2]
    options = ("--workers", "auto", "--drain-delay", "0")
    on_cores = ("taskset", "-c", ",".join(map(str, cores)))
    with Server(kit, *options, cache=tmp_path / "cache", prefix=on_cores) as server, server.ready() as client:
        server.event("worker.ready", count=len(cores))
        workers = server.workers()
        assert len(workers) == len(cores)
        row = {"name": "x", "datatype": "FP64", "shape": [1, WIDTH], "data": [1] * WIDTH}
        answer = client.post("/v2/models/m/infer", json={"inputs": [row]}).json()
        assert answer["outputs"][0]["data"] == [WIDTH] * OUTPUTS
        (file,) = (tmp_path / "cache").rglob("m.joblib")
        for worker in workers:
            resident, copied = of_file(file, worker)
            assert (resident > 0, copied) == (True, 0)
        assert server.stop() == 0
