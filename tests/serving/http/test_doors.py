"""The two ways to `infer`, the connection's own and ASGI's, give the same bytes; so does a bare uvicorn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from runtime.link.limits import Limits
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.statuses import Response
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


def unable(*_: Any) -> Any:
    raise LookupError("no words")


@pytest.mark.parametrize("inline_bytes", [65_536, 0], ids=["on the loop", "in a thread"])
def test_a_codec_that_cannot_refuse_is_a_500_at_both_doors(inline_bytes: int):
    broken, limits = V2_JSON._replace(decode=unable, refuse=unable), Limits(inline_body_bytes=inline_bytes)
    with serving(model(), codecs=(broken,), limits=limits, warm=False) as served:
        door, asgi = twice(served.port, REQUESTS["good"])
        assert [door.status, asgi.status] == [500, 500]
        assert door.error == asgi.error == "the runtime failed; its log says why"
        assert 'runtime_requests_in_flight{model="iris"} 0.0' in served.scrape()
        with Wire(served.port) as wire:  # the connection goes on, also where its head is known
            assert [wire.send(request()).answer().status for _ in range(3)] == [500, 500, 500]
    assert [event["cause"].split()[0] for event in served.lines.events("request.failed")] == ["LookupError"] * 7


@pytest.mark.parametrize("where", ["variable", "headers"])
@pytest.mark.parametrize("end", [r"\r\n", r"\n", r"\u0000"], ids=["CR LF", "LF", "NUL"])
def test_a_codec_cannot_put_a_clients_line_end_into_a_header(where: str, end: str):
    def encode(served: Any, request: Any, outputs: Any) -> Response:
        answer = V2_JSON.encode(served, request, outputs)
        return answer._replace(**{where: (*getattr(answer, where), (b"x-id", request.id.encode()))})

    evil = request(body=BODY[:-1] + b',"id":"a%sset-cookie: evil=1"}' % end.encode())
    with serving(model(), codecs=(V2_JSON._replace(encode=encode),)) as served:
        for answer in twice(served.port, evil):
            assert (answer.status, answer.headers.get("set-cookie")) == (500, None)


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
