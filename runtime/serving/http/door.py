"""The door without ASGI: a whole, ordinary infer request is answered by the connection that it came on.

No scope, no task, no event. Whatever is unusual about a request sends it the other way, to the application, and both
ways give the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.serving.http.deadlines import ANSWER, IDLE
from runtime.serving.http.exchange import SKIPPED_BYTES, Exchange
from runtime.serving.inference import infer
from runtime.serving.statuses import Response

if TYPE_CHECKING:
    from runtime.serving.engine.predictor import Predictor
    from runtime.serving.http.connection import Connection
    from runtime.serving.media import Head


class Known(NamedTuple):
    """A head that has been parsed, checked and let through the door, and may simply come again.

    Clients send the same bytes with every request of a kind. A piece of data that is exactly this head and a body of
    the length it announces needs no parser: nothing it could find would be new.
    """

    head: bytes
    whole: int
    """Bytes of head and body together."""
    path: str
    headers: dict[bytes, bytes]


_NONE: Final = Known(b"", -1, "", {})


class Door:
    """One connection's."""

    __slots__ = ("_connection", "_known", "_length", "_path", "used")

    def __init__(self, connection: Connection) -> None:
        self._connection, self._known = connection, _NONE
        self._path, self._length = "", 0
        self.used = False
        """Whether a request of the current piece of data went through."""

    def knows(self, data: bytes) -> bool:
        """Whether `data` was a known request and has been taken care of."""
        connection, known = self._connection, self._known
        if len(data) != known.whole or connection.waits_for != IDLE or not connection.between:
            return False
        if connection.flow.write_paused or not data.startswith(known.head):
            return False
        predictor = connection.state.door(known.path)
        if predictor is None:
            return False
        exchange = Exchange(connection, [], keep_alive=True, continues=False, short=True)
        exchange.more_body = False
        connection.newest = connection.exchange = exchange
        connection.waits_for = ANSWER
        self._answer(exchange, predictor, known.headers, data[len(known.head) :])
        return True

    def lets(self, exchange: Exchange, path: str, length: int) -> bool:
        """Whether the request may go through once it is whole: nothing before it, nothing unusual about it.

        Of several in one piece of data only the first may, or a pipelining client would hold the loop; and none of a
        client that does not read its answers, which would pile up.
        """
        connection = self._connection
        if length > min(SKIPPED_BYTES, connection.limits.longest_body) or exchange.continues or self.used:
            return False
        if connection.exchange is not None or connection.flow.write_paused:
            return False
        exchange.predictor, self._path, self._length = connection.state.door(path), path, length
        return exchange.predictor is not None

    def enter(self, exchange: Exchange) -> None:
        """Has a whole request answered that was let through."""
        assert exchange.predictor is not None
        self._answer(exchange, exchange.predictor, dict(exchange.headers), exchange.body())

    def remember(self, data: bytes, exchange: Exchange | None) -> None:
        """Keeps the head of the one request that `data` is, if that is what it is: whole, alone and from its start."""
        if exchange is None or exchange.predictor is None or not exchange.keep_alive or not self._connection.between:
            return
        length = self._length
        if data.find(b"\r\n\r\n") + 4 + length == len(data):
            self._known = Known(data[: len(data) - length], len(data), self._path, dict(exchange.headers))

    def _answer(self, exchange: Exchange, predictor: Predictor, head: Head, body: bytes) -> None:
        self.used = True
        response = infer(predictor, head, body)
        if isinstance(response, Response):
            exchange.answer(response)
        else:
            self._connection.run(exchange, exchange.answer_later(response))
