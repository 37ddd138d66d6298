"""One HTTP/2 connection, from its first byte to its end: the greeting, what takes too long, the leave-taking."""

import asyncio
from typing import Final, TypeVar, cast

from runtime.serving.base_server import readable
from runtime.serving.http2.frames import (
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    LARGEST,
    MOST_HEAD_BYTES,
    MOST_STREAMS,
    NO_ERROR,
    PING,
    PREFACE,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    Broken,
    goaway,
    head,
    numbered,
    settings,
)
from runtime.serving.http2.input import Input
from runtime.serving.http2.output import CONNECTION_BYTES, STREAM_BYTES, TURNS
from runtime.serving.http2.state import State
from runtime.serving.statuses import error_body

T = TypeVar("T")

_STAYING, _LEAVING, _LEFT, _DEAF = range(4)
"""What the client was told: nothing; to begin nothing new; what was the last stream; all."""
_FRESH_GRACE_SECONDS: Final = 1.0
"""A client's greeting may be on its way when the listener closes."""
_ROUND_SECONDS: Final = 1.0
"""What a client gets to answer a PING, and to close after it was told all."""
_LAST_PING: Final = head(PING, 0, 0, 8) + b"farewell"
_HTTP1: Final = error_body("this port speaks gRPC, over HTTP/2 without TLS; HTTP/1.1 is served on the port of --port")


class Connection(Input[T], asyncio.Protocol):
    """The protocol that `base_server.BaseServer` gives to the event loop. `peers` are the server's open connections."""

    def __init__(self, state: State[T], peers: "set[Connection[T]]") -> None:
        super().__init__(state)
        self._peers, self._limits = peers, state.limits
        self._greeted, self._rest, self._told = False, b"", _STAYING
        self._since = self._unread_since = state.tick
        self._unread_bytes = 0
        self._told_at = 0.0
        self._refusal: Broken | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or notes that there are too many."""
        state, peers, self.transport = self._state, self._peers, cast("asyncio.Transport", transport)
        peers.add(self)
        if len(peers) <= state.most_connections or state.make_room(peers):
            state.unasked[self] = None
            return
        if len(peers) <= state.most_connections + state.most_told:
            self._refusal = Broken(ENHANCE_YOUR_CALM, "overloaded: too many connections; try again")
        else:
            self._told = _DEAF
            state.turned_away += 1
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Ends what is still at work for this client."""
        self._peers.discard(self)
        self._state.unasked.pop(self, None)
        self._told = _DEAF
        self._leave_streams()

    def _leave_streams(self) -> None:
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.left()

    def data_received(self, data: bytes) -> None:
        """Reads frames, and writes in one piece what can be answered at once."""
        if self._told == _DEAF:
            return
        if self._rest:
            data = self._rest + data
        self._turns, self._inside = TURNS, True
        try:
            if self._greeted:
                self._since = self._state.tick
                self._rest = self._read(data)
            else:
                self._rest = self._greet(data)
        except Broken as broken:
            self._break(broken)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and the log has the cause
            self._state.failed(error)
            self._break(Broken(INTERNAL_ERROR, "the runtime failed; its log says why"))
        finally:
            self._inside = False
        self._flush()

    def _greet(self, data: bytes) -> bytes:
        if data.startswith(PREFACE):
            self._greeted = True
            self._state.unasked.pop(self, None)
            limits = self._limits
            self.write(
                settings((MOST_STREAMS, self._state.most_streams), (INITIAL_WINDOW, STREAM_BYTES),
                         (MOST_HEAD_BYTES, limits.head_bytes))
                + numbered(WINDOW_UPDATE, 0, CONNECTION_BYTES - WINDOW_BYTES)
            )  # fmt: skip
            if self._refusal:
                raise self._refusal
            return self._read(data[len(PREFACE) :])
        if PREFACE.startswith(data):
            return data
        if data[:1].isupper():  # a method of HTTP/1.1; TLS begins with another byte, and could read nothing
            lines = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.write(b"%bcontent-length: %d\r\n\r\n%b" % (lines, len(_HTTP1), _HTTP1))
        self._end()
        return b""

    def _break(self, broken: Broken) -> None:
        """Tells the client what it did wrong, and ends."""
        self._state.refused(broken)
        self.write(goaway(self._last if self._final is None else self._final, broken.code, str(broken)))
        self._told = _DEAF  # before the streams go: none of them is to be the reason of a farewell
        self._leave_streams()
        self._end()

    def _end(self) -> None:
        """Ends our half. The client ends its own: unread bytes would reset the connection, and the answers with it."""
        self._told, self._told_at, self._rest = _DEAF, self._now, b""
        self._flush()
        if not (self._ended or self.transport.is_closing()) and self.transport.can_write_eof():
            self.transport.write_eof()
        self._ended = True

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # the leave-taking: RFC 9113, 6.8

    def close(self) -> None:
        """Has the client go, once everything is answered: first it hears that it shall begin nothing new, and when it
        has, which stream was the last that is answered."""
        if not self._greeted:
            self.transport.close()
        elif self._told == _STAYING:
            self._told, self._told_at = _LEAVING, self._now
            self.write(goaway(LARGEST, NO_ERROR) + _LAST_PING)

    def pinged(self) -> None:
        """Goes on with the leave-taking: what the client had begun has come before this."""
        if self._told == _LEAVING:
            self._told, self._told_at = _LEFT, self._now
            self._final = self._last
            self.write(goaway(self._final, NO_ERROR))
            self.rested()

    def rested(self) -> None:
        """Ends a connection whose client has gone elsewhere."""
        self._since = self._state.tick
        if self._told == _LEFT and not self.streams:
            self._end()

    def retire(self, seconds: float) -> None:
        """Goes on with the leave-taking, `seconds` after the server began to drain."""
        if not self._greeted:
            if seconds >= _FRESH_GRACE_SECONDS and not readable([self.transport.get_extra_info("socket")]):
                self.transport.close()
        elif self._told == _STAYING:
            self.close()
        elif self._now - self._told_at > _ROUND_SECONDS:
            self._hurry()

    def _hurry(self) -> None:
        if self._told == _LEAVING:
            self.pinged()
        elif self._told == _DEAF:
            self.transport.abort()

    # once a second

    @property
    def spare_since(self) -> int | None:
        """Since when it is idle, or its client has had time to say something and has not: no request would be lost."""
        silent = not self._greeted and self._since < self._state.tick - 1
        idle = self._greeted and self._told == _STAYING and not self.streams
        return self._since if silent or idle else None

    def give_way(self) -> None:
        """Ends, because there are too many connections."""
        self.close()

    def look(self) -> None:
        """Ends what takes too long."""
        self._debt = 0
        limits, tick, left = self._limits, self._state.tick, self.transport.get_write_buffer_size()
        if not left or left < self._unread_bytes:
            self._unread_since = tick
        self._unread_bytes = left
        if tick - self._unread_since > limits.unread_seconds:
            self.transport.abort()
            return
        self._reset_stalled(limits.unread_seconds)
        for stream in list(self.streams.values()):
            stream.look(tick)
        self._look_at_silence(tick - self._since, self._now - self._told_at, unread=bool(left))

    def _look_at_silence(self, seconds: float, told_seconds: float, *, unread: bool) -> None:
        limits, told = self._limits, self._told
        if told in (_LEAVING, _DEAF) and told_seconds > limits.linger_seconds and not unread:
            self._hurry()
        elif told == _STAYING and not self._greeted and seconds > limits.head_seconds:
            self.transport.abort()
        elif told == _STAYING and self._block and self._state.tick - self._block_since > limits.head_seconds:
            self._break(Broken(ENHANCE_YOUR_CALM, "the request's headers came too slowly"))
        elif told == _STAYING and self._greeted and not self.streams and seconds > limits.keep_alive_seconds:
            self.close()
