"""How fast calls off the loop end: one that would only wait until its deadline has passed is refused at once."""

from time import perf_counter
from typing import Final

_KEPT: Final = 0.99
"""What a call weighs of the next one: some hundred count, which is a few batches."""


class Pace:
    """The time from the end of one call to that of the next, while there are any."""

    def __init__(self, threads: int) -> None:
        self._threads, self._calls, self._seconds, self._last = threads, 0.0, 0.0, 0.0

    def begins(self) -> None:
        """Notes that a call is the first one after a time without any."""
        self._last = perf_counter()

    def ended(self) -> None:
        """Notes that a call has ended."""
        now = perf_counter()
        self._calls, self._seconds = self._calls * _KEPT + 1, self._seconds * _KEPT + now - self._last
        self._last = now

    def seconds_for(self, calls: int) -> float:
        """Returns how long one more call takes behind `calls` others; 0 if one waits at most, or nothing is known."""
        waiting = calls - self._threads
        return (waiting + 1) * self._seconds / self._calls if waiting > 0 and self._calls else 0.0
