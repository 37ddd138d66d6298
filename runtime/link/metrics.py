"""Metrics: one table of families, one slot of doubles per process, and who writes it.

A slot is written by one process only, without locks; a scrape (`scrape.py`) reads all of them. `Meter` writes, in half
a microsecond a request. Nothing here imports numpy or prometheus_client.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, MutableSequence, Sequence
from itertools import accumulate, product
from time import time
from typing import Literal, NamedTuple, cast

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MODELS = 1  # how many models a slot has room for
PROTOCOLS = 8  # how many protocols a slot has room for
OUTCOMES = ("ok", "invalid", "unavailable", "deadline", "error")
PHASES = ("resolve", "fetch")
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds; one more, without bound, follows."""
ROWS = tuple(2.0**power for power in range(len(BUCKETS)))
"""Upper bounds of histograms of rows."""
_LARGEST = 2.0**63

Cell = tuple[int | str, ...]
"""Label values; models and protocols are numbers, and whoever reads the slot knows their names."""


class Family(NamedTuple):
    """One metric: `labels` in order; a histogram's and an info's layout are their own."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    unit: str
    help: str
    merge: Literal["sum", "max"] = "sum"  # what several slots together mean

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What has a double of its own, or in a histogram a run of doubles."""
        return tuple(product(*(_VALUES[label] for label in self.labels)))

    @property
    def bounds(self) -> tuple[float, ...]:
        """Upper bounds of a histogram's buckets."""
        return ROWS if self.unit == "rows" else BUCKETS

    @property
    def width(self) -> int:
        """Doubles that one slot holds for it."""
        if self.kind == "info":
            return 0
        return len(self.cells) * (RUN if self.kind == "histogram" else 1)


_VALUES: dict[str, Sequence[int | str]] = {
    "model": range(MODELS),
    "protocol": range(PROTOCOLS),
    "outcome": OUTCOMES,
    "phase": PHASES,
}
RUN = len(BUCKETS) + 2
"""Doubles of one histogram: each bucket's own count, the one without bound, then the sum."""

FAMILIES = (
    Family("runtime_request_duration_seconds", "histogram", ("model", "protocol", "outcome"), "seconds",
           "Time from a whole request to its whole answer, network excluded."),
    Family("runtime_requests_in_flight", "gauge", ("model",), "requests", "Inference requests being worked on."),
    Family("runtime_in_flight_limit", "gauge", (), "requests", "How many may be worked on at once, by all workers."),
    Family("runtime_rows_total", "counter", ("model",), "rows", "Rows (first axis of the first input) predicted."),
    Family("runtime_batch_rows", "histogram", ("model",), "rows",
           "Rows of each prediction that ran in a thread; those of requests that were joined are one."),
    Family("runtime_queue_seconds_total", "counter", ("model",), "seconds",
           "Time that answered requests waited for a thread or in a batch."),
    Family("runtime_compute_seconds_total", "counter", ("model",), "seconds",
           "Time that answered requests took in the model, their answers' encoding included."),
    Family("runtime_last_answer_timestamp_seconds", "gauge", ("model",), "seconds",
           "When the last prediction was answered, since 1970; 0: none yet.", "max"),
    Family("runtime_request_bytes_total", "counter", ("model", "protocol"), "bytes", "Bytes of inference bodies read."),
    Family("runtime_response_bytes_total", "counter", ("model", "protocol"), "bytes",
           "Bytes of inference answers written, errors included."),
    Family("runtime_model_load_seconds", "gauge", ("model",), "seconds",
           "Time the slowest worker took to load its model.", "max"),
    Family("runtime_pull_seconds", "gauge", ("phase",), "seconds", "Time each phase of the pull took.", "max"),
    Family("runtime_verified_bytes_total", "counter", (), "bytes", "Bytes whose digest was checked."),
    Family("runtime_worker_restarts_total", "counter", (), "workers", "Workers that died and were replaced."),
    Family("runtime_poisoned_requests_total", "counter", (), "requests",
           "Requests that were refused because a worker had ended with the same one in hand."),
    Family("runtime_workers_ready", "gauge", (), "workers", "Workers that answer predictions."),
    Family("runtime_start_timestamp_seconds", "gauge", (), "seconds", "When this server started, since 1970.", "max"),
    Family("runtime_log_dropped_total", "counter", (), "lines", "Log lines dropped because nobody read them."),
    Family("runtime_unsafe_loading", "gauge", (), "1 or 0", "1 while the trust level is unsafe.", "max"),
    Family("runtime_sandboxed", "gauge", (), "1 or 0", "1 while workers are confined to reading the kit.", "max"),
    Family("runtime_kit_info", "info", ("model", "reference", "digest", "framework", "adapter", "verified"), "1",
           "The kit that is served."),
    Family("runtime_build_info", "info", ("version", "python"), "1", "The runtime, and the Python that it runs on."),
)  # fmt: skip


OFFSETS = dict(zip((f.name for f in FAMILIES), accumulate((f.width for f in FAMILIES), initial=0), strict=False))
WIDTH = sum(family.width for family in FAMILIES)  # doubles of a slot; OFFSETS says where each family begins in it

OUTCOME_RUNS = {outcome: index * RUN for index, outcome in enumerate(OUTCOMES)}
"""Where an outcome's histogram begins among those of one model and protocol: what `Requests.finished` takes."""


def merged(slots: Iterable[Sequence[float]]) -> list[float]:
    """Returns what the slots of all processes say together, laid out as one slot."""
    columns = list(zip(*(counts(slot[:WIDTH]) for slot in slots), strict=True))
    values: list[float] = []
    for family in FAMILIES:
        merge, at = sum if family.merge == "sum" else max, OFFSETS[family.name]
        values += [float(merge(column)) for column in columns[at : at + family.width]]
    return values


class Totals(NamedTuple):
    """What all processes have counted of the model's requests, whatever their protocol."""

    rows: int
    answered: int
    answered_seconds: float
    refused: int
    refused_seconds: float
    queued_seconds: float
    computed_seconds: float
    last_answer: float
    """Seconds since 1970; 0: none yet."""

    @classmethod
    def of(cls, slots: Iterable[Sequence[float]]) -> Totals:
        """Returns the totals of the slots of all processes."""
        values, runs = merged(slots), OFFSETS["runtime_request_duration_seconds"]
        number, seconds = [0.0, 0.0], [0.0, 0.0]  # of those that are answered, and of others
        for index in range(PROTOCOLS * len(OUTCOMES)):
            *run, took = values[runs + index * RUN : runs + (index + 1) * RUN]
            failed = OUTCOMES[index % len(OUTCOMES)] != "ok"
            number[failed] += sum(run)
            seconds[failed] += took
        rows, queued, computed, last = (values[OFFSETS[name]] for name in (
            "runtime_rows_total", "runtime_queue_seconds_total", "runtime_compute_seconds_total",
            "runtime_last_answer_timestamp_seconds"))  # fmt: skip
        return cls(int(rows), int(number[0]), seconds[0], int(number[1]), seconds[1], queued, computed, last)


def counts(cells: Iterable[float]) -> list[float]:
    """Returns what a scrape may add up: 0 for what is negative, not finite, or too large: workers write anything."""
    return [cell if 0 <= cell < _LARGEST else 0.0 for cell in cells]


class Meter:
    """Writes one slot, of a process and its model. A new owner goes on with the counters of the last one."""

    __slots__ = ("_slot",)

    def __init__(self, slot: memoryview[float]) -> None:
        if slot.format != "d" or len(slot) < WIDTH:
            raise ValueError(f"a slot is {WIDTH} doubles, got {len(slot)} of format {slot.format!r}")
        slot[:] = memoryview(array("d", counts(slot)))
        self._slot = cast("MutableSequence[float]", slot)
        self._slot[OFFSETS["runtime_requests_in_flight"]] = 0.0

    def requests(self, protocol: int) -> Requests:
        """Returns the account of the requests in one protocol, a number below PROTOCOLS."""
        return Requests(self._slot, protocol)

    def set(self, gauge: str, value: float) -> None:
        """Notes the value of one of this process's gauges without labels."""
        self._slot[OFFSETS[gauge]] = value

    def pull_took(self, phase: str, seconds: float) -> None:
        """Notes what one of the PHASES of a pull took."""
        self._slot[OFFSETS["runtime_pull_seconds"] + PHASES.index(phase)] = seconds

    def ran(self, rows: int) -> None:
        """Counts a prediction of so many rows that ran in a thread."""
        at = OFFSETS["runtime_batch_rows"]
        self._slot[at + bisect_left(ROWS, rows)] += 1.0
        self._slot[at + RUN - 1] += rows

    def add(self, counter: str, count: int) -> None:
        """Counts `count` more of what one of this process's counters without labels counts."""
        self._slot[OFFSETS[counter]] += count


class Requests:
    """Returns the account of one model's requests in one protocol."""

    __slots__ = ("_bytes_in", "_bytes_out", "_computed", "_in_flight", "_last", "_queued", "_rows", "_runs", "_slot")

    def __init__(self, slot: MutableSequence[float], protocol: int) -> None:
        self._slot = slot
        self._in_flight, self._rows = OFFSETS["runtime_requests_in_flight"], OFFSETS["runtime_rows_total"]
        self._runs = OFFSETS["runtime_request_duration_seconds"] + protocol * len(OUTCOMES) * RUN
        self._queued, self._computed = OFFSETS["runtime_queue_seconds_total"], OFFSETS["runtime_compute_seconds_total"]
        self._last = OFFSETS["runtime_last_answer_timestamp_seconds"]
        self._bytes_in = OFFSETS["runtime_request_bytes_total"] + protocol
        self._bytes_out = OFFSETS["runtime_response_bytes_total"] + protocol

    def begun(self) -> None:
        """Counts a request that is being worked on."""
        self._slot[self._in_flight] += 1.0

    def finished(self, run: int, seconds: float, rows: int, bytes_in: int, bytes_out: int, queued: float = 0.0,
                 computed: float = 0.0) -> None:  # fmt: skip
        """Counts a request that is answered; `run` is the outcome's entry in OUTCOME_RUNS. With a prediction come the
        seconds that it `queued` and `computed`."""
        slot, run = self._slot, self._runs + run
        slot[self._in_flight] -= 1.0
        slot[run + bisect_left(BUCKETS, seconds)] += 1.0
        slot[run + RUN - 1] += seconds
        slot[self._rows] += rows
        slot[self._bytes_in] += bytes_in
        slot[self._bytes_out] += bytes_out
        if computed:
            slot[self._computed] += computed
            slot[self._last] = time()
            if queued:
                slot[self._queued] += queued

    def abandoned(self) -> None:
        """Counts down a request whose client left: it has no outcome."""
        self._slot[self._in_flight] -= 1.0
