"""What the options say about requests, seen in whole servers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.server import Server
from tests.places import KITS

KIT = f"oci:{KITS / 'iris-onnx'}:v1"
INFER = "/v2/models/iris-onnx/infer"
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
BAD = {**ROW, "data": [5.1, 3.5, 1.4, "sesame"]}

pytestmark = pytest.mark.slow


def test_a_reason_has_what_a_client_sent_where_the_operator_asks_for_it(tmp_path: Path):
    with Server(KIT, "--drain-delay", "0", "--log-inputs", cache=tmp_path) as server, server.ready() as client:
        assert_refused_with("'sesame'", server, client)
        assert server.stop() == 0


def test_else_it_has_not_and_without_a_deadline_bodies_may_be_over_the_old_limit(tmp_path: Path):
    """17 MB of one request: 16 MiB was the most that JSON could have, whatever the option said."""
    options = ["--drain-delay", "0", "--inference-timeout", "0", "--max-body-bytes", "17500000"]
    with Server(KIT, *options, cache=tmp_path) as server, server.ready() as client:
        assert_refused_with("***", server, client)
        assert client.post(INFER, json={"inputs": [ROW]}).status_code == 200
        assert client.post(INFER, json={"inputs": [ROW], "extra": "a" * 17_000_000}).status_code == 200
        refused = client.post(INFER, json={"inputs": [ROW], "extra": "a" * 17_500_000})
        assert refused.status_code == 413
        assert refused.json()["error"] == "body too large: more than 17500000 bytes, the limit of --max-body-bytes"
        assert server.stop() == 0


def assert_refused_with(got: str, server: Server, client: httpx.Client) -> None:
    """The sender of a wrong body is told what is wrong; the log of the server says it so."""
    answer = client.post(INFER, json={"inputs": [BAD]})
    assert (answer.status_code, "'sesame'" in answer.json()["error"]) == (400, True)
    wanted = f"input 'X', element 3: FP32 wants a number or null, got {got} (wrong element type)"
    assert server.event("request.refused")["reason"] == wanted
