"""A call: one request, as far as the engine needs to know it."""

from typing import Protocol, TypeVar

from adapters.values import Arrays
from runtime.errors import DeadlinePassed
from runtime.serving.engine.request import Request

T_co = TypeVar("T_co", covariant=True)


class Call(Protocol[T_co]):
    """How to read a request, how to answer it, and its account."""

    arrived: float
    """`perf_counter()` when the request was whole: the deadline counts from here."""
    body_bytes: int
    deadline_seconds: float
    """Its deadline after that; 0: none. `decode` may bring it forward."""
    queued: float
    """Seconds that it waited for threads. This and the next three are written by the engine."""
    started: float
    """`perf_counter()` when the model began with it."""
    computed: float
    """Seconds that the model took, for its whole batch."""
    encoded: float
    """Seconds that `encode` took."""

    @property
    def light(self) -> bool:
        """Whether even a long body is decoded in microseconds."""

    def decode(self) -> Request:
        """Returns the request. Called once, in a thread if the body is long and not light."""

    def encode(self, request: Request, outputs: Arrays, /) -> T_co:
        """Returns the answer. Called once, in the thread where the model ran."""


def too_late(seconds: float) -> DeadlinePassed:
    """Returns what a client is told whose request took longer than its deadline."""
    return DeadlinePassed(f"deadline exceeded: no answer within {seconds:g} s")
