"""Shared memory: what the supervisor tells all workers, and what every process counts. Two memfds of doubles.

`control` is written by the supervisor alone, its own metrics included, and sealed (fcntl(2), F_SEAL_FUTURE_WRITE): no
worker can make it writable. `metrics` has a slot for each worker, its metrics and its signs of life, all writable by
all workers: one that a model has taken over can spoil what a scrape sums up, and have workers replaced. Neither can be
truncated. Each double has one writer and is written in one go, so readers need no lock; what cannot be a count,
they read as 0.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
from array import array
from contextlib import suppress
from typing import Final

PHASES: Final = ("starting", "pulling", "loading", "ready", "failed")

_DOUBLE: Final = 8
_LARGEST_WHOLE: Final = 2.0**53
_FUTURE_WRITE: Final = 0x10  # F_SEAL_FUTURE_WRITE, Linux 5.1
_DRAINING, _HEADER = 3, 4  # behind the numbers of models, slots, and doubles of a slot
_PHASE, _DONE_BYTES, _TOTAL_BYTES, _READY = range(4)
POISONED: Final = 64  # fingerprints of requests that ended workers, in `control`
BREAK_OFF: Final = signal.SIGURG
"""Asks a worker to break off the call that holds its event loop. Ignored by a process that has no handler for it."""
IN_HAND: Final = 64  # fingerprints of a worker's calls that have not ended
WAITING: Final = 8192
"""Descriptors of connections that can be noted as waiting; a confined worker has no more (runtime/worker/powers.py)."""
_BEAT, _LATE, _SIGNS = range(3)
_SLOT: Final = _SIGNS + IN_HAND + WAITING  # doubles of a worker, beside its metrics


class ModelState:
    """How far one model is."""

    def __init__(self, cells: memoryview[float]) -> None:
        self._cells = cells

    @property
    def phase(self) -> str:
        """One of PHASES."""
        return PHASES[min(_whole(self._cells[_PHASE]), len(PHASES) - 1)]

    @phase.setter
    def phase(self, phase: str) -> None:
        self._cells[_PHASE] = PHASES.index(phase)

    @property
    def progress_bytes(self) -> tuple[int, int]:
        """Bytes pulled until now, and bytes to pull in all."""
        return _whole(self._cells[_DONE_BYTES]), _whole(self._cells[_TOTAL_BYTES])

    def note_bytes(self, done: int, total: int) -> None:
        """Writes `progress_bytes`."""
        self._cells[_DONE_BYTES], self._cells[_TOTAL_BYTES] = done, total

    def set_ready(self, slot: int, ready: bool) -> None:
        """Notes whether the worker in `slot` serves this model."""
        self._cells[_READY + slot] = ready

    @property
    def workers_ready(self) -> int:
        """How many workers serve this model."""
        return sum(cell == 1 for cell in self._cells[_READY:])


class Signs:
    """A worker's signs of life, on the clock of `time.monotonic`, and what it works on."""

    def __init__(self, cells: memoryview[float]) -> None:
        self._cells, self.in_hand = cells[:_SIGNS], cells[_SIGNS : _SIGNS + IN_HAND]
        """Fingerprints; 0 is none."""
        self.waiting = cells[_SIGNS + IN_HAND :]
        """By descriptor, since when a client has waited for its answer; 0: it does not. The worker's `survivor` reads
        them after its end, so the slot's next worker clears them."""

    @property
    def beat(self) -> float:
        """When its event loop last ran."""
        return self._cells[_BEAT]

    @property
    def late(self) -> float:
        """Since when a call runs whose deadline has passed; 0: there is none."""
        return self._cells[_LATE]

    def note(self, beat: float, late: float) -> None:
        """Writes both."""
        self._cells[_BEAT], self._cells[_LATE] = beat, late

    def clear(self) -> None:
        """Forgets all but `waiting`: the slot has a new owner."""
        for cells in (self._cells, self.in_hand):
            cells[:] = memoryview(bytes(len(cells) * _DOUBLE)).cast("d")


class Board:
    """Both memfds, mapped into this process."""

    def __init__(self, control: int, metrics: int, *, access: int = mmap.PROT_READ) -> None:
        """Maps what another process created; `access` is what this one may do with `control`."""
        self.files = (control, metrics)
        self._control: memoryview[float] = memoryview(mmap.mmap(control, 0, prot=access)).cast("d")
        self._metrics: memoryview[float] = memoryview(mmap.mmap(metrics, 0)).cast("d")
        models, self.slots, self._width = map(_whole, self._control[:_DRAINING])
        size = _READY + self.slots
        starts = range(_HEADER, _HEADER + models * size, size)
        self.models = tuple(ModelState(self._control[start : start + size]) for start in starts)
        own = _HEADER + models * size
        self._own, self.poisoned = self._control[own : own + self._width], self._control[own + self._width :]
        """Fingerprints of requests that no worker runs; 0 is none."""

    @classmethod
    def create(cls, slots: int, width: int, *, models: int = 1) -> Board:
        """Creates memory for `slots` processes, the supervisor included, with `width` doubles of metrics each."""
        control = _memory("runtime-control", _HEADER + models * (_READY + slots) + width + POISONED)
        metrics = _memory("runtime-board", max(slots - 1, 1) * (width + _SLOT))
        os.pwrite(control, array("d", (models, slots, width)).tobytes(), 0)
        board = cls(control, metrics, access=mmap.PROT_READ | mmap.PROT_WRITE)
        with suppress(OSError):  # a kernel that does not know this seal: workers could write, and still decide nothing
            fcntl.fcntl(control, fcntl.F_ADD_SEALS, _FUTURE_WRITE)
        for file in board.files:
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return board

    def slot(self, index: int) -> memoryview[float]:
        """Returns the doubles of one process's metrics; 0 is the supervisor."""
        return self._slot(index)[: self._width] if index else self._own

    def signs(self, index: int) -> Signs:
        """Returns the signs of life of the worker in slot `index`."""
        return Signs(self._slot(index)[self._width :])

    def _slot(self, index: int) -> memoryview[float]:
        size = self._width + _SLOT
        return self._metrics[(index - 1) * size : index * size]

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._control[_DRAINING] != 0

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._control[_DRAINING] = draining

    @property
    def workers_ready(self) -> int:
        """How many workers serve every model."""
        return min(model.workers_ready for model in self.models)


def _memory(name: str, doubles: int) -> int:
    file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(file, doubles * _DOUBLE)
    return file


def _whole(cell: float) -> int:
    return int(cell) if 0 <= cell < _LARGEST_WHOLE else 0
