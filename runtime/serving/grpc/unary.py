"""A call with one message and one answer."""

import asyncio
from functools import partial

from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, RequestFailed
from runtime.serving.grpc.exchange import PREFIX, GrpcCall, trailers
from runtime.serving.grpc.metadata import BEGIN
from runtime.serving.grpc.state import Method
from runtime.serving.inference import Later
from runtime.serving.media import Body
from runtime.serving.statuses import Response


class Unary(GrpcCall):
    """It is answered in the read that brings it, where the model is cheap."""

    __slots__ = ("_compressed", "_whole")
    _whole: Body

    def received(self, piece: bytes, *, ended: bool) -> bool:
        """Takes a piece of the message; most messages come in one."""
        if self._gone:
            return True
        if ended and not self._buffer and len(piece) >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(piece)
            if not compressed and length == len(piece) - PREFIX.size and length <= self._state.limits.body_bytes:
                self._compressed, self._whole = False, piece[PREFIX.size :]
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
            whole, self._buffer = self._buffer, bytearray()
            self._whole = memoryview(whole)[PREFIX.size :]  # no copy: it may be long
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
                computed = self._pending = answer.computed
                self._state.pending.add(computed)
                computed.add_done_callback(partial(self._computed, answer))
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

    def _computed(self, later: Later, computed: asyncio.Future[Response]) -> None:
        self._pending = None
        self._state.pending.discard(computed)
        try:
            response = later.take()
            if response is not None:
                self._answer(response)
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
        prefix = PREFIX.pack(0, length)
        pieces = (prefix, response.body, *response.tail) if response.tail else (prefix, response.body)
        self._output.answer(self, BEGIN, pieces, length + PREFIX.size, block)

    def look(self, tick: int) -> None:
        """Refuses a message that comes too slowly."""
        if self._is_slow(tick):
            self.refuse(DeadlinePassed("request timeout: the message came too slowly"))
