"""One call: its messages out of DATA, its answer into frames.

A message has a byte that says whether it is compressed, its length in 4 bytes, and that many bytes:
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests.
"""

import asyncio
import struct
from collections.abc import Coroutine
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

from runtime.errors import InvalidInput
from runtime.link.metrics import reason_of
from runtime.serving.codings import inflated
from runtime.serving.grpc.metadata import BEGIN, Asked, status
from runtime.serving.grpc.state import State
from runtime.serving.http2.hpack import encoded
from runtime.serving.http2.output import STREAM_BYTES, Output
from runtime.serving.http2.stream import Stream
from runtime.serving.media import Body, too_large
from runtime.serving.statuses import GRPC_CODE, Header, Response, UnknownPath
from runtime.serving.trail import request_id

PREFIX: Final = struct.Struct(">BI")
_GRACE_SECONDS: Final = 5


class GrpcCall(Stream):
    """What unary calls and streams of messages have in common."""

    __slots__ = ("_asked", "_began", "_booked", "_buffer", "_ends", "_gone", "_output", "_pending", "_state")

    def __init__(self, state: State, output: Output, number: int, asked: Asked) -> None:
        super().__init__(number, output.first_window, STREAM_BYTES)
        self._state, self._output, self._asked = state, output, asked
        self._buffer = bytearray()
        """What has come of a message that is not whole."""
        self._booked, self._began, self._gone = 0, state.tick, False
        self._ends = 0.0 if asked.seconds is None else perf_counter() + asked.seconds
        self._pending: asyncio.Future[Any] | None = None

    def opened(self) -> None:
        """Refuses what is no call."""
        asked = self._asked
        if asked.refusal:
            http, code, text, more = asked.refusal
            self._state.log.refused(http, reason_of(http), id=request_id(asked.head), reason=text)
            begin = BEGIN if http == 200 else encoded((b":status", b"%d" % http))
            self._end(begin + status(code, text, more))
        elif asked.path not in self._state.methods:
            if self._state.prepared:
                self.refuse(UnknownPath("unknown method: this server has no such service, or no such method in it"))
            else:
                self._start(self._open_later())

    async def _open_later(self) -> None:
        """Refuses a method that turns out to be unknown: its client may wait for that before it sends more."""
        try:
            await self._state.prepare()
        except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
            self.refuse(error)
        if not self._gone and self._asked.path not in self._state.methods:
            self.opened()

    def refuse(self, error: Exception) -> None:
        """Ends the call with an error, and no answer before it."""
        self._end(BEGIN + trailers(self._state.refuse(error, self._asked)))

    def _end(self, block: bytes) -> None:
        if not self._gone:
            self._release()
            self._gone = True
            self._output.end(self, block)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._pending = asyncio.get_running_loop().create_task(work)
        self._state.pending.add(task)
        task.add_done_callback(self._state.pending.discard)

    def left(self) -> None:
        """Gives up."""
        self._gone = True
        self._release()
        if self._pending is not None:  # once a task has begun: what it awaits has an account to close
            asyncio.get_running_loop().call_soon(self._pending.cancel)

    # messages

    def _keep(self, piece: bytes) -> None:
        """Keeps a piece of a message. Raises Overloaded, TooLarge."""
        if not self._buffer:
            self._began = self._state.tick
        self._state.bodies.book(len(piece), self._booked)
        self._booked += len(piece)
        self._buffer += piece

    def _release(self) -> None:
        self._state.bodies.free(self._booked)
        self._booked = 0

    def _announced(self) -> int | None:
        """Returns where in the buffer its message ends, None while that is unknown. Raises InvalidInput, TooLarge."""
        if len(self._buffer) < PREFIX.size:
            return None
        compressed, length = PREFIX.unpack_from(self._buffer)
        if compressed > 1 or (compressed and not self._asked.coding):
            raise InvalidInput("invalid message: a compressed one without grpc-encoding, or an unknown flag")
        if length > (most := self._state.limits.body_bytes):
            raise too_large(most, what="message")
        return int(PREFIX.size + length)

    def _take(self, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            message = bytes(view[PREFIX.size : end])
        del self._buffer[:end]
        return message

    def _inflated(self, message: Body) -> bytes:
        most = self._state.limits.body_bytes
        return bytes(inflated({b"content-encoding": self._asked.coding}, message, most))

    @property
    def seconds(self) -> float | None:
        """How long the client waits from now on; None: it has not said."""
        return max(self._ends - perf_counter(), 1e-6) if self._ends else None

    def _is_slow(self, tick: int) -> bool:
        limits, seconds = self._state.limits, tick - self._began
        wanted = (seconds - _GRACE_SECONDS) * limits.body_bytes_per_second
        return self.receiving and not self._gone and (seconds > limits.body_seconds or len(self._buffer) < wanted)


def trailers(response: Response) -> bytes:
    """Returns the trailers of an answer."""
    block = _trailers(response.status == 200, response.headers, b"" if response.status == 200 else response.body)
    return block + encoded(*response.variable) if response.variable else block


@lru_cache(maxsize=256)
def _trailers(ok: bool, headers: tuple[Header, ...], text: bytes) -> bytes:
    code = "OK" if ok else dict(headers)[GRPC_CODE].decode()
    return status(code, text.decode(), tuple(header for header in headers if header[0] != GRPC_CODE))


OK: Final = status("OK")
