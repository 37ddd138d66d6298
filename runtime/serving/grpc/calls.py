"""One call: its messages out of DATA, its answer into frames.

A message has a byte that says whether it is compressed, its length in 4 bytes, and that many bytes:
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests.
"""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, RequestFailed
from runtime.serving.codings import inflated
from runtime.serving.grpc.metadata import BEGIN, Asked, status
from runtime.serving.grpc.state import Method, State
from runtime.serving.http2.hpack import encoded
from runtime.serving.http2.output import STREAM_BYTES, Output
from runtime.serving.http2.stream import Stream
from runtime.serving.media import too_large
from runtime.serving.statuses import GRPC_CODE, Header, Response, UnknownPath
from runtime.serving.tracing import request_id

_PREFIX: Final = struct.Struct(">BI")
_GRACE_SECONDS: Final = 5
_MOST_WAITING: Final = 16
"""Messages of a stream that wait for the ones before them: the client may send no more than that."""


class Call(Stream):
    """What unary calls and streams of messages have in common."""

    __slots__ = ("_asked", "_began", "_booked", "_buffer", "_ends", "_gone", "_output", "_state", "_task")

    def __init__(self, state: State, output: Output, number: int, asked: Asked) -> None:
        super().__init__(number, output.first_window, STREAM_BYTES)
        self._state, self._output, self._asked = state, output, asked
        self._buffer = bytearray()
        """What has come of a message that is not whole."""
        self._booked, self._began, self._gone = 0, state.tick, False
        self._ends = 0.0 if asked.seconds is None else perf_counter() + asked.seconds
        self._task: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """Refuses what is no call."""
        asked = self._asked
        if asked.refusal:
            http, code, text = asked.refusal
            self._state.log.info("request.refused", id=request_id(asked.head), status=http, reason=text)
            begin = BEGIN if http == 200 else encoded((b":status", b"%d" % http))
            self._end(begin + status(code, text))
        elif self._state.prepared and asked.path not in self._state.methods:
            self.refuse(UnknownPath("unknown method: this server has no such service, or no such method in it"))

    def refuse(self, error: Exception) -> None:
        """Ends the call with an error, and no answer before it."""
        self._end(BEGIN + trailers(self._state.refuse(error, self._asked)))

    def _end(self, block: bytes) -> None:
        if not self._gone:
            self._release()
            self._gone = True
            self._output.end(self, block)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._task = asyncio.get_running_loop().create_task(work)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def left(self) -> None:
        """Gives up."""
        self._gone = True
        self._release()
        if self._task is not None:  # once it has begun: what it awaits has an account to close
            asyncio.get_running_loop().call_soon(self._task.cancel)

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
        if len(self._buffer) < _PREFIX.size:
            return None
        compressed, length = _PREFIX.unpack_from(self._buffer)
        if compressed > 1 or (compressed and not self._asked.coding):
            raise InvalidInput("invalid message: a compressed one without grpc-encoding, or an unknown flag")
        if length > (most := self._state.limits.body_bytes):
            raise too_large(most, what="message")
        return int(_PREFIX.size + length)

    def _take(self, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            message = bytes(view[_PREFIX.size : end])
        del self._buffer[:end]
        return message

    def _inflated(self, message: bytes) -> bytes:
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


class Unary(Call):
    """A message, and an answer."""

    __slots__ = ("_compressed", "_whole")

    def received(self, piece: bytes, *, ended: bool) -> bool:
        """Takes a piece of the message; most messages come in one."""
        if self._gone:
            return True
        if ended and not self._buffer and len(piece) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(piece)
            if not compressed and length == len(piece) - _PREFIX.size:
                self._compressed, self._whole = False, piece[_PREFIX.size :]
                self._output.due(self)
                return True
        try:
            self._collect(piece, ended=ended)
        except RequestFailed as failure:
            self.refuse(failure)
        return True

    def _collect(self, piece: bytes, *, ended: bool) -> None:
        self._keep(piece)
        end = self._announced()
        if end is not None and len(self._buffer) > end:
            raise InvalidInput("a call of this method has one message")
        if ended:
            if end is None or len(self._buffer) < end:
                raise InvalidInput("the call ended before its message was whole")
            self._compressed = bool(self._buffer[0])
            self._whole = self._take(end)
            self._release()
            self._output.due(self)

    def run(self) -> None:
        """Answers: at once where the model is cheap."""
        state, method = self._state, self._state.methods.get(self._asked.path)
        if method is None or self._compressed:
            self._start(self._run_later())
        elif self._output.unsent_bytes > state.limits.body_bytes:
            self.refuse(Overloaded("overloaded: the client does not read its answers"))
        else:
            self._run(method)

    def _run(self, method: Method) -> None:
        assert method.unary
        whole, self._whole = self._whole, b""
        try:
            answer = method.unary(whole, self._asked, self.seconds if self._ends else None)
            if isinstance(answer, Response):
                self._answer(answer)
            else:
                self._start(self._answer_later(answer))
        except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
            self.refuse(error)

    async def _run_later(self) -> None:
        """Answers once what the method needs is imported, and the message inflated."""
        try:
            if self._asked.path not in self._state.methods:
                await self._state.prepare()
            if self._compressed:
                self._whole, self._compressed = await asyncio.to_thread(self._inflated, self._whole), False
        except Exception as error:  # noqa: BLE001 - as in _run
            self.refuse(error)
            return
        if not self._gone:
            self.opened()
        if not self._gone:
            self._run(self._state.methods[self._asked.path])

    async def _answer_later(self, answer: Awaitable[Response]) -> None:
        try:
            self._answer(await answer)
        except Exception as error:  # noqa: BLE001 - as in _run
            self.refuse(error)

    def _answer(self, response: Response) -> None:
        if self._gone:
            return
        block = trailers(response)
        if response.status != 200:
            self._end(BEGIN + block)
            return
        self._gone = True
        length = response.length
        prefix = _PREFIX.pack(0, length)
        pieces = (prefix, response.body, *response.tail) if response.tail else (prefix, response.body)
        self._output.answer(self, BEGIN, pieces, length + _PREFIX.size, block)

    def look(self, tick: int) -> None:
        """Refuses a message that comes too slowly."""
        if self._is_slow(tick):
            self.refuse(DeadlinePassed("request timeout: the message came too slowly"))


class Streaming(Call):
    """Messages in, messages out, each as it comes."""

    __slots__ = ("_begun", "_bytes", "_drained", "_timer", "_waiting", "_wake")

    def __init__(self, state: State, output: Output, number: int, asked: Asked) -> None:
        super().__init__(state, output, number, asked)
        self._waiting: deque[tuple[int, bool, bytes]] = deque()
        """Messages: their bytes as booked, whether they are compressed."""
        self._bytes, self._begun = 0, False
        self._wake: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """Starts to answer."""
        super().opened()
        if not self._gone:
            self._start(self._serve())
            if (seconds := self._asked.seconds) is not None:
                late = DeadlinePassed(f"deadline exceeded: no answer within {seconds:g} s")
                self._timer = asyncio.get_running_loop().call_later(seconds, self._break, late)

    def received(self, piece: bytes, *, ended: bool) -> bool:
        """Takes a piece of a message."""
        if self._gone:
            return True
        try:
            self._keep(piece)
            while (end := self._announced()) is not None and len(self._buffer) >= end:
                self._waiting.append((end, bool(self._buffer[0]), self._take(end)))
                self._bytes += end
                self._began = self._state.tick
            if ended and self._buffer:
                raise InvalidInput("the call ended before its message was whole")
        except RequestFailed as failure:
            self._break(failure)
        _wake(self._wake)
        return self._may_send

    @property
    def _may_send(self) -> bool:
        return len(self._waiting) < _MOST_WAITING and self._bytes < STREAM_BYTES // 2

    async def messages(self) -> AsyncIterator[bytes]:
        """Yields each message."""
        while True:
            while not self._waiting:
                if not self.receiving:
                    return
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
            booked, compressed, message = self._waiting.popleft()
            self._bytes -= booked
            self._booked -= booked
            self._state.bodies.free(booked)
            if self._may_send:
                self._output.grant(self)
            yield await asyncio.to_thread(self._inflated, message) if compressed else message

    async def send(self, message: bytes) -> None:
        """Writes a message; waits until it is on its way."""
        if not self._begun:
            self._begun = True
            self._output.begin(self, BEGIN)
        self._output.send(self, (_PREFIX.pack(0, len(message)), message))
        if self.pending:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def sent(self) -> None:
        """Goes on with the next message."""
        _wake(self._drained)

    async def _serve(self) -> None:
        try:
            if self._asked.path not in self._state.methods:
                await self._state.prepare()
            method = self._state.methods[self._asked.path]
            assert method.stream
            response = await method.stream(self, self._asked)
        except Exception as error:  # noqa: BLE001 - logged with its cause, and told without it
            response = self._state.refuse(error, self._asked)
        self._finish(OK if response is None else trailers(response))

    def _break(self, error: Exception) -> None:
        if self._gone:
            return
        if self._task is not None:
            self._task.cancel()
        self._output.drop(self)
        self._finish(trailers(self._state.refuse(error, self._asked)))

    def _finish(self, block: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end(block if self._begun else BEGIN + block)

    def left(self) -> None:
        """Gives up."""
        super().left()
        if self._timer is not None:
            self._timer.cancel()

    def look(self, tick: int) -> None:
        """Ends a stream amid a message that comes too slowly."""
        if self._buffer and not self._waiting and self._is_slow(tick):
            self._break(DeadlinePassed("request timeout: the message came too slowly"))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def trailers(response: Response) -> bytes:
    """Returns the trailers of an answer."""
    block = _trailers(response.status == 200, response.headers, b"" if response.status == 200 else response.body)
    return block + encoded(*response.variable) if response.variable else block


@lru_cache(maxsize=256)
def _trailers(ok: bool, headers: tuple[Header, ...], text: bytes) -> bytes:
    code = "OK" if ok else dict(headers)[GRPC_CODE].decode()
    return status(code, text.decode(), tuple(header for header in headers if header[0] != GRPC_CODE))


OK: Final = status("OK")
