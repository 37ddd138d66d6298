"""What all connections of a server share; what answers requests is a subclass of it."""

from typing import Final, Generic, TypeVar

from runtime.link.limits import Limits
from runtime.link.metrics import reason_of
from runtime.log import Log
from runtime.serving.base_server import Accounts
from runtime.serving.health import Health
from runtime.serving.http2.frames import Broken
from runtime.serving.http2.hpack import Header
from runtime.serving.http2.output import Output
from runtime.serving.http2.stream import Stream
from runtime.serving.trail import request_id

T = TypeVar("T")

_LEAST: Final = 256
"""Streams that a connection may have, however few permits there are. A client library keeps further calls to itself
until one has ended: with half of the permits no connection keeps the others out."""


class State(Accounts, Generic[T]):
    """`T` is what `understand` makes of a request's headers."""

    def __init__(self, health: Health, limits: Limits, log: Log) -> None:
        super().__init__(health, limits, log)
        self.most_streams = max(_LEAST, limits.in_flight // 2)

    def understand(self, headers: list[Header] | None) -> T:
        """Returns what `open` gets; `headers` are None where they were too long. Raises nothing."""
        raise NotImplementedError

    def open(self, output: Output, number: int, head: T) -> Stream:
        """Returns the stream of a new request."""
        raise NotImplementedError

    def refused(self, broken: Broken) -> None:
        """Logs what ended a connection."""
        self.log.refused(400, reason_of(400), id=request_id({}), reason=f"HTTP/2: {broken}")
