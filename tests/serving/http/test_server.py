"""Stopping: nothing that was accepted is lost, nothing keeps the server from ending."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from runtime.link.limits import Limits
from tests.campaign import Campaign
from tests.serving.support import BODY, Served, iris_like, model, serving
from tests.serving.wire import Wire, request


class Hammer:
    """Keep-alive clients that ask without pause, open a new connection when told to close, and note what is lost."""

    def __init__(self, port: int, clients: int) -> None:
        self.port, self.answered, self.lost = port, 0, []  # type: ignore[var-annotated]
        self.refused = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        number = 0
        while True:
            try:
                wire = Wire(self.port)
            except OSError:  # nobody listens any more: nothing was accepted, so nothing can be lost
                self.refused += 1
                return
            with wire:
                number = self._talk(wire, client, number)
            if number < 0:
                return

    def _talk(self, wire: Wire, client: int, number: int) -> int:
        while True:
            number += 1
            try:
                answer = wire.send(request(body=BODY[:-1] + b',"id":"%d-%d"}' % (client, number))).answer()
            except (OSError, EOFError) as error:
                with self._lock:
                    self.lost.append(repr(error))
                return -1
            assert answer.status == 200
            assert answer.json["id"] == f"{client}-{number}"
            with self._lock:
                self.answered += 1
            if answer.headers.get("connection") == "close":
                return number


def drain_after(served: Served, answers: int, hammer: Hammer, delay: float) -> None:
    while hammer.answered < answers:
        time.sleep(0.001)
    served.health.draining = True
    time.sleep(delay)
    served.drain(5.0)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1], ids=["at once", "after a delay"])
@pytest.mark.parametrize("inline", [True, False], ids=["loop", "threads"])
def test_under_load_a_stop_loses_no_request(delay: float, inline: bool, campaign: Campaign):
    for _ in range(campaign(1, 10, 100)):
        with serving(model(), limits=Limits(inline_seconds=1.0 if inline else 0.0)) as served:
            hammer = Hammer(served.port, 16)
            drain_after(served, 500, hammer, delay)
            hammer.join()
        assert hammer.lost == []
        assert hammer.refused == 16


@pytest.mark.slow
def test_connections_that_wait_in_the_backlog_are_answered_and_later_ones_turned_away():
    with serving(model()) as served:
        wires = [Wire(served.port) for _ in range(50)]
        for wire in wires:
            wire.send(request())
        served.drain(5.0)
        for wire in wires:
            assert wire.answer().status == 200
            wire.socket.close()
        with pytest.raises(ConnectionRefusedError):
            Wire(served.port)


def test_a_request_under_way_is_finished_before_the_end():
    entered, gate = threading.Event(), threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        entered.set()
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    with serving(model(held), warm=False) as served, Wire(served.port) as wire:
        wire.send(request())
        assert entered.wait(10)
        stopping = served.begin_drain(10.0)
        gate.set()
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        stopping.result(10)


def test_a_half_sent_body_is_finished_if_it_comes_in_time():
    with serving(model()) as served, Wire(served.port) as wire:
        wire.send(request()[:-10])
        stopping = served.begin_drain(10.0)
        wire.send(request()[-10:])
        assert wire.answer().status == 200
        stopping.result(10)


@pytest.mark.slow
def test_what_is_not_finished_at_the_deadline_is_broken_off():
    gate = threading.Event()

    def stuck(arrays: Any, wanted: Any) -> Any:
        gate.wait(20)
        return iris_like(arrays, wanted)

    with serving(model(stuck), warm=False) as served, Wire(served.port) as body, Wire(served.port) as call:
        body.send(request()[:-10])
        call.send(request())
        started = time.monotonic()
        served.drain(1.0)
        assert 0.5 < time.monotonic() - started < 15.0  # seconds: the gate would open after 20
        assert body.closed()
        assert call.closed()
        gate.set()


def test_while_draining_every_answer_closes_its_connection():
    with serving(model()) as served, Wire(served.port) as wire:
        assert "connection" not in wire.send(request()).answer().headers
        served.health.draining = True
        assert wire.send(request()).answer().headers["connection"] == "close"
        assert wire.closed()
        for path in ("/v2", "/v2/health/live", "/nothing"):
            with Wire(served.port) as other:
                assert other.send(request("GET", path, None)).answer().headers["connection"] == "close"


@pytest.mark.slow
def test_idle_connections_do_not_keep_the_server_from_ending():
    with serving(model()) as served:
        idle = [Wire(served.port) for _ in range(5)]
        for wire in idle[:3]:
            assert wire.send(request()).answer().status == 200
        started = time.monotonic()
        served.drain(30.0)
        assert time.monotonic() - started < 15.0
        for wire in idle:
            assert wire.closed()
            wire.socket.close()


@pytest.mark.slow
def test_refused_connections_do_not_keep_the_server_from_ending():
    with serving(model()) as served, Wire(served.port) as wire:
        assert wire.send(b"BREW / HTTP/1.1\r\n\r\n").answer().status == 400
        started = time.monotonic()
        served.drain(30.0)
        assert time.monotonic() - started < 15.0
        assert wire.closed()


@pytest.mark.parametrize("sent", [1, 40, -len(BODY), -10, -1], ids=["line", "head", "no body", "body", "last byte"])
def test_whatever_part_of_a_request_has_come_it_is_finished_and_closed(sent: int):
    with serving(model()) as served, Wire(served.port) as wire:
        assert wire.send(request()).answer().status == 200
        wire.send(request()[:sent])
        with Wire(served.port) as other:
            assert other.send(request()).answer().status == 200  # the server has had time to see it
        stopping = served.begin_drain(10.0)
        while served.server._listeners:  # type: ignore[union-attr]  # until they are closed: the drain is under way
            time.sleep(0.001)
        wire.send(request()[sent:])
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        stopping.result(10)


@pytest.mark.slow
def test_a_head_that_began_in_the_piece_of_data_before_is_finished():
    """It came behind a whole request: nothing of it came on its own, and yet it has begun."""
    with serving(model()) as served, Wire(served.port) as wire:
        assert wire.send(request()).answer().status == 200
        assert wire.send(request() + request()[:40]).answer().status == 200
        stopping = served.begin_drain(10.0)
        assert served.server is not None
        while served.server._listeners:  # until they are closed: the drain is under way
            time.sleep(0.001)
        time.sleep(0.4)  # longer than an idle connection is kept
        assert wire.send(request()[40:]).answer().status == 200
        stopping.result(10)


def test_several_sockets_are_served():
    with serving(model()) as served:
        assert served.server is not None
        assert served.loop is not None
        second = socket.create_server(("127.0.0.1", 0))
        first, served.server._sockets = served.server._sockets, [second]
        asyncio.run_coroutine_threadsafe(served.server.accept(), served.loop).result(5)
        served.server._sockets += first
        with Wire(second.getsockname()[1]) as wire:
            assert wire.send(request()).answer().status == 200
