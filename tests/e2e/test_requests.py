"""What the options say about requests, seen in whole servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.places import KITS

KIT = f"oci:{KITS / 'iris-onnx'}:v1"
INFER = "/v2/models/iris-onnx/infer"
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
BAD = {**ROW, "data": [5.1, 3.5, 1.4, "sesame"]}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("log_inputs", [False, True])
def test_a_reason_has_what_a_client_sent_only_where_the_operator_asks_for_it(log_inputs: bool, tmp_path: Path):
    options = ["--log-inputs"] if log_inputs else []
    with Server(KIT, "--drain-delay", "0", *options, cache=tmp_path) as server:
        with server.ready() as client:
            answer = client.post(INFER, json={"inputs": [BAD]})
            assert (answer.status_code, "'sesame'" in answer.json()["error"]) == (400, True)
        assert server.stop() == 0
        reason = server.event("request.refused")["reason"]
        got = "'sesame'" if log_inputs else "***"
        assert reason == f"input 'X', element 3: FP32 wants a number or null, got {got} (wrong element type)"


def test_no_deadline_and_bodies_over_the_old_limit(tmp_path: Path):
    """20 MB of one request: 16 MiB was the most that JSON could have, whatever the option said."""
    options = ["--inference-timeout", "0", "--max-body-bytes", "30000000"]
    with Server(KIT, "--drain-delay", "0", *options, cache=tmp_path) as server:
        with server.ready() as client:
            assert client.post(INFER, json={"inputs": [ROW]}).status_code == 200
            assert client.post(INFER, json={"inputs": [ROW], "extra": "a" * 20_000_000}).status_code == 200
            refused = client.post(INFER, json={"inputs": [ROW], "extra": "a" * 30_000_000})
            assert refused.status_code == 413
            assert refused.json()["error"] == "body too large: more than 30000000 bytes, the limit of --max-body-bytes"
        assert server.stop() == 0
