"""What a connection gets while others pipeline, or send long bodies: its turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from runtime.link.limits import Limits
from tests.serving.support import INFER, PATIENCE_SECONDS, Served, echo, serving
from tests.serving.wire import Wire, request


class Held:
    """Its first prediction holds the event loop while it is not open; `order` has the first number of each request."""

    def __init__(self) -> None:
        self.order: list[float] = []
        self.begun, self.open = threading.Event(), threading.Event()
        self.open.set()

    def predict(self, arrays: Any, wanted: Any) -> Any:
        self.order.append(float(arrays["x"][0]))
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        return {"y": arrays["x"][:1]}


@pytest.fixture
def held() -> Iterator[tuple[Held, Served]]:
    held = Held()
    limits = Limits(inline_seconds=PATIENCE_SECONDS, deadline_seconds=0)
    with serving(replace(echo("FP32"), predict=held.predict), limits=limits) as served:
        for size in range(64):
            served.model.engine._costs.seed(size, 0.0)
        held.order.clear()
        held.begun.clear()
        held.open.clear()
        yield held, served


def asked(number: float, *, more: int = 0) -> bytes:
    """A request whose first number is this one, with `more` behind it, in binary."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1 + more], "parameters": {"binary_data_size": 4 + 4 * more}}
    head = orjson.dumps({"inputs": [tensor]})
    body = head + np.float32(number).tobytes() + bytes(4 * more)
    return request(path=INFER, body=body, headers={"Inference-Header-Content-Length": str(len(head))})


def test_one_that_pipelines_waits_for_others_between_its_requests(held: tuple[Held, Served]) -> None:
    model, served = held
    with Wire(served.port) as greedy, Wire(served.port) as honest:
        greedy.send(b"".join(map(asked, range(200))))
        assert model.begun.wait(PATIENCE_SECONDS)
        honest.send(asked(-1))
        model.open.set()
        assert honest.answer().status == 200
        assert [greedy.answer().status for _ in range(200)] == [200] * 200
    assert model.order.index(-1) < 5
    assert [number for number in model.order if number >= 0] == list(range(200))


def test_a_long_body_is_read_beside_the_requests_of_others(held: tuple[Held, Served]) -> None:
    model, served = held
    with Wire(served.port) as first, Wire(served.port) as greedy, Wire(served.port) as honest:
        first.send(asked(0))
        assert model.begun.wait(PATIENCE_SECONDS)
        sending = threading.Thread(target=greedy.send, args=(asked(1, more=2_000_000),))
        sending.start()
        honest.send(asked(2))
        model.open.set()
        assert [wire.answer().status for wire in (first, honest, greedy)] == [200] * 3
        sending.join()
    assert model.order == [0, 2, 1]
