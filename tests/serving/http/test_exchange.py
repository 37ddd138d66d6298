"""An answer's bytes, and what is kept of them."""

from __future__ import annotations

import asyncio
import socket
import threading

from runtime.link.limits import Limits
from runtime.serving.http.connection import Connection
from runtime.serving.http.exchange import _constant_lines, rendered
from runtime.serving.http.state import State
from runtime.serving.statuses import Response
from tests.serving.asking import call
from tests.serving.support import BODY, INFER, app_of, iris_like, model
from tests.serving.wire import request

DATE = b"date: now\r\n"


def test_an_answer_is_its_lines_and_its_body():
    response = Response(200, ((b"a", b"1"), (b"b", b"2")), b"body", ((b"c", b"3"),))
    head, _, body = rendered(response, DATE, keep_alive=True).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"HTTP/1.1 200 OK", b"date: now", b"a: 1", b"b: 2", b"c: 3", b"content-length: 4"]
    assert body == b"body"
    assert b"\r\nconnection: close\r\n\r\n" in rendered(response, DATE, keep_alive=False)


def test_lines_that_vary_are_not_kept_and_others_only_so_many():
    constant = ((b"content-type", b"test"),)
    rendered(Response(200, constant, b""), DATE, keep_alive=True)
    kept = _constant_lines.cache_info().currsize
    for number in range(1000):
        rendered(Response(200, constant, b"", ((b"length", b"%d" % number),)), DATE, keep_alive=True)
    assert _constant_lines.cache_info().currsize == kept
    for number in range(1000):
        rendered(Response(200, ((b"other", b"%d" % number),), b""), DATE, keep_alive=True)
    assert _constant_lines.cache_info().currsize == 256


def test_a_client_that_leaves_before_the_first_step_of_its_request_has_its_account_closed():
    leave = threading.Event()
    leave.set()

    def predict(arrays, wanted):
        assert leave.wait(30)
        return iris_like(arrays, wanted)

    served = app_of(model(predict), warm=False, limits=Limits(inline_seconds=0))
    assert call(served, "POST", INFER, content=BODY).status_code == 200  # from now on connections know the path
    leave.clear()
    state = State(served.app, served.app.served_at, served.health, served.limits, served.lines.log)

    async def ask_and_leave() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(state, set()), sock=ours
            )
            received = request()
            connection.get_buffer(-1)[: len(received)] = received
            connection.buffer_updated(len(received))
            assert served.model.engine.in_flight == 1
            connection.transport.abort()
            connection.turns.current.leave()
            (computed,) = state.pending
            await asyncio.wait([computed])

    asyncio.run(asyncio.wait_for(ask_and_leave(), 30))
    leave.set()
    served.model.engine.close()
    assert len(served.lines.events("request.abandoned")) == 1
