"""One block of shared memory in which the supervisor and the workers tell one another how they are.

The block is a memfd, inherited by every worker, seen as doubles. It starts with a header (phase, progress, readiness of
each worker), then come `slots` areas of `width` doubles for metrics: slot 0 is the supervisor's, the others are the
workers'. Each double has one writer, and an aligned double is written in one go, so readers need no lock.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

PHASES: Final = ("starting", "pulling", "loading", "ready", "draining", "failed")

_DOUBLE: Final = 8
_SLOTS, _WIDTH, _PHASE, _DONE_BYTES, _TOTAL_BYTES, _READY = range(6)


class Board:
    """The block, mapped into this process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._cells: memoryview[float] = memoryview(mmap.mmap(fd, 0)).cast("d")
        self.slots = int(self._cells[_SLOTS])
        self._width = int(self._cells[_WIDTH])

    @classmethod
    def create(cls, slots: int, width: int) -> Board:
        """A new block with room for `slots` slots of `width` doubles each."""
        fd = os.memfd_create("runtime-board")
        os.truncate(fd, (_READY + slots + slots * width) * _DOUBLE)
        with mmap.mmap(fd, 0) as block:
            header = memoryview(block).cast("d")
            header[_SLOTS], header[_WIDTH] = slots, width
            header.release()
        return cls(fd)

    def slot(self, index: int) -> memoryview[float]:
        """The `width` doubles of one slot."""
        start = _READY + self.slots + index * self._width
        return self._cells[start : start + self._width]

    @property
    def phase(self) -> str:
        """How far the whole server is: one of PHASES."""
        return PHASES[int(self._cells[_PHASE])]

    @phase.setter
    def phase(self, phase: str) -> None:
        self._cells[_PHASE] = PHASES.index(phase)

    @property
    def draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._cells[_PHASE] == _DRAINING

    @property
    def progress_bytes(self) -> tuple[int, int]:
        """Bytes pulled so far, and bytes to pull in all."""
        return int(self._cells[_DONE_BYTES]), int(self._cells[_TOTAL_BYTES])

    @progress_bytes.setter
    def progress_bytes(self, progress: tuple[int, int]) -> None:
        self._cells[_DONE_BYTES], self._cells[_TOTAL_BYTES] = progress

    def set_ready(self, index: int, ready: bool) -> None:
        """Notes whether the worker in slot `index` has a model that passed its self-test."""
        self._cells[_READY + index] = ready

    @property
    def workers_ready(self) -> int:
        """How many workers have a model that passed its self-test."""
        return int(sum(self._cells[_READY : _READY + self.slots]))


_DRAINING: Final = PHASES.index("draining")
