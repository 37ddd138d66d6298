"""The deadlines of all jobs of an engine, with one timer: a timer each would cost a tenth of a short request."""

import asyncio
from collections.abc import Callable, Hashable
from math import inf
from time import perf_counter
from typing import Generic, TypeVar

J = TypeVar("J", bound=Hashable)


class Deadlines(Generic[J]):
    """Calls `expire` with each job whose deadline has passed, and the seconds it had; all on the event loop."""

    def __init__(self, expire: Callable[[J, float], None]) -> None:
        self._expire = expire
        self._due: dict[J, tuple[float, float]] = {}
        """When each job expires, on the clock of `perf_counter`, and the seconds it had."""
        self._next = inf
        """When the timer looks; not later than the first deadline."""
        self._timer: asyncio.TimerHandle | None = None

    def set(self, job: J, until: float, seconds: float) -> None:
        """Notes the deadline of a job, in place of the one it had."""
        self._due[job] = until, seconds
        if until < self._next:
            self._look_at(until)

    def forget(self, job: J) -> None:
        """Notes that a job has ended."""
        self._due.pop(job, None)

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = moment
        self._timer = asyncio.get_running_loop().call_later(max(0.0, moment - perf_counter()), self._look)

    def _look(self) -> None:
        now, self._timer, self._next = perf_counter(), None, inf
        for job, seconds in [(job, seconds) for job, (until, seconds) in self._due.items() if until <= now]:
            del self._due[job]
            self._expire(job, seconds)
        if self._due:
            self._look_at(min(until for until, _ in self._due.values()))
