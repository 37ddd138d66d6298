"""Finds workers that run but have to be replaced, and requests that no worker may run again.

The signs of life on the board are what a worker says of itself: with them, a hostile model can have its own worker
replaced, or requests refused that its worker has in hand, and nothing else.
"""

import time
from collections import deque
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

from runtime.link.board import POISONED, Board

_GRACE_SECONDS: Final = 2.0
"""After a deadline, so that a call can be interrupted and a heartbeat can come."""
_LARGEST: Final = 2.0**53
_POISONED_SECONDS: Final = 600.0


class Vitals:
    """The signs of life of all workers. A worker has `deadline_seconds` for a prediction; 0: no limit."""

    def __init__(self, board: Board, deadline_seconds: float) -> None:
        self._board, self._deadline = board, deadline_seconds
        self._stopped: dict[int, int] = {}
        self._beats: dict[int, tuple[float, float]] = {}  # by slot: the last beat, and when this process first saw it
        self._poisoned: deque[tuple[float, float]] = deque(maxlen=POISONED)  # fingerprints, refused until when
        self._suspected: dict[float, float] = {}  # fingerprints that were in hand beside others, until when

    def stuck(self, slot: int, pid: int) -> str:
        """Returns why the worker in `slot` has to be replaced; "" if it need not."""
        if self._is_stopped(pid):
            return "it was stopped by a signal"
        signs, now = self._board.signs(slot), time.monotonic()
        last, since = self._beats.get(slot, (0.0, now))
        if last == 0.0 or (signs.beat != last and 0 < signs.beat <= now):  # no time of the past is no beat
            self._beats[slot] = last, since = signs.beat, now
        if not self._deadline:
            return ""
        if 0 < signs.late < now - _GRACE_SECONDS:
            return f"a prediction goes on {now - signs.late:.0f} s after its deadline"
        if since < now - self._deadline - _GRACE_SECONDS:
            return f"its event loop has not run for {now - since:.0f} s"
        return ""

    def holds_loop(self, slot: int) -> bool:
        """Returns whether a call of the worker in `slot` may hold its event loop past its deadline, not `stuck` yet."""
        _, since = self._beats.get(slot, (0.0, inf))
        return 0 < self._deadline < time.monotonic() - since

    def died(self, slot: int) -> int:
        """Notes the requests that a worker had in hand when it ended; returns how many are refused from now on.

        A request that was the only one is refused after one death; of several, one that was there at two deaths.
        """
        signs, now = self._board.signs(slot), time.monotonic()
        in_hand = {cell for cell in signs.in_hand if 0 < cell < _LARGEST}
        signs.clear()
        self._beats.pop(slot, None)
        self._suspected = {print_: until for print_, until in self._suspected.items() if until > now}
        guilty = in_hand if len(in_hand) == 1 else in_hand & self._suspected.keys()
        for fingerprint in in_hand - guilty:
            self._suspected[fingerprint] = now + _POISONED_SECONDS
        self._poisoned.extend((fingerprint, now + _POISONED_SECONDS) for fingerprint in guilty)
        self.tell()
        return len(guilty)

    def tell(self) -> None:
        """Writes on the board which requests are refused now."""
        now = time.monotonic()
        while self._poisoned and self._poisoned[0][1] < now:
            self._poisoned.popleft()
        for index in range(POISONED):
            self._board.poisoned[index] = self._poisoned[index][0] if index < len(self._poisoned) else 0.0

    def _is_stopped(self, pid: int) -> bool:
        """Returns True if a process was stopped at two looks in a row: a debugger may stop it for a moment."""
        state = ""
        with suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        looks = self._stopped.pop(pid, 0) + 1
        if state not in ("T", "t"):
            return False
        self._stopped[pid] = looks
        return looks > 1
