"""How long a process waits for another one that has a lock: as long as any process writes to the cache."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

SAID_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 120.0


class Wait:
    """One wait. Called with the seconds that have passed, it says whether to go on; `warn` is called once."""

    def __init__(self, lock: Path, unfinished: Callable[[], list[Path]], warn: Callable[..., None]) -> None:
        self._lock, self._unfinished, self._warn = lock, unfinished, warn
        self._said, self._written, self._since = False, 0.0, 0.0

    def __call__(self, seconds: float) -> bool:
        """Returns True until no unfinished file was written for two minutes."""
        if not self._said and seconds > SAID_SECONDS:
            self._said = True
            self._warn("cache.waiting", reason="another process fetches the same", lock=str(self._lock))
        if (newest := self._last_written()) != self._written:
            self._written, self._since = newest, seconds
        return seconds - self._since < SILENT_SECONDS

    def _last_written(self) -> float:
        with suppress(OSError):
            return max((path.lstat().st_mtime for path in self._unfinished()), default=0.0)
        return time.time()  # something got its name just now
