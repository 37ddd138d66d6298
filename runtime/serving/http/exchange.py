"""One request and its answer on a connection: the ASGI side of `http.Connection`."""

from __future__ import annotations

import http
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from runtime.serving.statuses import error_body

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp, Message, Scope

    from runtime.serving.engine.predictor import Predictor
    from runtime.serving.http.connection import Connection
    from runtime.serving.http.framing import Headers
    from runtime.serving.provenance import Header
    from runtime.serving.statuses import Response

# One entry for each set of headers that answers have: a closed set, since no client text is in them.
_lines: Final[dict[tuple[Header, ...], bytes]] = {}

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
SKIPPED_BYTES: Final = 65_536
"""An unread rest of a body this short is skipped; a longer one costs the connection."""
_HIGH_WATER_BYTES: Final = 65_536
"""A body is read on only once the application has taken this much of it."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE: Final = {"type": "http.disconnect"}
_FAILED: Final = error_body("the runtime failed; its log says why")


class Exchange:
    """Receives a body from the parser, gives it to the application, writes the application's answer in one piece."""

    __slots__ = (
        "_chunked", "_connection", "_given", "_head", "_left", "_pieces", "_waiter", "complete", "continues", "gone",
        "headers", "keep_alive", "more_body", "predictor", "scope", "short", "started", "task", "unread_bytes",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, headers: Headers, *, keep_alive: bool, continues: bool, short: bool
    ) -> None:
        self._connection, self.headers = connection, headers
        self.scope: Scope = {}
        self.keep_alive, self.continues = keep_alive, continues
        self.short = short
        """Whether what is left of the body is little enough to be skipped, should the answer come before its end."""
        self.more_body, self.gone = True, False
        self.started = self.complete = False
        self.unread_bytes = 0
        self.predictor: Predictor | None = None
        """Set where the connection itself will have the request answered, once it is whole."""
        self.task: asyncio.Task[None] | None = None
        """What will answer it, where that takes time."""
        self._pieces: list[bytes] = []
        self._given = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._left: int | None = None
        self._chunked = False

    # what the connection calls

    async def run(self, app: ASGIApp) -> None:
        """Has `app` answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            self._connection.failed(error)
        if self.complete or self.gone:
            return
        if self.started:
            self._connection.transport.abort()
        else:
            await self.send({"type": "http.response.start", "status": 500, "headers": _json(_FAILED)})
            await self.send({"type": "http.response.body", "body": _FAILED})

    def took(self, piece: bytes) -> bool:
        """Keeps a piece of the body; False once that is enough for now."""
        if self.complete:
            return True
        self._pieces.append(piece)
        self.unread_bytes += len(piece)
        self.wake()
        return self.unread_bytes <= _HIGH_WATER_BYTES

    def ended(self) -> None:
        """The body is whole."""
        self.more_body = False
        self.wake()

    def leave(self) -> None:
        """The client is gone, or has been told already: whatever is still done for it is in vain."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def wake(self) -> None:
        """Whoever waits in `receive` looks again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the door without ASGI

    def body(self) -> bytes:
        """The whole body, once it has come."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def answer_later(self, awaited: Awaitable[Response]) -> None:
        """Writes an answer when it is there."""
        self.answer(await awaited)

    def answer(self, response: Response) -> None:
        """Writes a whole answer at once."""
        if self.gone:
            return
        status, headers, body = response
        connection = self._connection
        lines = _lines.get(headers) or _remember(headers)
        if self.keep_alive and connection.closes_next():
            self.keep_alive = False
        end = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
        length = b"content-length: %d" % len(body)
        self.started = self.complete = True
        connection.transport.write(b"".join((STATUS_LINES[status], connection.state.date, lines, length, end, body)))
        connection.answered(self)

    # what the application calls

    async def receive(self) -> Message:
        """ASGI `receive`."""
        while True:
            if self.gone or self.complete:
                return _GONE
            if self._pieces or not (self.more_body or self._given):
                return self._take()
            await self._wait()

    def _take(self) -> Message:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self.unread_bytes = [], 0
        self._given = not self.more_body
        if self._given and not self._connection.waiting:
            self._connection.flow.resume_reading()  # or nobody would notice that the client breaks off
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def _wait(self) -> None:
        connection = self._connection
        if self.continues:
            self.continues = False
            connection.transport.write(_CONTINUE)
        connection.flow.resume_reading()
        self._waiter = connection.loop.create_future()
        await self._waiter

    async def send(self, message: Message) -> None:
        """ASGI `send`."""
        flow = self._connection.flow
        if flow.write_paused and not self.gone:
            await flow.drain()
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._write(message.get("body", b""), last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Any) -> None:
        # Names and values are ours, or checked where they were made (provenance.py): nothing of a client is in them.
        connection = self._connection
        lines = [STATUS_LINES[status], connection.state.date]
        self._left, self.started = None, True
        for name, value in headers:
            if name == b"content-length":
                self._left = int(value)
            lines += (name, b": ", value, b"\r\n")
        # A client that waits for a 100 may never send its body now: what comes next could be it, or another request.
        unread = self.more_body and (self.continues or not self.short)
        if self.keep_alive and (unread or connection.closes_next()):
            self.keep_alive = False
        self.continues = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self._chunked = self._left is None
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        self._head = b"".join(lines)

    def _write(self, body: bytes, *, last: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self._connection.transport.write(head)
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._connection.transport.write(head + chunk + (b"0\r\n\r\n" if last else b""))
        else:
            assert self._left is not None
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise RuntimeError("the answer is not as long as its content-length says")
            self._connection.transport.write(head + body)
        if last:
            self.complete = True
            self._connection.answered(self)


def _remember(headers: tuple[Header, ...]) -> bytes:
    return _lines.setdefault(headers, b"".join(b"%b: %b\r\n" % header for header in headers))


def _json(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
