"""Do requests arrive together, from several clients? What one client sends by itself need not wait for others."""

import asyncio
from time import perf_counter

_CROWDED_SECONDS = 0.05
"""How long after requests arrived together others are expected to."""
_OWN = 2
"""Requests that one client may send in two turns of the event loop: its next one follows the answer at once."""


class Arrivals:
    """Counts the requests of the last two turns of the event loop; all is called on its thread."""

    def __init__(self) -> None:
        self.crowded_until = 0.0
        self._came = 0

    def note(self) -> None:
        """Notes a request."""
        if not self._came:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._forget)
        self._came += 1

    def alone(self, *, busy: bool) -> bool:
        """Returns True if no other request would wait while one holds the loop: none is under way, as `busy` says,
        none was a moment ago, and none came while the last one held the loop."""
        now = perf_counter()
        if busy or self._came:
            self.crowded_until = now + _CROWDED_SECONDS
        return now > self.crowded_until

    def together(self) -> bool:
        """Notes a request. Returns True if more arrived than one client sends, now or a moment ago."""
        now = perf_counter()
        self.note()
        if self._came > _OWN:
            self.crowded_until = now + _CROWDED_SECONDS
        return now < self.crowded_until

    def _forget(self) -> None:
        self._came = 0
