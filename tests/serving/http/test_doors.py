"""The two ways to `infer`, the connection's own and ASGI's, give the same bytes; so does a bare uvicorn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from tests.serving.support import BODY, INFER, Served, app_of, model, serving
from tests.serving.wire import Answer, Wire, request

REQUESTS = {
    "good": request(headers={"X-Request-Id": "r"}),
    "with an id": request(body=BODY[:-1] + b',"id":"mine"}'),
    "bad JSON": request(body=b"{"),
    "wrong shape": request(body=b'{"inputs":[{"name":"X","shape":[1],"datatype":"FP32","data":[1]}]}'),
    "wrong media": request(headers={"Content-Type": "text/csv"}),
    "closing": request(headers={"Connection": "close", "X-Request-Id": "r"}),
    "model raises": request(body=BODY.replace(b"5.1", b"666")),
}


def predict(arrays, wanted):  # type: ignore[no-untyped-def]
    from tests.serving.support import iris_like

    if arrays["X"][0, 0] == 666:
        raise ValueError("the number of the beast")
    return iris_like(arrays, wanted)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model(predict)) as running:
        yield running


def twice(port: int, data: bytes) -> tuple[Answer, Answer]:
    """The answer to `data` after the path has been asked for, and, ASGI for sure, behind a request in the same piece."""
    with Wire(port) as wire:
        wire.send(request()).answer()
        through_the_door = wire.send(data).answer()
    with Wire(port) as wire:
        wire.send(request() + data)
        wire.answer()
        return through_the_door, wire.answer()


@pytest.mark.parametrize("name", REQUESTS)
def test_both_doors_give_the_same_bytes(served: Served, name: str):
    door, asgi = twice(served.port, REQUESTS[name])
    door.headers.pop("date"), asgi.headers.pop("date")
    assert (door.status, list(door.headers.items())) == (asgi.status, list(asgi.headers.items()))
    if name == "model raises":
        assert door.error.rpartition(" ")[0] == asgi.error.rpartition(" ")[0]
    else:
        assert door.body == asgi.body


@contextmanager
def bare_uvicorn(served: Served) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(served.app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.mark.slow
def test_the_app_serves_alike_under_a_bare_uvicorn(served: Served):
    other = app_of(model(predict))
    with bare_uvicorn(other) as port, Wire(port) as bare, Wire(served.port) as ours:
        for name in ("good", "with an id", "bad JSON", "wrong shape"):
            answers = [wire.send(REQUESTS[name]).answer() for wire in (bare, ours)]
            assert answers[0].status == answers[1].status
            assert answers[0].body == answers[1].body
            assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
        assert bare.send(request("GET", "/metrics", None)).answer().status == 200
        assert bare.send(request("GET", INFER, None)).answer().status == 405
