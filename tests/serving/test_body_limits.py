"""--max-body-bytes is the one limit of bodies, whatever their form; memory for those that are on their way is another."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from typing import Any

import pytest

from adapters.base import WrongInput
from runtime.errors import Overloaded, RequestFailed
from runtime.link.limits import Limits
from runtime.serving import asgi
from runtime.serving.asgi import Bodies
from tests.serving.support import app_of, echo, model, serving
from tests.serving.wire import Wire, ask, request

PATH = "/v2/models/iris/infer"


def body_of(size: int) -> bytes:
    """A request of one string, `size` bytes in all."""
    empty = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}]}).encode()
    return empty[:-5] + b"a" * (size - len(empty)) + empty[-5:]


@pytest.mark.slow
def test_a_json_body_may_be_as_long_as_the_operator_says():
    with serving(echo("BYTES"), limits=Limits(body_bytes=100_000_000), warm=False) as served:
        (answer,) = ask(served.port, request(body=body_of(20_000_000)))
        assert answer.status == 200
        assert len(answer.json["outputs"][0]["data"][0]) > 19_999_000


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("too_long", [0, 1])
def test_the_limit_is_the_same_in_one_piece_and_in_many_announced_or_not(pieces: int, announced: bool, too_long: int):
    """Under any ASGI server: our own connection checks before."""
    most, body = 100_000, body_of(100_000 + too_long)
    step = -(-len(body) // pieces)
    parts = [body[at : at + step] for at in range(0, len(body), step)]
    messages = iter([{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-length", b"%d" % len(body))] if announced else []
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
    asyncio.run(app_of(echo("BYTES"), limits=Limits(body_bytes=most)).app(scope, receive, send))
    assert sent[0]["status"] == (413 if too_long else 200)
    if too_long:
        said = b"body too large: more than 100000 bytes, the limit of --max-body-bytes"
        assert json.loads(sent[1]["body"])["error"].encode() == said


@pytest.mark.parametrize("after", [0, 1])
def test_a_client_that_leaves_before_its_body_is_whole_gets_no_answer(after: int):
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}] * after + [{"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    served = app_of(echo("BYTES"))
    asyncio.run(served.app({"type": "http", "method": "POST", "path": PATH, "headers": []}, receive, send))
    assert served.lines.events() == []


@pytest.mark.parametrize("length", [b"x", b"-1", b"1.5", "٣".encode()])
def test_a_length_that_is_none_is_refused_under_any_server(length: bytes):
    with pytest.raises(RequestFailed, match="invalid Content-Length"):
        asyncio.run(Bodies(Limits()).read({b"content-length": length}, never, 10))


async def never() -> dict[str, Any]:
    raise AssertionError("nothing was to be read")


def test_an_absurd_length_is_too_large():
    with pytest.raises(RequestFailed, match="body too large"):
        asyncio.run(Bodies(Limits()).read({b"content-length": b"9" * 5000}, never, 10))


def test_bodies_on_their_way_share_the_memory_and_a_single_one_may_take_more():
    async def main() -> None:
        bodies, first, others = Bodies(Limits(in_flight_bytes=1000)), asyncio.Queue[Any](), asyncio.Queue[Any]()
        head = {b"content-length": b"5010"}
        whole = asyncio.ensure_future(bodies.read(head, first.get, 10_000))
        await first.put({"body": b"a" * 5000, "more_body": True, "type": "http.request"})
        while not first.empty():  # noqa: ASYNC110 - what was put is taken without an event
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await others.put({"body": b"whole", "type": "http.request"})
        assert await bodies.read({}, others.get, 10_000) == b"whole"
        await others.put({"body": b"a", "more_body": True, "type": "http.request"})
        with pytest.raises(Overloaded, match="bodies in flight hold 5000 bytes; try again"):
            await bodies.read({}, others.get, 10_000)
        await first.put({"body": b"b" * 10, "type": "http.request"})
        assert await whole == b"a" * 5000 + b"b" * 10
        await others.put({"body": b"a", "more_body": True, "type": "http.request"})
        await others.put({"body": b"b", "type": "http.request"})
        assert await bodies.read({}, others.get, 10_000) == b"ab"

    asyncio.run(main())


def test_where_memory_is_short_the_slowest_body_gives_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asgi, "_FRESH_SECONDS", 0.0)

    async def main() -> None:
        bodies, queues = Bodies(Limits(in_flight_bytes=1000)), [asyncio.Queue[Any]() for _ in range(3)]
        readers = [asyncio.ensure_future(bodies.read({}, queue.get, 10_000)) for queue in queues]
        for queue, size in zip(queues, (600, 10, 600), strict=True):
            queue.put_nowait({"body": b"a" * size, "more_body": True, "type": "http.request"})
            queue.put_nowait({"body": b"", "more_body": True, "type": "http.request"})
            while not queue.empty():  # noqa: ASYNC110 - what was put is taken without an event
                await asyncio.sleep(0)
        slow, slower, fast = await asyncio.wait_for(_settled(readers[:2], queues[2], readers[2]), 20)
        assert "this body came slowly, and others need its memory; try again" in str(slow) == str(slower)
        assert fast == b"a" * 600

    asyncio.run(main())


async def _settled(slow: list[Any], queue: asyncio.Queue[Any], fast: Any) -> list[Any]:
    queue.put_nowait({"body": b"", "type": "http.request"})
    return await asyncio.gather(*slow, fast, return_exceptions=True)


def test_a_body_that_announces_nothing_books_what_has_come_of_it():
    """Five clients at once that send in pieces are no overload, though each may send 64 MiB."""
    half = b"%x\r\n%b\r\n"
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = body_of(1000)
    with serving(echo("BYTES")) as served:
        wires = [Wire(served.port) for _ in range(5)]
        for wire in wires:
            wire.send(head + half % (500, body[:500]))
        assert ask(served.port, request(body=body))[0].status == 200
        for wire in wires:
            assert wire.send(half % (500, body[500:]) + b"0\r\n\r\n").answer().status == 200
            wire.socket.close()


def test_nothing_of_a_refused_body_stays_in_memory():
    """Without the garbage collector, which may come late: no error may hold itself by its traceback."""
    elements, body = 20_000, b'{"inputs":[' + b",".join([b"0.5"] * 20_000) + b"]}"
    with serving(model(), warm=False) as served:
        gc.collect()
        gc.disable()
        try:
            assert ask(served.port, request(body=body))[0].status == 400
            assert not [each for each in gc.get_objects() if type(each) is list and len(each) == elements]
        finally:
            gc.enable()


@pytest.mark.parametrize("deadline", [30.0, 0.2])
@pytest.mark.parametrize("error", [WrongInput, RuntimeError])
def test_nothing_of_what_a_model_fails_on_stays_in_memory(error: type[Exception], deadline: float):
    seen, ended, release = list[weakref.ref[Any]](), threading.Event(), threading.Event()

    def fails(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        seen.append(weakref.ref(arrays["X"], lambda _: ended.set()))
        assert deadline > 1 or release.wait(30)
        try:
            int("x")
        except ValueError as cause:
            raise error("no") from cause

    with serving(model(fails), warm=False, limits=Limits(inline_seconds=0, deadline_seconds=deadline)) as served:
        gc.collect()
        gc.disable()
        try:
            (answer,) = ask(served.port, request())
            assert answer.status == (504 if deadline < 1 else 400 if error is WrongInput else 500)
            release.set()
            assert ended.wait(10)
        finally:
            gc.enable()
    assert len(seen) == 1
