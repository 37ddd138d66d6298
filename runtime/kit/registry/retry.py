"""How long and how often a registry is asked again: exponential pauses with full jitter, inside one budget of seconds.

The budget runs from the last progress, so a slow pull over a bad line goes on as long as it gets anywhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from runtime.errors import RegistryUnavailable

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_T = TypeVar("_T")


class Transient(Exception):
    """A failure that may go away by itself. `retry_after`: seconds that the registry asked us to wait."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Patience:
    """Counts attempts and seconds for one thing wanted from one host.

    `pause` sleeps; it raises Cancelled when the pull is cancelled meanwhile.
    """

    def __init__(self, host: str, budget_seconds: float, pause: Callable[[float], None]) -> None:
        self._host, self._budget, self._pause = host, budget_seconds, pause
        self.progressed()

    def progressed(self) -> None:
        """Start anew: something was achieved."""
        self._failures, self._since = 0, time.monotonic()

    def left(self) -> float:
        """Seconds of the budget that are not spent."""
        return max(0.0, self._budget - (time.monotonic() - self._since))

    def after(self, failure: Transient) -> None:
        """Pause before the next attempt. Raises RegistryUnavailable once the budget is spent."""
        self._failures += 1
        left = self.left()
        if left <= 0:
            spent = time.monotonic() - self._since
            tried = f"{self._failures} attempt{'s' * (self._failures > 1)} in {spent:.1f} s"
            raise RegistryUnavailable(
                f"{self._host} is unavailable: {failure} ({tried}, --retry-budget {self._budget:g}); "
                "is the host right, and can it be reached from here?"
            ) from failure
        self._pause(min(left, self._seconds(failure)))

    def persist(self, attempt: Callable[[], _T]) -> _T:
        """Result of the first attempt that raises no Transient."""
        while True:
            try:
                return attempt()
            except Transient as failure:
                self.after(failure)

    def _seconds(self, failure: Transient) -> float:
        if failure.retry_after is not None:
            return failure.retry_after
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1))
        return random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing
