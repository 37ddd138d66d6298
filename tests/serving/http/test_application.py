"""What an application may send: any application, not only ours."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop

from runtime.link.limits import Limits
from runtime.serving.http.server import Server
from runtime.supervisor.sockets import listen
from tests.serving.support import Lines, StaticHealth
from tests.serving.wire import Wire

SECRET = "s3cr3t"


ANSWERS = {
    "/stream": (200, [(b"content-type", b"text/plain")], [b"one", b"", b"two"]),
    "/204": (204, [], [b""]),
    "/304": (304, [], [b""]),
    "/299": (299, [], [b""]),
    "/split": (200, [(b"x-shown", b"a\r\nset-cookie: b")], [b"never"]),
    "/half": (200, [(b"content-length", b"10")], [b"half", ValueError(SECRET)]),
    "/long": (200, [(b"content-length", b"1")], [b"too long"]),
    "/short": (200, [(b"content-length", b"9")], [b"short"]),
}


async def application(scope, receive, send):
    """Sends what the path says."""
    path = scope["path"]
    if path == "/raises":
        raise ValueError(SECRET)
    if path == "/silent":
        return
    shown = repr([scope["server"], scope["client"], scope["http_version"], scope["root_path"]]).encode()
    status, headers, pieces = ANSWERS.get(path, (200, [(b"content-length", b"%d" % len(shown))], [shown]))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for number, piece in enumerate(pieces, 1):
        if isinstance(piece, ValueError):
            raise piece
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, Lines]]:
    lines, listener, stop = Lines(), listen(host, 0), asyncio.Event()
    server = Server(application, [listener], health=StaticHealth(), limits=Limits(), log=lines.log)
    loops: list[asyncio.AbstractEventLoop] = []
    ready = threading.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await server.start()
        await server.accept()
        ready.set()
        await stop.wait()
        await server.drain(0.0)

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield listener, lines
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
        lines.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served() as (listener, _):
        yield listener.getsockname()[1]


def raw(port: int, path: str, method: str = "GET", version: str = "1.1") -> bytes:
    """All that comes until the server ends the connection."""
    with Wire(port) as wire:
        wire.send(f"{method} {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: wire.socket.recv(65_536), b""))


def test_a_body_of_unknown_length_is_chunked(port):
    head, _, body = raw(port, "/stream").partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_a_1_0_client_gets_it_as_it_is_until_the_end(port):
    head, _, body = raw(port, "/stream", version="1.0").partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"onetwo"


@pytest.mark.parametrize("path", ["/204", "/304"])
def test_an_answer_that_has_no_body_has_no_framing_of_one(port, path):
    head, _, body = raw(port, path).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + path[1:].encode())
    assert b"transfer-encoding" not in head
    assert body == b""


def test_a_status_without_a_name_is_a_status(port):
    assert raw(port, "/299").startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("path", ["/scope", "/stream", "/raises"])
def test_head_gets_no_body(port, path):
    assert raw(port, path, "HEAD").endswith(b"\r\n\r\n")


def test_a_line_end_in_a_header_splits_no_answer(port):
    answer = raw(port, "/split")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer


@pytest.mark.parametrize("path", ["/raises", "/silent", "/long", "/short"])
def test_an_application_that_fails_is_a_500_or_the_end(port, path):
    answer = raw(port, path)
    if path in ("/raises", "/silent"):
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.endswith(b'{"error":"the runtime failed; its log says why"}')
    else:
        assert answer == b""


def test_an_answer_that_breaks_off_is_seen_to(port):
    with Wire(port) as wire:
        wire.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((EOFError, ConnectionResetError)):
            wire.answer()


def test_a_failure_is_logged_without_the_values_that_may_be_in_it():
    with served() as (listener, lines):
        raw(listener.getsockname()[1], "/raises")
        (event,) = lines.events("request.failed")
    assert event["cause"].startswith("ValueError in application (")
    assert SECRET not in repr(lines.events())


def test_the_scope_has_both_addresses(port):
    with Wire(port) as wire:
        ours = wire.socket.getsockname()
        answer = wire.send(b"GET /scope HTTP/1.1\r\nHost: a\r\n\r\n").answer()
    assert answer.body.decode() == repr([("127.0.0.1", port), ours, "1.1", ""])


def test_at_a_unix_socket_the_client_has_no_address(tmp_path):
    path = tmp_path / "s"
    with served(f"unix:{path}"), Wire(str(path)) as wire:
        answer = wire.send(b"GET /scope HTTP/1.1\r\nHost: a\r\n\r\n").answer()
    assert answer.body.decode() == repr([(str(path), None), None, "1.1", ""])
