"""A call with any number of messages and of answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from typing import Final

from runtime.errors import DeadlinePassed, InvalidInput, NotReady, RequestFailed
from runtime.serving.grpc.exchange import OK, PREFIX, GrpcCall, trailers
from runtime.serving.grpc.metadata import BEGIN, Asked
from runtime.serving.grpc.state import State
from runtime.serving.http2.frames import FRAME_BYTES
from runtime.serving.http2.output import ANSWER_CREDIT, STREAM_BYTES, TURNS, Output

_MOST_WAITING: Final = 16
"""Messages that wait for the ones before them: the client may send no more than that."""


class Bidirectional(GrpcCall):
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
                self._timer = asyncio.get_running_loop().call_later(seconds, partial(self._break, late, quiet=True))

    def received(self, piece: bytes, *, ended: bool) -> bool:  # noqa: ARG002 - `receiving` says it
        """Takes a piece of a message."""
        if self._gone:
            return True
        try:
            self._keep(piece)
            self._cut()
        except RequestFailed as failure:
            self._break(failure)
        _wake(self._wake)
        return self._may_send

    def _cut(self) -> None:
        """Cuts whole messages out of the buffer, as many as may wait. Raises InvalidInput, TooLarge."""
        while len(self._waiting) < _MOST_WAITING:
            end = self._announced()
            if end is None or len(self._buffer) < end:
                return
            self._waiting.append((end, bool(self._buffer[0]), self._take(end)))
            self._bytes += end
            self._began = self._state.tick

    @property
    def _may_send(self) -> bool:
        return len(self._waiting) < _MOST_WAITING and self._bytes < STREAM_BYTES // 2

    async def messages(self) -> AsyncIterator[bytes]:
        """Yields each message, and gives other tasks a turn after every few. Raises InvalidInput, TooLarge."""
        for turn in count(1):
            if not turn % TURNS:
                await asyncio.sleep(0)
            while not (self._waiting or self._gone):
                if not self.receiving:
                    if self._buffer:
                        raise InvalidInput("the call ended before its message was whole")
                    return
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
            if self._gone:  # what awaited an answer may have caught that it was cancelled
                return
            booked, compressed, message = self._waiting.popleft()
            self._bytes -= booked
            self._booked -= booked
            self._state.bodies.free(booked)
            self._cut()
            if self._may_send:
                self._began = self._state.tick  # it could not go on before
                self._output.grant(self)
            yield await asyncio.to_thread(self._inflated, message) if compressed else message

    async def send(self, message: bytes) -> None:
        """Writes a message; waits until it is on its way."""
        if self._gone:
            raise asyncio.CancelledError
        if not self._begun:
            self._begun = True
            self._output.begin(self, BEGIN)
        self._output.credit(ANSWER_CREDIT)
        prefix = PREFIX.pack(0, len(message))
        self._output.send(self, (prefix + message,) if len(message) < FRAME_BYTES else (prefix, message))
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

    def _break(self, error: Exception, *, quiet: bool = False) -> None:
        if self._gone:
            return
        if self._pending is not None:
            self._pending.cancel()
        self._output.drop(self)
        self._finish(trailers(self._state.refuse(error, self._asked, quiet=quiet)))

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
        """Ends a stream whose message comes too slowly, or that waits for its client while the server stops."""
        if self._buffer and not self._waiting and self._is_slow(tick):
            self._break(DeadlinePassed("request timeout: the message came too slowly"))
        elif self._state.closing and not self._buffer and self._wake is not None and not self._wake.done():
            self._break(NotReady("the server stops; open another stream"), quiet=True)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
