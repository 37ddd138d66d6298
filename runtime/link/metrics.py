"""Metrics: the table of families, and where each has its doubles in a process's slot.

A slot is written by one process only: `meter.py` writes what happens now and then, `serving/accounts.py` what happens
with every request. `totals.py` reads the slots of all processes. Nothing of this imports numpy or prometheus_client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, product
from typing import Literal, NamedTuple

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MODELS = 1  # how many models a slot has room for
PROTOCOLS = 8  # how many protocols a slot has room for
OUTCOMES = ("ok", "invalid", "unavailable", "deadline", "error")
STAGES = ("queue", "decode", "compute", "encode")
REASONS = (
    ("400", "invalid_request"), ("400", "invalid_input"), ("404", "unknown_model"), ("404", "unknown_path"),
    ("405", "method"), ("408", "slow_client"), ("413", "too_large"), ("414", "uri_too_long"), ("415", "media_type"),
    ("417", "expectation"), ("431", "head_too_large"), ("500", "runtime_failed"), ("500", "model_failed"),
    ("500", "poisoned"), ("501", "not_implemented"), ("503", "overloaded"), ("503", "not_ready"), ("504", "deadline"),
    ("505", "http_version"),
)  # fmt: skip
"""Why requests are answered with errors: a status, and a word (`serving/statuses.py` has it for each failure)."""
PHASES = ("resolve", "fetch")
PROTOCOL_NAMES = ("v2_json", "v1", "plain", "grpc")
"""The protocols of `serving/codec_table.py`, and the one that comes without HTTP: a supervisor imports neither."""
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds; one more, without bound, follows."""
ROWS = tuple(2.0**power for power in range(len(BUCKETS)))
"""Upper bounds of histograms of rows."""
SIZES = (*range(1, 65), *(int(rows) for rows in ROWS if rows > 64))
"""Batches are counted by these numbers of rows: exactly up to 64, then by powers of two; one more follows."""
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
    merge: Literal["sum", "max", "each"] = "sum"  # what several slots together mean; each: a series for each slot

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What has a double of its own, or in a histogram a run of doubles."""
        if self.merge == "each":
            return ((),)
        return REASONS if "reason" in self.labels else tuple(product(*(_VALUES[label] for label in self.labels)))

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
    "stage": STAGES,
    "phase": PHASES,
}
RUN = len(BUCKETS) + 2
"""Doubles of one histogram: each bucket's own count, the one without bound, then the sum."""

FAMILIES = (
    Family("runtime_request_duration_seconds", "histogram", ("model", "protocol", "outcome"), "seconds",
           "Time from a whole request to its whole answer, network excluded."),
    Family("runtime_request_stage_seconds", "histogram", ("model", "stage"), "seconds",
           "Time that answered requests took in each stage."),
    Family("runtime_errors_total", "counter", ("status", "reason"), "requests", "Requests answered with an error."),
    Family("runtime_requests_in_flight", "gauge", ("model",), "requests",
           "Inference requests that wait, or run in a thread. What the event loop answers at once is not counted."),
    Family("runtime_in_flight_limit", "gauge", (), "requests", "How many may be in flight, in all workers."),
    Family("runtime_requests_running", "gauge", ("model",), "requests", "Those of them that run."),
    Family("runtime_running_limit", "gauge", (), "batches",
           "How many threads of all workers predict: each runs one request, or a batch of them."),
    Family("runtime_requests_waiting", "gauge", ("model",), "requests",
           "Those of them that wait for a thread, or in a batch."),
    Family("runtime_in_flight_rows", "gauge", ("model",), "rows", "Rows of the requests in flight."),
    Family("runtime_in_flight_rows_limit", "gauge", (), "rows", "How many rows may be in flight, in all workers."),
    Family("runtime_in_flight_bytes", "gauge", ("model",), "bytes", "Bodies of the requests in flight."),
    Family("runtime_in_flight_bytes_limit", "gauge", (), "bytes", "How long they may be, in all workers."),
    Family("runtime_rows_total", "counter", ("model",), "rows", "Rows (first axis of the first input) predicted."),
    Family("runtime_batch_rows", "histogram", ("model",), "rows",
           "Rows of each prediction; those of requests that were joined are one."),
    Family("runtime_last_answer_timestamp_seconds", "gauge", ("model",), "seconds",
           "When the last prediction was answered, since 1970; 0: none yet.", "max"),
    Family("runtime_request_bytes_total", "counter", ("model", "protocol"), "bytes", "Bytes of inference bodies read."),
    Family("runtime_response_bytes_total", "counter", ("model", "protocol"), "bytes",
           "Bytes of inference answers written, errors included."),
    Family("runtime_model_load_seconds", "gauge", ("model",), "seconds",
           "Time the slowest worker took to load its model.", "max"),
    Family("runtime_pull_seconds", "gauge", ("phase",), "seconds", "Time each phase of the pull took.", "max"),
    Family("runtime_pull_retries_total", "counter", (), "retries",
           "Times that a registry was asked again after a second or more."),
    Family("runtime_verified_bytes_total", "counter", (), "bytes", "Bytes whose digest was checked."),
    Family("runtime_worker_restarts_total", "counter", (), "workers", "Workers that died and were replaced."),
    Family("runtime_poisoned_requests_total", "counter", (), "requests",
           "Requests that were refused because a worker had ended with the same one in hand."),
    Family("runtime_workers_ready", "gauge", (), "workers", "Workers that answer predictions."),
    Family("runtime_start_timestamp_seconds", "gauge", (), "seconds", "When this server started, since 1970.", "max"),
    Family("runtime_log_dropped_total", "counter", (), "lines", "Log lines dropped because the reader was too slow."),
    Family("runtime_spans_dropped_total", "counter", (), "requests",
           "Traced requests whose spans were dropped because they came faster than they are sent."),
    Family("runtime_unsafe_loading", "gauge", (), "1 or 0", "1 while the trust level is unsafe.", "max"),
    Family("runtime_sandboxed", "gauge", (), "1 or 0", "1 while workers are confined to reading the kit.", "max"),
    Family("process_cpu_seconds_total", "counter", ("process",), "seconds", "Processor time, user and system.", "each"),
    Family("process_resident_memory_bytes", "gauge", ("process",), "bytes", "Memory in RAM.", "each"),
    Family("process_open_fds", "gauge", ("process",), "descriptors", "Open file descriptors.", "each"),
    Family("process_max_fds", "gauge", ("process",), "descriptors", "How many may be open.", "each"),
    Family("process_start_time_seconds", "gauge", ("process",), "seconds", "When it started, since 1970.", "each"),
    Family("runtime_kit_info", "info", ("model", "reference", "digest", "framework", "adapter", "verified"), "1",
           "The kit that is served."),
    Family("runtime_build_info", "info", ("version", "python"), "1", "The runtime, and the Python that it runs on."),
)  # fmt: skip


OFFSETS = dict(zip((f.name for f in FAMILIES), accumulate((f.width for f in FAMILIES), initial=0), strict=False))
_FAMILIES_WIDTH = sum(family.width for family in FAMILIES)  # OFFSETS says where each family begins in it
BATCHES = range(_FAMILIES_WIDTH, _FAMILIES_WIDTH + 2 * (len(SIZES) + 1))
"""Behind the families: how many batches had each of SIZES, then the seconds that they took in the model."""
WIDTH = BATCHES.stop  # doubles of a slot


def reason_of(status: int) -> str:
    """Returns the reason of an answer with this status that says no more than that."""
    return next((reason for of, reason in REASONS if of == str(status)), REASONS[0][1])


def counts(cells: Iterable[float]) -> list[float]:
    """Returns what a scrape may add up: 0 for what is negative, not finite, or too large: workers write anything."""
    return [cell if 0 <= cell < _LARGEST else 0.0 for cell in cells]
