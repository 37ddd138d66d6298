"""Which worker has to be replaced though it runs, and which requests no worker shall run again.

What a worker writes on the board is its own word: one that a model has taken over can have itself replaced, or requests
like those that it works on refused, and nothing else.
"""

import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.link.board import POISONED, Board

_GRACE_SECONDS: Final = 2.0
"""After a deadline: for calls that can be interrupted to end, and for a heartbeat to come."""
_LARGEST: Final = 2.0**53
_POISONED_SECONDS: Final = 600.0


class Vitals:
    """The signs of life of all workers. A worker has `deadline_seconds` for a prediction; 0: no limit."""

    def __init__(self, board: Board, deadline_seconds: float) -> None:
        self._board, self._deadline = board, deadline_seconds
        self._stopped: dict[int, int] = {}
        self._beats: dict[int, tuple[float, float]] = {}  # of each slot the last one, and when it was first seen
        self._poisoned: deque[tuple[float, float]] = deque(maxlen=POISONED)  # fingerprints, and until when
        self._suspected: dict[float, float] = {}  # fingerprints that were in hand with others, and until when

    def stuck(self, slot: int, pid: int) -> str:
        """Returns why the worker in `slot` has to be replaced; "" if it need not."""
        if self._is_stopped(pid):
            return "it was stopped by a signal"
        signs, now = self._board.signs(slot), time.monotonic()
        last, since = self._beats.get(slot, (0.0, now))
        if last == 0.0 or (signs.beat != last and 0 < signs.beat <= now):  # what is no time is no beat
            self._beats[slot] = last, since = signs.beat, now
        if not self._deadline:
            return ""
        if 0 < signs.late < now - _GRACE_SECONDS:
            return f"a prediction goes on {now - signs.late:.0f} s after its deadline"
        if since < now - self._deadline - _GRACE_SECONDS:
            return f"its event loop has not run for {now - since:.0f} s"
        return ""

    def died(self, slot: int) -> int:
        """Notes the requests that a worker had in hand when it ended; returns how many are refused from now on.

        A request that was alone is refused at once. Of several, one that was there when two workers ended.
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
        """Tells all workers which requests are refused, for their time."""
        now = time.monotonic()
        while self._poisoned and self._poisoned[0][1] < now:
            self._poisoned.popleft()
        for index in range(POISONED):
            self._board.poisoned[index] = self._poisoned[index][0] if index < len(self._poisoned) else 0.0

    def _is_stopped(self, pid: int) -> bool:
        """True if a process was found stopped two looks in a row: a debugger may stop it for a moment."""
        state = ""
        with suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        looks = self._stopped.pop(pid, 0) + 1
        if state not in ("T", "t"):
            return False
        self._stopped[pid] = looks
        return looks > 1
