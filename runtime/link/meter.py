"""Who writes a slot of metrics: everything but what `serving/accounts.py` counts."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING, cast

from runtime.link.metrics import BATCHES, OFFSETS, PHASES, REASONS, ROWS, RUN, SIZES, WIDTH, counts

if TYPE_CHECKING:
    from runtime.link.limits import Limits

_IN_FLIGHT, _RUNNING = OFFSETS["runtime_requests_in_flight"], OFFSETS["runtime_requests_running"]
_ROWS_IN_FLIGHT, _BYTES_IN_FLIGHT = OFFSETS["runtime_in_flight_rows"], OFFSETS["runtime_in_flight_bytes"]
_BATCH_ROWS = OFFSETS["runtime_batch_rows"]
_ERRORS = {reason: OFFSETS["runtime_errors_total"] + place for place, (_, reason) in enumerate(REASONS)}


class Meter:
    """Writes one slot, of a process and its model. A new owner goes on with the counters of the last one."""

    __slots__ = ("_running", "slot")

    def __init__(self, slot: memoryview[float]) -> None:
        if slot.format != "d" or len(slot) < WIDTH:
            raise ValueError(f"a slot is {WIDTH} doubles, got {len(slot)} of format {slot.format!r}")
        slot[:] = memoryview(array("d", counts(slot)))
        self.slot = cast("MutableSequence[float]", slot)
        self._running = threading.Lock()
        self.in_flight(0, 0, 0)
        self.set("runtime_requests_running", 0.0)

    def set(self, gauge: str, value: float) -> None:
        """Notes the value of one of this process's gauges without labels, or of its model."""
        self.slot[OFFSETS[gauge]] = value

    def add(self, counter: str, count: int) -> None:
        """Counts `count` more of what one of this process's counters without labels counts."""
        self.slot[OFFSETS[counter]] += count

    def limits(self, limits: Limits) -> None:
        """Notes how much may be in flight."""
        self.set("runtime_in_flight_limit", limits.in_flight)
        self.set("runtime_in_flight_rows_limit", limits.in_flight_rows)
        self.set("runtime_in_flight_bytes_limit", limits.in_flight_bytes)

    def pull_took(self, phase: str, seconds: float) -> None:
        """Notes what one of the PHASES of a pull took."""
        self.slot[OFFSETS["runtime_pull_seconds"] + PHASES.index(phase)] = seconds

    def uses(self, usage: Mapping[str, float]) -> None:
        """Notes what this process uses of the machine."""
        for metric, value in usage.items():
            self.slot[OFFSETS[metric]] = value

    def in_flight(self, requests: int, rows: int, bytes_: int) -> None:
        """Notes what runs in threads, or waits for one."""
        slot = self.slot
        slot[_IN_FLIGHT], slot[_ROWS_IN_FLIGHT], slot[_BYTES_IN_FLIGHT] = requests, rows, bytes_

    def running(self, more: int) -> None:
        """Notes that `more` requests run in a thread, or fewer; in any thread."""
        with self._running:
            self.slot[_RUNNING] += more

    def ran(self, rows: int, seconds: float) -> None:
        """Counts a prediction of `rows` rows that ran in a thread, and its seconds in the model."""
        slot, at = self.slot, BATCHES.start + bisect_left(SIZES, rows)
        slot[_BATCH_ROWS + bisect_left(ROWS, rows)] += 1.0
        slot[_BATCH_ROWS + RUN - 1] += rows
        slot[at] += 1.0
        slot[at + len(SIZES) + 1] += seconds

    def error(self, reason: str) -> None:
        """Counts a request that was answered with an error, for one of the REASONS."""
        self.slot[_ERRORS[reason]] += 1.0
