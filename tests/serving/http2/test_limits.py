"""What a client cannot do to a server: floods, slowness, silence, and connections without end; and how a server ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from runtime.link.limits import Limits
from runtime.serving.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    LARGEST,
    NO_ERROR,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    numbered,
    settings,
)
from tests.serving.grpc.client import infer_request, serving
from tests.serving.http2.raw import Raw, frame, message
from tests.serving.http2.test_connection import ASK, WATCH, is_right, pieces
from tests.serving.support import Served, iris_like, model

LIMITS = Limits(inline_seconds=1.0, body_bytes=8 * 2**20, in_flight_bytes=8 * 2**20, connections=3)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(model(), limits=LIMITS) as (served, _):
        yield served


def on_loop(served: Served, work: Callable[[], object]) -> object:
    """What `work` returns on the server's loop."""

    async def run() -> object:
        return work()

    assert served.loop is not None
    return asyncio.run_coroutine_threadsafe(run(), served.loop).result(30)


def pass_seconds(served: Served, seconds: float) -> None:
    """Lets the server's clock show a later time, and the server look at its connections."""

    def later() -> None:
        served.server._state.tick += int(seconds) + 1
        served.server._sweep_once()

    on_loop(served, later)


def block(client: Raw, path: str = WATCH) -> bytes:
    return client.block(path=path)


def opened(stream: int, client: Raw) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block(client))


FLOODS = {
    "PING": lambda _: frame(PING, 0, 0, bytes(8)),
    "SETTINGS": lambda _: settings(),
    "SETTINGS of many": lambda _: settings(*[(9, 9)] * 1000),
    "PRIORITY": lambda _: frame(PRIORITY, 0, 1, bytes(5)),
    "of an extension": lambda _: frame(0x77, 0, 0, b""),
    "WINDOW_UPDATE": lambda _: numbered(WINDOW_UPDATE, 0, 1),
    "empty DATA": lambda client: (opened(client.next(), client) if client._stream < 0 else b"") + frame(DATA, 0, 1),
    "rapid reset": lambda client: opened(client.next(), client) + numbered(RST_STREAM, client._stream, 8),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_without_end_that_carry_nothing_end_the_connection(served, name):
    with Raw(served.port) as client:
        sent = [FLOODS[name](client) for _ in range(100 if name == "SETTINGS of many" else 3000)]
        sender = threading.Thread(target=lambda: suppressed(lambda: client.send(*sent)))
        sender.start()
        assert client.until(GOAWAY).code == ENHANCE_YOUR_CALM
        assert len(client.ended()) == 0
        sender.join()
    assert on_loop(served, lambda: served.server._state.bodies._in_flight) == 0
    with Raw(served.port) as other:
        assert is_right(other.answer(other.request(ASK)))


def suppressed(send: Callable[[], object]) -> None:
    try:
        send()
    except OSError:
        return


@pytest.mark.slow
def test_a_busy_client_may_send_as_many_as_it_gets_answers_for(served):
    with Raw(served.port) as client:
        for _ in range(600):
            client.send(*[frame(PING, 0, 0, bytes(8)), numbered(WINDOW_UPDATE, 0, 500)] * 2)
            assert is_right(client.answer(client.request(ASK)))


@pytest.mark.slow
def test_the_messages_of_a_stream_count_as_answers(served):
    """grpcio opens windows for each message that it reads."""
    once = message(ASK)
    with Raw(served.port) as client:
        stream = client.request(None, path="/inference.GRPCInferenceService/ModelStreamInfer")
        for _ in range(110):
            windows = numbered(WINDOW_UPDATE, 0, 500) + numbered(WINDOW_UPDATE, stream, 500)
            client.send(*[frame(DATA, 0, stream, once)] * 10, *[windows] * 19)
            for _ in range(10):
                client.until(DATA, stream)


@pytest.mark.parametrize("empty", [True, False])
def test_a_header_block_without_end_ends_the_connection(served, empty):
    with Raw(served.port) as client:
        sent = [frame(HEADERS, 0, 1, b"\x83"), *[frame(CONTINUATION, 0, 1, b"" if empty else bytes(9000))] * 3000]
        sender = threading.Thread(target=lambda: suppressed(lambda: client.send(*sent)))
        sender.start()
        assert client.until(GOAWAY).code == ENHANCE_YOUR_CALM
        client.ended()
        sender.join()


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_not_read_and_in_the_end_dropped(served):
    rows = np.zeros((40_000, 4), np.float32)
    ask = message(infer_request(data=rows).SerializeToString())
    with Raw(served.port, (INITIAL_WINDOW, LARGEST), buffer=4096) as client:
        client.send(numbered(WINDOW_UPDATE, 0, 2**30))
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):  # answers that nobody reads: at last nothing is read any more
            call_without_end(client, ask)
        assert on_loop(served, lambda: len(served.server.connections)) == 1
        pass_seconds(served, LIMITS.unread_seconds)
        pass_seconds(served, LIMITS.unread_seconds)
        until(served, lambda: not any(connection.streams for connection in served.server.connections))


def call_without_end(client: Raw, ask: bytes) -> None:
    for _ in range(1000):
        stream = client.next()
        client.send(frame(HEADERS, END_HEADERS, stream, client.block()), *pieces(stream, ask))


def until(served: Served, holds: Callable[[], bool]) -> None:
    """Waits until something holds on the server's loop, which has no event for it."""
    for _ in range(2000):
        if on_loop(served, holds):
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never held")


def test_an_answer_for_which_no_window_opens_is_broken_off_and_others_go_on(served):
    with Raw(served.port, (INITIAL_WINDOW, 0)) as client:
        stalled = client.request(ASK)
        client.until(HEADERS, stalled)
        on_loop(served, lambda: None)
        pass_seconds(served, LIMITS.unread_seconds)
        assert client.until(RST_STREAM, stalled).code == 8
        client.send(settings((INITIAL_WINDOW, 65_535)))
        assert is_right(client.answer(client.request(ASK)))


def test_a_greeting_that_does_not_end_is_not_waited_for(served):
    with Raw(served.port, greets=False) as client:
        client.send(PREFACE[:10])
        until(served, lambda: any(connection._rest for connection in served.server.connections))
        pass_seconds(served, LIMITS.head_seconds)
        assert client.ended() == []


def test_headers_that_do_not_end_are_not_waited_for(served):
    with Raw(served.port) as client:
        client.send(frame(HEADERS, 0, 1, b"\x83"))
        until(served, lambda: any(connection._block for connection in served.server.connections))
        pass_seconds(served, LIMITS.head_seconds)
        client.send(frame(CONTINUATION, 0, 1, b"\x86"))
        assert client.until(GOAWAY).code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "path", ["/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"]
)
def test_a_message_that_comes_too_slowly_is_refused(served, path):
    with Raw(served.port) as client:
        stream = client.next()
        client.send(frame(HEADERS, END_HEADERS, stream, block(client, path)), frame(DATA, 0, stream, message(ASK)[:50]))
        until(served, lambda: served.server._state.bodies._in_flight == 50)
        pass_seconds(served, 7)
        assert client.answer(stream)[0]["grpc-status"] == "4"
        assert served.server._state.bodies._in_flight == 0


def test_an_idle_connection_is_told_to_go_and_ended(served):
    with Raw(served.port) as client:
        assert is_right(client.answer(client.request(ASK)))
        pass_seconds(served, LIMITS.keep_alive_seconds)
        leave_taking(client, last=1)


def leave_taking(client: Raw, last: int) -> None:
    """What RFC 9113, 6.8 wants: first nothing new, then which was the last stream, then the end."""
    first = client.until(GOAWAY)
    assert (int.from_bytes(first.payload[:4]), first.code) == (LARGEST, NO_ERROR)
    client.send(frame(PING, 1, 0, client.until(PING).payload), frame(PING, 0, 0, bytes(8)), frame(0x77, 0, 0, b""))
    second = client.until(GOAWAY)
    assert (int.from_bytes(second.payload[:4]), second.code) == (last, NO_ERROR)
    assert client.ended() == []


def test_a_connection_too_many_takes_the_place_of_an_idle_one_or_is_told(served):
    with Raw(served.port) as idle, Raw(served.port) as busy, Raw(served.port) as one_more:
        assert is_right(idle.answer(idle.request(ASK)))
        watched = busy.request(b"", path=WATCH)
        busy.until(DATA, watched)
        one_more.request(b"", path=WATCH)
        one_more.until(DATA)
        with Raw(served.port) as another:
            another.until(SETTINGS)
        leave_taking(idle, last=1)


def test_connections_beyond_the_limit_are_told_so_and_beyond_that_dropped(served):
    with ExitStack() as stack:
        for _ in range(LIMITS.connections):
            busy = stack.enter_context(Raw(served.port))
            busy.until(DATA, busy.request(b"", path=WATCH))
        told = [stack.enter_context(Raw(served.port, greets=False)) for _ in range(16)]
        until(served, lambda: len(served.server.connections) == LIMITS.connections + 16)
        with Raw(served.port, greets=False) as dropped:
            assert dropped.ended() == []
        for one in told:
            one.send(PREFACE, settings())
            last = one.until(GOAWAY)
            assert (last.code, b"too many connections" in last.payload) == (ENHANCE_YOUR_CALM, True)
            assert one.ended() == []
    pass_seconds(served, 0)
    assert served.lines.events("connections.dropped")


@contextmanager
def slow() -> Iterator[tuple[Served, threading.Event, threading.Event]]:
    """A server whose model waits until it is let go."""
    entered, leave = threading.Event(), threading.Event()

    def predict(arrays, wanted):
        entered.set()
        assert leave.wait(30)
        return iris_like(arrays, wanted)

    with serving(model(predict), warm=False, limits=Limits(inline_seconds=0)) as (served, _):
        yield served, entered, leave


def test_a_drain_answers_what_was_begun_even_after_the_first_goaway():
    with slow() as (served, entered, leave), Raw(served.port) as client:
        stream = client.request(ASK)
        assert entered.wait(10)
        drained = asyncio.run_coroutine_threadsafe(served.server.drain(20), served.loop)
        first = client.until(GOAWAY)
        assert int.from_bytes(first.payload[:4]) == LARGEST
        late = client.request(ASK)  # it was on its way
        client.send(frame(PING, 1, 0, client.until(PING).payload))
        assert int.from_bytes(client.until(GOAWAY).payload[:4]) == late
        client.request(ASK)  # nobody takes this one, and no client would send it
        leave.set()
        answers = {}
        for found in client.frames():
            if found.kind == HEADERS and found.flags & 1:
                answers[found.stream] = dict(client.decoder.decode(found.payload))["grpc-status"]
            elif found.kind == HEADERS:
                client.decoder.decode(found.payload)
        assert answers == {stream: "0", late: "0"}
        client.socket.close()
        drained.result(20)


def test_a_drain_answers_what_a_stream_has_sent_and_then_ends_it():
    with slow() as (served, entered, leave), Raw(served.port) as client:
        stream = client.next()
        block = client.block(path="/inference.GRPCInferenceService/ModelStreamInfer")
        client.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, 0, stream, message(ASK)))
        assert entered.wait(10)
        drained = asyncio.run_coroutine_threadsafe(served.server.drain(60), served.loop)
        client.until(GOAWAY)
        pass_seconds(served, 1)
        leave.set()
        client.until(DATA, stream)
        pass_seconds(served, 1)
        ends = client.until(HEADERS, stream)
        assert dict(client.decoder.decode(ends.payload))["grpc-status"] == "14"
        client.socket.close()
        drained.result(20)


@pytest.mark.slow
def test_a_drain_does_not_wait_for_a_client_that_answers_nothing(served):
    with Raw(served.port) as dead, Raw(served.port, greets=False):
        assert is_right(dead.answer(dead.request(ASK)))
        asyncio.run_coroutine_threadsafe(served.server.drain(10), served.loop).result(8)


def test_a_client_that_goes_amid_its_message_or_its_call_leaves_nothing_behind():
    with slow() as (served, entered, leave):
        with Raw(served.port) as client:
            client.request(ASK)
            assert entered.wait(10)
            stream = client.next()
            client.send(frame(HEADERS, END_HEADERS, stream, client.block()), frame(DATA, 0, stream, message(ASK)[:40]))
            until(served, lambda: served.server._state.bodies._in_flight == 40)
        until(served, lambda: served.server._state.bodies._in_flight == 0)
        leave.set()
        until(served, lambda: served.model.engine.in_flight == 0)
    assert len(served.lines.events("request.abandoned")) == 1


def test_messages_that_are_too_much_together_are_refused(served):
    most = LIMITS.in_flight_bytes
    with Raw(served.port) as client:
        half = pieces(1, b"\0" + (6 * 2**20).to_bytes(4, "big") + bytes(5 * 2**20))[:-1]
        first, second = client.next(), client.next()
        client.send(frame(HEADERS, END_HEADERS, first, client.block()))
        sender = threading.Thread(target=client.send, args=half)
        sender.start()
        until(served, lambda: served.server._state.bodies._in_flight > most // 2)
        sender.join()
        client.send(frame(HEADERS, END_HEADERS, second, client.block()))
        other = [frame(DATA, 0, second, b"\0" + (6 * 2**20).to_bytes(4, "big"))]
        other += [frame(DATA, 0, second, bytes(16_000))] * 230
        sender = threading.Thread(target=client.send, args=other)
        sender.start()
        fields = client.answer(second)[0]
        sender.join()
        assert fields["grpc-status"] == "8"
        assert "overloaded" in fields["grpc-message"]


def test_a_stream_past_its_deadline_says_nothing_more():
    with slow() as (served, entered, leave), Raw(served.port) as client:
        stream = client.next()
        block = client.block(("grpc-timeout", "100m"), path="/inference.GRPCInferenceService/ModelStreamInfer")
        client.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, 0, stream, message(ASK) * 2))
        assert client.answer(stream)[0]["grpc-status"] == "4"
        assert entered.wait(10)
        leave.set()
        until(served, lambda: served.model.engine.in_flight == 0)
        client.send(frame(PING, 0, 0, bytes(8)))
        behind = []
        for found in client.frames():
            if found.kind == PING:
                break
            behind.append(found.kind)
        assert behind == [RST_STREAM]
        assert served.server._state.bodies._in_flight == 0
