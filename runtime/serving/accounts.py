"""What requests took: noted in a tenth of a microsecond each, and counted in the slot of metrics a moment later.

The numbers of an answered request go to the end of a list. Every 50 ms numpy sorts all of them into their buckets at
once: one by one, each request would take five times as long. Everything here is called on the event loop.
"""

import asyncio
from bisect import bisect_left
from contextlib import suppress
from struct import pack
from time import time
from typing import Any, Final

import numpy as np

from runtime.link.meter import Meter
from runtime.link.metrics import BATCHES, BUCKETS, OFFSETS, OUTCOMES, ROWS, RUN, SIZES, STAGES

_SETTLE_SECONDS: Final = 0.05
_TIMES: Final = 1 + len(STAGES)  # histograms of seconds: of the whole request, and of each stage
_NOTED: Final = _TIMES + 3  # numbers of a request: those, its rows, the bytes of its body and of its answer
_BOUNDS, _ROW_BOUNDS, _SIZES = np.array(BUCKETS), np.array(ROWS), np.array(SIZES)
_STARTS: Final = RUN * np.arange(_TIMES)[:, None]
_STAGES: Final = slice(OFFSETS["runtime_request_stage_seconds"], OFFSETS["runtime_request_stage_seconds"] + 4 * RUN)
_BATCH_ROWS: Final = slice(OFFSETS["runtime_batch_rows"], OFFSETS["runtime_batch_rows"] + RUN)
_HALF: Final = len(BATCHES) // 2
_COUNTS, _SECONDS = slice(BATCHES.start, BATCHES.start + _HALF), slice(BATCHES.start + _HALF, BATCHES.stop)
_LAST, _ROWS = OFFSETS["runtime_last_answer_timestamp_seconds"], OFFSETS["runtime_rows_total"]


class Account:
    """The requests of one model in one protocol, a number below PROTOCOLS."""

    __slots__ = ("_bytes_in", "_bytes_out", "_cells", "_note", "_noted", "_runs", "_slot")

    def __init__(self, meter: Meter, protocol: int) -> None:
        self._cells, self._slot = meter.slot, np.asarray(meter.slot)
        self._noted: list[float] = []
        self._note = self._noted.extend
        self._runs = OFFSETS["runtime_request_duration_seconds"] + protocol * len(OUTCOMES) * RUN
        self._bytes_in = OFFSETS["runtime_request_bytes_total"] + protocol
        self._bytes_out = OFFSETS["runtime_response_bytes_total"] + protocol

    def answered(self, *numbers: float) -> None:
        """Notes a request that is answered: its seconds in all, in the queue, decoding, in the model and encoding, its
        rows, the bytes of its body and of its answer."""
        if not self._noted:
            with suppress(RuntimeError):  # there is no loop: what is noted is counted when somebody asks
                asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self.settle)
        self._note(numbers)

    def failed(self, outcome: str, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Counts a request that is answered with an error."""
        run, slot = self._runs + OUTCOMES.index(outcome) * RUN, self._cells
        slot[run + bisect_left(BUCKETS, seconds)] += 1
        slot[run + RUN - 1] += seconds
        slot[self._bytes_in] += bytes_in
        slot[self._bytes_out] += bytes_out

    def settle(self) -> None:
        """Counts what was noted."""
        if not self._noted:
            return
        packed = pack(f"{len(self._noted)}d", *self._noted)
        self._noted.clear()
        columns = np.ascontiguousarray(np.frombuffer(packed).reshape(-1, _NOTED).T)
        times, (rows, bytes_in, bytes_out), slot = columns[:_TIMES], columns[_TIMES:], self._slot
        runs = np.bincount((_BOUNDS.searchsorted(times) + _STARTS).ravel(), minlength=_TIMES * RUN).astype(float)
        runs[RUN - 1 :: RUN] = times.sum(axis=1)
        slot[self._runs : self._runs + RUN] += runs[:RUN]
        slot[_STAGES] += runs[RUN:]
        slot[_ROWS] += rows.sum()
        slot[self._bytes_in] += bytes_in.sum()
        slot[self._bytes_out] += bytes_out.sum()
        slot[_LAST] = time()
        self._count_batches(rows, times)

    def _count_batches(self, rows: "np.ndarray[Any, Any]", times: "np.ndarray[Any, Any]") -> None:
        """Counts the predictions of requests that ran on the event loop, each alone; `Meter.ran` has the others."""
        alone = times[1] == 0.0
        rows, seconds, slot = rows[alone], times[3][alone], self._slot
        slot[_BATCH_ROWS][:-1] += np.bincount(_ROW_BOUNDS.searchsorted(rows), minlength=RUN - 1)
        slot[_BATCH_ROWS.stop - 1] += rows.sum()
        sizes = _SIZES.searchsorted(rows)
        slot[_COUNTS] += np.bincount(sizes, minlength=_HALF)
        slot[_SECONDS] += np.bincount(sizes, seconds, minlength=_HALF)
