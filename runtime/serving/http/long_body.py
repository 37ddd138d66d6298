"""A long request body, received where it will be read, without the parser and without ASGI."""

from collections.abc import Callable

import numpy as np

from runtime.errors import Overloaded, RequestFailed
from runtime.serving.asgi import SLOW, Arrival, Bodies
from runtime.serving.inference import Endpoint
from runtime.serving.media import Body, Head
from runtime.serving.protocol.tensor_bytes import ALIGNMENT


class LongBody:
    """Memory for a body of `length` bytes, whose byte `at` is aligned. `give_way` hears why it has to be refused if
    memory is short."""

    __slots__ = ("_arrival", "_at", "_bodies", "_give_way", "_memory", "_received", "endpoint", "head")

    def __init__(self, endpoint: Endpoint, head: Head, length: int, *, at: int | None, bodies: Bodies,
                 give_way: Callable[[str], None]) -> None:  # fmt: skip
        self.endpoint, self.head = endpoint, head
        self._bodies, self._at, self._give_way = bodies, at, give_way
        padding = -(at or 0) % ALIGNMENT
        self._memory = np.empty(padding + length, np.uint8).data[padding:]
        self._received = 0
        self._arrival = Arrival(lambda: give_way(SLOW))

    @classmethod
    def begun(cls, endpoint: Endpoint, head: Head, length: int, bodies: Bodies,
              give_way: Callable[[str], None]) -> "LongBody | None":  # fmt: skip
        """Returns what receives the body of a request; None if it has to be refused, which the application does."""
        try:
            codec = endpoint.codec(head)
        except RequestFailed:
            return None
        if length > codec.longest_body:
            return None
        return cls(endpoint, head, length, at=codec.binary_at(head), bodies=bodies, give_way=give_way)

    @property
    def left(self) -> int:
        """Returns how many bytes have yet to come."""
        return len(self._memory) - self._received

    @property
    def free(self) -> memoryview:
        """Returns where the next bytes go."""
        return self._memory[self._received :]

    def put(self, piece: Body) -> None:
        """Takes a piece that was received elsewhere."""
        self.free[: len(piece)] = piece
        self._received += len(piece)

    def came(self, size: int) -> None:
        """Counts all that is here, after the next `size` bytes were put in their place."""
        self._received += size
        try:
            self._bodies.came(self._arrival, self._received - self._arrival.bytes)
        except Overloaded as error:
            self._give_way(str(error))

    def end(self) -> None:
        """Stops counting the body."""
        self._bodies.ended(self._arrival)

    def whole(self) -> Body:
        """Returns the body."""
        return bytes(self._memory) if self._at is None else self._memory
