"""Metrics: one table of families, one slot of doubles per process, and who writes it.

A slot is written by one process only, without locks; a scrape (`scrape.py`) reads all of them. `Meter` writes, in half
a microsecond a request. Nothing here imports numpy or prometheus_client.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import MutableSequence

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PROTOCOLS = ("v2_json",)
OUTCOMES = ("ok", "invalid", "unavailable", "deadline", "error")
PHASES = ("resolve", "fetch", "unpack")
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds; one more, without bound, follows."""


class Family(NamedTuple):
    """One metric: `labels` in order; a histogram's and an info's layout are their own."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    unit: str
    help: str
    merge: Literal["sum", "max"] = "sum"
    """What several slots together mean."""

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """Label values, without `model`, that each have their own double (histogram: their own run of doubles)."""
        rows: tuple[tuple[str, ...], ...] = ((),)
        for label in self.labels:
            values = _CLOSED.get(label)
            if values is not None:
                rows = tuple((*row, value) for row in rows for value in values)
        return rows

    @property
    def width(self) -> int:
        """Doubles that one slot holds for it."""
        if self.kind == "info":
            return 0
        return len(self.cells) * (RUN if self.kind == "histogram" else 1)


_CLOSED = {"protocol": PROTOCOLS, "outcome": OUTCOMES, "phase": PHASES}
RUN = len(BUCKETS) + 2
"""Doubles of one histogram: each bucket's own count, the one without bound, then the sum of seconds."""

FAMILIES = (
    Family("runtime_request_duration_seconds", "histogram", ("model", "protocol", "outcome"), "seconds",
           "Time from a whole request to its whole answer, network excluded."),
    Family("runtime_requests_in_flight", "gauge", ("model",), "requests", "Inference requests being worked on."),
    Family("runtime_rows_total", "counter", ("model",), "rows", "Rows (first axis of the first input) predicted."),
    Family("runtime_request_bytes_total", "counter", ("model", "protocol"), "bytes", "Bytes of inference bodies read."),
    Family("runtime_response_bytes_total", "counter", ("model", "protocol"), "bytes",
           "Bytes of inference answers written, errors included."),
    Family("runtime_model_load_seconds", "gauge", ("model",), "seconds",
           "Time the slowest worker took to load its model.", "max"),
    Family("runtime_pull_seconds", "gauge", ("phase",), "seconds", "Time each phase of the pull took.", "max"),
    Family("runtime_verified_bytes_total", "counter", (), "bytes", "Bytes whose digest was checked."),
    Family("runtime_worker_restarts_total", "counter", (), "workers", "Workers that died and were replaced."),
    Family("runtime_workers_ready", "gauge", (), "workers", "Workers that answer predictions."),
    Family("runtime_log_dropped_total", "counter", (), "lines", "Log lines dropped because nobody read them."),
    Family("runtime_unsafe_loading", "gauge", (), "1 or 0", "1 while the trust level is unsafe.", "max"),
    Family("runtime_sandboxed", "gauge", (), "1 or 0", "1 while workers are confined to reading the kit.", "max"),
    Family("runtime_kit_info", "info", ("model", "reference", "digest", "framework", "adapter", "verified"), "1",
           "The kit that is served."),
)  # fmt: skip


def _offsets() -> tuple[dict[str, int], int]:
    at, offsets = 0, {}
    for family in FAMILIES:
        offsets[family.name] = at
        at += family.width
    return offsets, at


OFFSETS, WIDTH = _offsets()
"""Where each family begins in a slot, and how many doubles a slot has."""

_REQUESTS = OFFSETS["runtime_request_duration_seconds"]
_IN_FLIGHT = OFFSETS["runtime_requests_in_flight"]
_ROWS = OFFSETS["runtime_rows_total"]
_BYTES_IN = OFFSETS["runtime_request_bytes_total"]
_BYTES_OUT = OFFSETS["runtime_response_bytes_total"]

OUTCOME_RUNS = {outcome: _REQUESTS + index * RUN for index, outcome in enumerate(OUTCOMES)}
"""Where the histogram of `(v2_json, outcome)` begins: what `Meter.finished` takes."""


class Meter:
    """Writes one slot. Counters go on where the slot's last owner left them; what only he could be doing is reset."""

    __slots__ = ("_slot",)

    def __init__(self, slot: memoryview[float]) -> None:
        if slot.format != "d" or len(slot) < WIDTH:
            raise ValueError(f"a slot is {WIDTH} doubles, got {len(slot)} of format {slot.format!r}")
        self._slot = cast("MutableSequence[float]", slot)
        self._slot[_IN_FLIGHT] = 0.0

    def begun(self) -> None:
        """One inference request more is being worked on."""
        self._slot[_IN_FLIGHT] += 1.0

    def finished(self, run: int, seconds: float, rows: int, bytes_in: int, bytes_out: int) -> None:
        """It is answered; `run` is the outcome's entry in OUTCOME_RUNS."""
        slot = self._slot
        slot[_IN_FLIGHT] -= 1.0
        slot[run + bisect_left(BUCKETS, seconds)] += 1.0
        slot[run + RUN - 1] += seconds
        slot[_ROWS] += rows
        slot[_BYTES_IN] += bytes_in
        slot[_BYTES_OUT] += bytes_out

    def abandoned(self) -> None:
        """Its client left: there is no outcome."""
        self._slot[_IN_FLIGHT] -= 1.0

    def model_loaded(self, seconds: float) -> None:
        """How long this worker's model took to load."""
        self._slot[OFFSETS["runtime_model_load_seconds"]] = seconds

    def pull_phase(self, phase: str, seconds: float) -> None:
        """How long a phase of the pull took: resolve, fetch or unpack."""
        self._slot[OFFSETS["runtime_pull_seconds"] + PHASES.index(phase)] = seconds

    def verified(self, count: int) -> None:
        """So many more bytes have been checked against a digest."""
        self._slot[OFFSETS["runtime_verified_bytes_total"]] += count

    def restarted(self) -> None:
        """A worker died and is being replaced."""
        self._slot[OFFSETS["runtime_worker_restarts_total"]] += 1.0

    def log_dropped(self, lines: int) -> None:
        """So many log lines more were lost."""
        self._slot[OFFSETS["runtime_log_dropped_total"]] += lines

    def sandboxed(self, sandboxed: bool) -> None:
        """Whether this worker is confined."""
        self._slot[OFFSETS["runtime_sandboxed"]] = float(sandboxed)

    def unsafe_loading(self, unsafe: bool) -> None:
        """Whether the trust level is unsafe."""
        self._slot[OFFSETS["runtime_unsafe_loading"]] = float(unsafe)
