"""One HTTP/1.1 connection: uvicorn's httptools protocol with what it lacks.

Limits on the head and the body's framing (`framing.py`), deadlines (`deadlines.py`), every refusal in the protocol's
JSON, a lingering close so that a refusal reaches a client that is still sending, and `Connection: close` while the
server drains. All of it is per connection; `server.py` owns the sockets and the clock.
"""

from __future__ import annotations

from asyncio import BaseTransport, Transport
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.serving.http.deadlines import ANSWER, BODY, HEAD, IDLE, LINGER
from runtime.serving.http.door import Door
from runtime.serving.http.exchange import SKIPPED_BYTES, STATUS_LINES, Exchange
from runtime.serving.http.framing import Refused, check_head, target
from runtime.serving.inference import request_id
from runtime.serving.statuses import error_body

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from uvicorn.config import Config

    from runtime.serving.http.framing import Headers
    from runtime.serving.http.state import State

_CHUNK_BYTES: Final = 128
"""What a chunk's size and extensions may take, on average."""
_EMPTY_SCOPE: Final = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "scheme": "http",
    "root_path": "",
}


class Connection(HttpToolsProtocol):
    """The protocol class that `server.Server` gives to the event loop."""

    def __init__(self, config: Config, server_state: State, app_state: dict[str, Any],
                 _loop: asyncio.AbstractEventLoop | None = None) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self.state, self.limits = server_state, server_state.limits
        self.exchange: Exchange | None = None
        self.waiting: deque[Exchange] = deque()
        """Pipelined requests behind `exchange`."""
        self.newest: Exchange | None = None
        self.waits_for, self.since = HEAD, server_state.tick
        self.unread_bytes, self.read_at = 0, server_state.tick
        """What the client had not read at the last look, and when it last had read some."""
        self.served = 0
        self.received_bytes = 0
        """Of what the connection waits for."""
        self.between = True
        """Whether the parser stands between two requests."""
        self._door = Door(self)
        self._chunks = self._raw_body = self._body_bytes = 0
        self._deaf = False
        self._lingers_until = 0.0
        self._last_words = b""

    # the transport's side

    def connection_made(self, transport: BaseTransport) -> None:
        """Takes the connection, or says that there are too many."""
        super().connection_made(cast("Transport", transport))
        if len(self.connections) <= self.state.most_connections or self._make_room():
            return
        if len(self.connections) > self.state.most_open:
            self.state.turned_away += 1
            self._deaf = True
            self.transport.abort()
        else:
            self.refuse(503, "overloaded: too many connections; try again")

    def _make_room(self) -> bool:
        others = (other for other in self.connections if isinstance(other, Connection) and other.is_spare)
        spare = min(others, key=lambda other: other.since, default=None)
        if spare is not None:
            spare.transport.close()
        return spare is not None

    @property
    def is_spare(self) -> bool:
        """Whether closing it costs no request: it is idle, or its client has had the time to say something."""
        if self.transport.is_closing():
            return False
        silent = self.waits_for == HEAD and not self.received_bytes and self.since < self.state.tick - 1
        return silent or self.waits_for == IDLE

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tells whoever is still at work for this client."""
        self.connections.discard(self)
        for exchange in (self.exchange, self.newest):
            if exchange is not None:
                exchange.leave()
        self.waiting.clear()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # breaks the cycle between the two, as uvicorn does

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn never keeps a half-closed connection
        """The client sends no more. It may still read: what it has asked in full is answered."""
        if self.waits_for != ANSWER:
            return None
        assert self.newest is not None
        self.newest.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, whose callbacks below do the rest."""
        if self._deaf:
            self._throw_away(data)
            return
        door = self._door
        if door.knows(data):
            return
        self.received_bytes += len(data)
        door.used, begins = False, self.between
        if self.waits_for == IDLE:
            self.wait_for(HEAD, received_bytes=len(data))
        try:
            self._feed(data)
        except Refused as refused:
            self.refuse(refused.status, str(refused))
            return
        self._check_received()
        if begins and door.used:
            door.remember(data, self.newest)

    def _throw_away(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.waits_for == LINGER and self.received_bytes < self.limits.body_bytes:
            self.since = self.state.tick if self.state.tick < self._lingers_until else self.since

    def _feed(self, data: bytes) -> None:
        while data:
            if self._raw_body:
                data = self._take_raw(data)
                continue
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                raise self._cause(error) from None
            except httptools.HttpParserError as error:
                raise Refused(400, f"invalid HTTP request: {error}") from None

    def _cause(self, error: BaseException) -> Refused:
        if isinstance(error.__context__, Refused):
            return error.__context__
        self.failed(error.__context__ or error)
        return Refused(400, "invalid HTTP request")

    def _take_raw(self, data: bytes) -> bytes:
        """The body of a request that offered an upgrade: the parser leaves it to us (Java's HttpClient sends such)."""
        body, rest = data[: self._raw_body], data[self._raw_body :]
        self._raw_body -= len(body)
        self.on_body(body)
        if not self._raw_body:
            self._message_ended()
        return rest

    def _check_received(self) -> None:
        limits = self.limits
        if self.waits_for == HEAD:
            if self.received_bytes > limits.head_bytes:
                self.refuse(431, f"request head too large: more than {limits.head_bytes} bytes")
            elif self.between and self.served:  # an empty line, which old clients send after a body
                self.wait_for(IDLE)
        elif self.waits_for == BODY:
            if self._body_bytes > limits.body_bytes:
                self.refuse(413, f"body too large: more than {limits.body_bytes} bytes")
            elif self.received_bytes - self._body_bytes > limits.head_bytes + self._chunks * _CHUNK_BYTES:
                self.refuse(431, "chunk extensions or trailers too large")
            elif len(self.headers) > limits.headers:
                self.refuse(431, f"too many trailers: more than {limits.headers}")

    # the parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self.between = False
        if self.waits_for == IDLE:  # behind another one in the same piece of data
            self.wait_for(HEAD)
        self.url, self.headers = b"", []
        self._chunks = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url
        if len(self.url) > self.limits.uri_bytes:
            raise Refused(414, f"URI too long: more than {self.limits.uri_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header, or a trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: checks it and has the request answered, by the application or without it."""
        if self._deaf:  # the connection's last answer was given while this piece of data was being parsed
            raise Refused(400, "invalid HTTP request: after the last one")
        parser, headers = self.parser, self.headers
        version, method = parser.get_http_version(), parser.get_method()
        length, continues = check_head(version, self.url, headers, self.limits, parser.should_upgrade)
        if method == b"CONNECT":
            raise Refused(405, "method not allowed: CONNECT")
        path, query = target(self.url)
        keeps = version == "1.1" and parser.should_keep_alive()
        short = length is not None and length <= SKIPPED_BYTES
        exchange = self.newest = Exchange(self, headers, keep_alive=keeps, continues=continues, short=short)
        self.headers = []  # what comes now is a trailer, and none of the application's business
        if length and parser.should_upgrade():
            self._raw_body = length
        self.wait_for(BODY, received_bytes=0)
        if length is not None and method == b"POST" and self._door.lets(exchange, path, length):
            self.exchange = exchange
            return
        exchange.scope = self._scope(version, method, path, query, headers)
        if self.exchange is None:
            self._start(exchange)
        else:
            self._put_behind(exchange)

    def _put_behind(self, exchange: Exchange) -> None:
        if len(self.waiting) >= self.limits.pipelined:
            raise Refused(400, f"too many pipelined requests: more than {self.limits.pipelined} wait")
        self.flow.pause_reading()
        self.waiting.append(exchange)

    def _scope(self, version: str, method: bytes, path: str, query: bytes, headers: Headers) -> dict[str, Any]:
        return {
            **_EMPTY_SCOPE,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "method": method.decode(),
            "path": unquote(path) if "%" in path else path,
            "raw_path": path.encode("latin-1"),
            "query_string": query,
            "headers": headers,
            "state": self.app_state.copy(),
        }

    def on_chunk_header(self) -> None:
        """One chunk more."""
        self._chunks += 1
        if self._chunks > self.limits.chunks:
            raise Refused(400, f"invalid chunking: more than {self.limits.chunks} chunks")

    def on_body(self, body: bytes) -> None:
        """A piece of the newest request's body."""
        self._body_bytes += len(body)
        if self.newest is not None and not self.newest.took(body):
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole, unless the parser only thinks so because it offered an upgrade."""
        if not self._raw_body:
            self._message_ended()

    def _message_ended(self) -> None:
        exchange = self.newest
        assert exchange is not None
        exchange.ended()
        self.received_bytes, self.between = 0, True
        if exchange.complete:
            self.wait_for(IDLE)
            return
        self.waits_for = ANSWER
        if exchange.predictor is not None and not exchange.gone:
            self._door.enter(exchange)

    # the application's side

    def run(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Has `work` done, which will answer `exchange`."""
        task = exchange.task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def closes_next(self) -> bool:
        """Whether the answer that is about to be written should be the connection's last."""
        return (self.state.closing or self.state.health.draining) and not self.waiting and not self._last_words

    def answered(self, exchange: Exchange) -> None:
        """The answer of `exchange` is written: on to the next request, or to the end."""
        self.served += 1
        self.exchange = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._end(linger=exchange.more_body or self._deaf or bool(self.waiting))
            return
        if self.waiting:  # reading goes on when none waits any more, or a client could pile them up
            self._start(self.waiting.popleft())
            return
        self.flow.resume_reading()
        if self._last_words:
            self._say_last_words()
        elif self.between:
            self.wait_for(IDLE)
        elif not exchange.more_body:  # a head has begun to come behind it
            self.wait_for(HEAD, received_bytes=1)

    def failed(self, error: BaseException) -> None:
        """Logs a fault of ours."""
        self.state.log.error("request.failed", cause=f"{type(error).__name__}: {error}")

    def refuse(self, status: int, text: str) -> None:
        """Answers what is wrong with the request being read, after those before it, and closes."""
        if self._deaf:
            return
        self._deaf = True
        reading = self.newest if self.newest is not None and self.newest.more_body else None
        head = dict(self.headers or ()) if reading is None else dict(reading.headers)
        self.state.log.info("request.refused", id=request_id(head)[:64], status=status, reason=text)
        if reading is not None and reading.complete:  # answered before its end: a second answer would be another's
            self._end(linger=True)
            return
        self._last_words = self._refusal(status, text)
        if reading is not None:
            self._drop(reading)
        if self.exchange is None and not self.waiting:
            self._say_last_words()

    def _refusal(self, status: int, text: str) -> bytes:
        body = error_body(text)
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        length = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        return b"".join(
            (STATUS_LINES[status], self.state.date, b"content-type: application/json\r\n", retry, length, body)
        )

    def _drop(self, broken: Exchange) -> None:
        """The request that is at fault gets our answer instead of the application's."""
        broken.leave()
        if broken in self.waiting:
            self.waiting.remove(broken)
        elif broken is self.exchange:
            self.exchange = None
            if broken.started:
                self._last_words = b""

    def _say_last_words(self) -> None:
        if not self._last_words:
            self.transport.abort()
            return
        self.transport.write(self._last_words)
        self._last_words = b""
        self._end(linger=True)

    def _start(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.run(exchange, exchange.run(self.app))

    def _end(self, *, linger: bool) -> None:
        """Closes; where the client may still be sending, only our half first: unread bytes would reset the connection,
        and the answer with it."""
        self._deaf = True
        self.waiting.clear()
        if not linger or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingers_until = self.state.tick + self.limits.body_seconds
        self.wait_for(LINGER, received_bytes=0)
        self.flow.resume_reading()
        self.transport.write_eof()

    # the server's side

    def wait_for(self, what: int, *, received_bytes: int | None = None) -> None:
        """The connection begins to wait for something else."""
        self.waits_for, self.since = what, self.state.tick
        if received_bytes is not None:
            self.received_bytes = received_bytes

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return bool(self.exchange or self.waiting or self._last_words) or (
            self.waits_for in (HEAD, BODY) and self.received_bytes > 0
        )

    def shutdown(self) -> None:
        """Closes if nothing is under way; else the answer that is under way will be the last."""
        if not self.busy:
            self.transport.close()

    # uvicorn's own timers: the sweep replaces them

    def _unset_keepalive_if_required(self) -> None:
        return
