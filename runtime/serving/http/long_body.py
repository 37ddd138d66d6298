"""A long request body, received where it will be read, without the parser and without ASGI."""

import asyncio
from collections.abc import Callable

import numpy as np

from runtime.errors import Overloaded, RequestFailed
from runtime.serving.asgi import SLOW, Arrival, Bodies
from runtime.serving.inference import Endpoint
from runtime.serving.media import Body, Head
from runtime.serving.protocol.tensor_bytes import ALIGNMENT


class LongBody(asyncio.BufferedProtocol):
    """Receives a body in place of the connection `owner`, which hears of each piece (`more`) and ends it (`stop`), and
    which refuses it with a text if memory is short (`give_way`)."""

    def __init__(self, endpoint: Endpoint, head: Head, length: int, *, at: int | None, bodies: Bodies,
                 owner: asyncio.Protocol, more: Callable[[int], None],
                 give_way: Callable[[str], None]) -> None:  # fmt: skip
        self.endpoint, self.head = endpoint, head
        self._bodies, self._owner, self._more, self._at = bodies, owner, more, at
        padding = -(at or 0) % ALIGNMENT
        self._memory = np.empty(padding + length, np.uint8).data[padding:]
        self._received = 0
        self._give_way = give_way
        self._arrival = Arrival(lambda: give_way(SLOW))
        self._transport: asyncio.Transport | None = None
        self.pause_writing, self.resume_writing = owner.pause_writing, owner.resume_writing  # type: ignore[method-assign]
        self.connection_lost, self.eof_received = owner.connection_lost, owner.eof_received  # type: ignore[method-assign]

    @classmethod
    def begun(cls, endpoint: Endpoint, head: Head, length: int, bodies: Bodies, owner: asyncio.Protocol,
              more: Callable[[int], None], give_way: Callable[[str], None]) -> "LongBody | None":  # fmt: skip
        """Returns what receives the body of a request; None if it has to be refused, which the application does."""
        try:
            codec = endpoint.codec(head)
        except RequestFailed:
            return None
        if length > codec.longest_body:
            return None
        at = codec.binary_at(head)
        return cls(endpoint, head, length, at=at, bodies=bodies, owner=owner, more=more, give_way=give_way)

    @property
    def left(self) -> int:
        """Returns how many bytes have yet to come."""
        return len(self._memory) - self._received

    def put(self, piece: bytes) -> None:
        """Takes a piece that has come to the connection."""
        end = self._received + len(piece)
        self._memory[self._received : end] = piece
        self._received = end

    def receive(self, transport: asyncio.Transport) -> None:
        """Has the event loop read the rest into this body's memory."""
        self._transport = transport
        _hand_over(transport, self)
        self._fits(self._received)

    def stop(self) -> None:
        """Gives the transport back to the connection, and no longer counts the body."""
        self._bodies.ended(self._arrival)
        if self._transport is not None:
            _hand_over(self._transport, self._owner)

    def whole(self) -> Body:
        """Returns the body."""
        return bytes(self._memory) if self._at is None else self._memory

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Returns where the next bytes go."""
        return self._memory[self._received :]

    def buffer_updated(self, nbytes: int) -> None:
        """Notes that bytes have come."""
        self._received += nbytes
        if self._fits(nbytes):
            self._more(nbytes)

    def _fits(self, more: int) -> bool:
        try:
            self._bodies.came(self._arrival, more)
        except Overloaded as error:
            self._give_way(str(error))
            return False
        return True


def _hand_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    if transport.is_closing():
        return
    transport.pause_reading()  # uvloop looks at what kind of protocol it is when it begins to read
    transport.set_protocol(protocol)
    transport.resume_reading()
