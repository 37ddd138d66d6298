"""Long bodies, which a connection receives without parser and ASGI: the same answers however they come."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from runtime.link.limits import Limits
from runtime.serving import asgi
from runtime.serving.http.connection import Connection
from runtime.serving.http.head import LONGEST_SHORT
from tests.serving.support import PATIENCE_SECONDS, Served, echo, serving
from tests.serving.wire import Answer, Wire, request

COUNT = 40_000
VALUES = np.arange(COUNT, dtype=np.float32)


def asked(*, binary: bool, more: int = 0, **headers: str) -> bytes:
    """A request of 160 KB or more; `more` moves its numbers, so that answers differ."""
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [COUNT]}
    if not binary:
        return request(
            body=json.dumps({"inputs": [{**tensor, "data": (VALUES + more).tolist()}]}).encode(), headers=headers
        )
    tensor["parameters"] = {"binary_data_size": 4 * COUNT}
    head = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return request(body=head + (VALUES + more).tobytes(), headers=headers | length)


SHORT = request(body=b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[7]}]}')


def first(answer: Answer) -> float:
    assert answer.status == 200, answer.body
    data = answer.json["outputs"][0]["data"]
    assert len(data) == COUNT
    return float(data[0])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(echo("FP32"), limits=Limits(in_flight_bytes=2_000_000)) as running, Wire(running.port) as wire:
        assert wire.send(SHORT).answer().status == 200  # the application has to know a path before a connection does
        yield running


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the connections have received by themselves, piece by piece."""
    pieces: list[int] = []
    took = Connection._received_long

    def took_more(connection: Connection, size: int) -> None:
        pieces.append(size)
        took(connection, size)

    monkeypatch.setattr(Connection, "_received_long", took_more)
    return pieces


def eventually(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not holds() and time.monotonic() < ends:
        time.sleep(0.001)
    return holds()


def in_pieces(wire: Wire, data: bytes, *cuts: int) -> Wire:
    """Sends pieces, each once the server has read the one before it."""
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start, end in pairwise((0, *cuts, len(data))):
        wire.send(data[start:end])
        time.sleep(0.005)
    return wire


@pytest.mark.parametrize("binary", [True, False])
def test_a_body_may_come_in_any_pieces_and_again(served: Served, received: list[int], *, binary: bool) -> None:
    head = asked(binary=binary).index(b"\r\n\r\n") + 4
    with Wire(served.port) as wire:
        for more, cuts in enumerate(
            [(), (head,), (10,), (head + 1, head + 9), (head + 70_000,), (-1,), (head - 2, -2, -1)]
        ):
            data = asked(binary=binary, more=more)
            cuts = tuple(cut % len(data) for cut in cuts)
            assert first(in_pieces(wire, data, *cuts).answer()) == more
        assert wire.send(request(method="GET", path="/v2/health/live", body=None)).answer().status == 200
    assert received


def test_requests_of_all_sizes_take_turns_on_a_connection(served: Served) -> None:
    with Wire(served.port) as wire:
        for more in range(3):
            assert first(wire.send(asked(binary=True, more=more)).answer()) == more
            assert wire.send(SHORT).answer().json["outputs"][0]["data"] == [7]
            assert first(wire.send(asked(binary=False, more=more)).answer()) == more
            wire.send(asked(binary=True, more=more) + SHORT)  # pipelined
            assert first(wire.answer()) == more
            assert wire.answer().json["outputs"][0]["data"] == [7]


def test_a_connection_that_is_to_be_closed_is(served: Served) -> None:
    with Wire(served.port) as wire:
        assert first(in_pieces(wire, asked(binary=True, Connection="close"), 500).answer()) == 0
        assert wire.closed()


def test_a_client_that_leaves_gives_its_memory_back(served: Served) -> None:
    first_long, bodies = asked(binary=True), served.app.bodies
    with Wire(served.port) as wire:
        assert first(wire.send(first_long).answer()) == 0
        in_pieces(wire, first_long[:-1], 1000)
        assert eventually(lambda: bodies._in_flight > 0)
    assert eventually(lambda: bodies._in_flight == 0)


def test_one_body_too_many_is_refused_and_the_others_are_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "_FRESH_SECONDS", 60.0)  # none of them is slow
    data = asked(binary=True)
    most = 2_000_000 // len(data)
    wires = [Wire(served.port) for _ in range(most + 1)]
    for wire in wires[:-1]:
        wire.send(data[:-1])
    assert eventually(lambda: served.app.bodies._in_flight > most * (len(data) - 1000))
    refused = wires[-1].send(data).answer()
    assert (refused.status, "bodies in flight hold" in refused.error) == (503, True)
    for wire in wires[:-1]:
        assert first(wire.send(data[-1:]).answer()) == 0
    for wire in wires:
        wire.socket.close()
    assert eventually(lambda: served.app.bodies._in_flight == 0)


@pytest.mark.slow
def test_a_body_that_stops_is_a_time_out_and_gives_its_memory_back() -> None:
    with serving(echo("FP32"), limits=Limits(body_seconds=0)) as served, Wire(served.port) as wire:
        assert wire.send(SHORT).answer().status == 200  # from now on the path is known
        answer = in_pieces(wire, asked(binary=True)[:-1], 1000).answer()
        assert (answer.status, "the request body came too slowly" in answer.error) == (408, True)
        assert served.app.bodies._in_flight == 0
        wire.send(b"x")  # what still comes is thrown away


@pytest.mark.parametrize("headers", [{"Content-Type": "text/csv"}, {"Content-Encoding": "br"}], ids=str)
def test_what_has_to_be_refused_is_refused_by_the_application(served: Served, headers: dict[str, str]) -> None:
    with Wire(served.port) as wire:
        assert first(wire.send(asked(binary=False)).answer()) == 0
        assert wire.send(asked(binary=False, **headers)).answer().status == 415


def test_a_long_body_behind_an_unanswered_request_waits_for_it(served: Served) -> None:
    with Wire(served.port) as wire:
        wire.send(asked(binary=True, more=1) + asked(binary=True, more=2))
        assert [first(wire.answer()), first(wire.answer())] == [1, 2]


def test_what_is_short_is_collected_as_it_comes(served: Served, received: list[int]) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[7]}]}'
    body += b" " * (LONGEST_SHORT - len(body))
    with Wire(served.port) as wire:
        for _ in range(2):
            assert in_pieces(wire, request(body=body), 500).answer().status == 200
    assert not received
