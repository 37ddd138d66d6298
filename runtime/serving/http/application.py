"""One request that the application answers: https://asgi.readthedocs.io/en/latest/specs/www.html."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from runtime.serving.http.exchange import FAILED, STATUS_LINES, Exchange, Turns
from runtime.serving.http.leaving import CONTINUE
from runtime.serving.statuses import Header, check_lines

if TYPE_CHECKING:
    from starlette.types import Message, Scope

    from runtime.serving.http.head import Head

_SKIPPED_BYTES: Final = 65_536
"""An unread rest of a body this short is skipped; a longer one costs the connection."""
_HIGH_WATER_BYTES: Final = 65_536
"""A body is read on only once the application has taken this much of it."""
_GONE: Final = {"type": "http.disconnect"}
_EXTENSIONS: Final[dict[str, dict[object, object]]] = {"modelkit.views": {}}
"""A piece of the answer may be a memoryview of bytes, and is written from where it is."""
_WITHOUT_BODY: Final = (204, 304)
_FAILED_HEADERS: Final = (*FAILED.headers, (b"content-length", b"%d" % len(FAILED.body)))


class ApplicationExchange(Exchange):
    """Gives the body to the application as it comes, and writes what the application sends."""

    __slots__ = ("_bodiless", "_chunked", "_given", "_head", "_left", "_request", "_unread_bytes", "_wake", "continues")

    def __init__(self, turns: Turns, head: Head) -> None:
        super().__init__(turns, head.headers, keep_alive=head.keep_alive)
        self._request, self.continues = head, head.continues
        self._unread_bytes, self._given = 0, False
        self._wake: asyncio.Future[None] | None = None
        self._head = b""
        self._left: int | None = None
        self._bodiless = self._chunked = False

    async def run(self) -> None:
        """Has the application answer."""
        try:
            await self._turns.state.app(self._scope(), self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            self._turns.state.failed(error)
        if self.complete or self.gone:
            return
        if self.started:
            self._turns.transport.abort()
        else:
            await self.send({"type": "http.response.start", "status": 500, "headers": _FAILED_HEADERS})
            await self.send({"type": "http.response.body", "body": FAILED.body})

    def _scope(self) -> Scope:
        head, (server, client) = self._request, self._turns.addresses
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "scheme": "http",
            "server": server,
            "client": client,
            "method": head.method.decode(),
            "root_path": "",
            "path": unquote(head.path) if "%" in head.path else head.path,
            "raw_path": head.path.encode("latin-1"),
            "query_string": head.query,
            "headers": head.headers,
            "state": {},
            "extensions": _EXTENSIONS,
        }

    def took(self, piece: bytes) -> bool:
        """Keeps a piece of the body. Returns False if the application has to take some first."""
        if self.complete:
            return True
        self._unread_bytes += len(piece)
        super().took(piece)
        self._look_again()
        return self._unread_bytes <= _HIGH_WATER_BYTES

    def ended(self) -> None:
        """Notes that the body is whole."""
        super().ended()
        self._look_again()

    def _look_again(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def receive(self) -> Message:
        """Does ASGI's `receive`."""
        while not (self.gone or self.complete):
            if self._pieces or not (self.more_body or self._given):
                body, self._pieces, self._unread_bytes, self._given = self.body(), [], 0, not self.more_body
                if self._given:
                    self._read_on()  # or it would not be noticed that the client breaks off
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            if self.continues:
                self.continues = False
                self._turns.transport.write(CONTINUE)
            self._read_on()
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return _GONE

    def _read_on(self) -> None:
        if not self._turns.waiting:
            self._turns.flow.resume_reading()

    async def send(self, message: Message) -> None:
        """Does ASGI's `send`."""
        flow = self._turns.flow
        if flow.write_paused and not self.gone:
            await flow.drain()
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._write(message.get("body", b""), last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Iterable[Header]) -> None:
        lines, length = [STATUS_LINES[status], self._turns.state.date], None
        for name, value in headers:
            check_lines(((name, value),))
            if name == b"content-length":
                length = int(value)
            lines += (name, b": ", value, b"\r\n")
        # A client that waits for a 100 may never send its body now: what comes next could be it, or another request.
        announced = self._request.length
        unread = self.more_body and (self.continues or announced is None or announced > _SKIPPED_BYTES)
        self.keep_alive = self.keep_alive and not (unread or self._turns.ends_next())
        self.started, self.continues = True, False
        self._turns.state.waiting[self._turns.place] = 0.0
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self._bodiless = status in _WITHOUT_BODY or self._request.method == b"HEAD"
        self._chunked = length is None and status not in _WITHOUT_BODY and self._request.version == "1.1"
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        self._head, self._left = b"".join(lines), length

    def _write(self, body: bytes, *, last: bool) -> None:
        head, self._head = self._head, b""
        if self._bodiless:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if last else b"")
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise ValueError("the answer is not as long as its content-length says")
        self._turns.transport.write(head + body if head else body)
        if last:
            self.complete = True
            self._turns.answered(self)
