"""How long and how often a registry is asked again: exponential pauses with full jitter, within a budget of seconds.

The budget starts again with each progress, so a slow pull over a bad line goes on as long as bytes come.
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from runtime.errors import RegistryUnavailable

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LONGEST_ASKED_SECONDS: Final = 120.0  # longer than that the registry's word counts only within the budget
_TOLD_SECONDS: Final = 1.0  # a shorter pause is not worth a line
_T = TypeVar("_T")
Pause = Callable[[float], None]
Tell = Callable[[str], object]


class Transient(Exception):
    """A failure that may pass. `retry_after`: seconds that the registry asked to wait."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RetryBudget:
    """Counts attempts and seconds for one thing wanted from one host. `pause` sleeps; it may raise to give up.

    `tell` gets the reason of each pause of a second or more.
    """

    def __init__(self, host: str, seconds: float, pause: Pause, tell: Tell = lambda reason: None) -> None:
        self._host, self._seconds, self._pause, self._tell = host, seconds, pause, tell
        self.restart()

    def restart(self) -> None:
        """Starts the budget again, after progress."""
        self._failures, self._since = 0, time.monotonic()

    def left(self) -> float:
        """Returns the seconds of the budget that are not spent."""
        return max(0.0, self._seconds - (time.monotonic() - self._since))

    def wait_after(self, failure: Transient) -> None:
        """Pauses before the next attempt. Raises RegistryUnavailable once the budget is spent."""
        self._failures += 1
        left = self.left()
        if left <= 0:
            spent = time.monotonic() - self._since
            tried = f"{self._failures} attempt{'s' * (self._failures > 1)} in {spent:.1f} s"
            seen = f"{self._host} is unavailable: {failure} ({tried}, --retry-budget {self._seconds:g})"
            raise RegistryUnavailable(f"{seen}; is the host right, and can it be reached from here?") from failure
        pause = failure.retry_after
        if pause is None:
            longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1))
            pause = random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing
        if failure.retry_after is None or pause > _LONGEST_ASKED_SECONDS:
            pause = min(left, pause)
        if pause >= _TOLD_SECONDS:
            self._tell(f"{self._host}: {failure}; it is asked again in {pause:.0f} s")
        self._pause(pause)

    def run(self, attempt: Callable[[], _T]) -> _T:
        """Returns the result of the first attempt that raises no Transient."""
        while True:
            try:
                return attempt()
            except Transient as failure:
                self.wait_after(failure)
