"""Triton's `timeout` on a request: a deadline in microseconds, on a real server."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from runtime.link.limits import Limits
from tests.serving.support import BODY, iris_like, model, serving
from tests.serving.wire import ask, request

LONG = {"inputs": [{"name": "X", "shape": [8000, 4], "datatype": "FP32", "data": [0.25] * 32_000}]}
"""Over 64 KiB: decoded in a thread, when its deadline counts already."""


@pytest.mark.parametrize("document", [json.loads(BODY), LONG], ids=["short", "decoded in a thread"])
@pytest.mark.parametrize(("operator", "microseconds"), [(30.0, 100_000), (0.1, 60_000_000), (0.0, 100_000)])
def test_the_sooner_of_it_and_the_operators_deadline_counts(
    document: dict[str, Any], operator: float, microseconds: int
) -> None:
    leave = threading.Event()

    def predict(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        assert leave.wait(30)
        return iris_like(arrays, wanted)

    body = json.dumps({**document, "parameters": {"timeout": microseconds}}).encode()
    with serving(model(predict), warm=False, limits=Limits(deadline_seconds=operator, inline_seconds=0)) as served:
        (late,) = ask(served.port, request(body=body))
        leave.set()
    assert (late.status, late.error) == (504, "deadline exceeded: no answer within 0.1 s")


@pytest.mark.parametrize("microseconds", [0, 30_000_000, 2**63 - 1])
def test_a_request_in_time_is_answered(microseconds: int) -> None:
    body = json.dumps({**json.loads(BODY), "parameters": {"timeout": microseconds}}).encode()
    with serving(model()) as served:
        (answer,) = ask(served.port, request(body=body))
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [0])
