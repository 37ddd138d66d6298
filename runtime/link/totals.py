"""What the slots of all processes say together: for a scrape, for a collector, and for the statistics of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runtime.link.metrics import (
    BATCHES,
    FAMILIES,
    OFFSETS,
    OUTCOMES,
    PROTOCOLS,
    RUN,
    SIZES,
    STAGES,
    WIDTH,
    Family,
    counts,
)

if TYPE_CHECKING:
    from runtime.link.board import Board


def merged(slots: Iterable[Sequence[float]]) -> list[float]:
    """Returns what the slots of all processes say together, laid out as one slot."""
    columns = list(zip(*(counts(slot[:WIDTH]) for slot in slots), strict=True))
    values: list[float] = []
    for family in FAMILIES:
        merge, at = max if family.merge == "max" else sum, OFFSETS[family.name]
        values += [float(merge(column)) for column in columns[at : at + family.width]]
    values += map(sum, columns[BATCHES.start :])
    in_flight, running, waiting = (OFFSETS[f"runtime_requests_{what}"] for what in ("in_flight", "running", "waiting"))
    values[waiting] = max(0.0, values[in_flight] - values[running])
    return values


def read(board: Board) -> tuple[list[float], list[list[float]]]:
    """Returns what all slots of a board say together, and each slot."""
    slots = [counts(board.slot(index)) for index in range(board.slots)]
    values = merged(slots)
    values[OFFSETS["runtime_workers_ready"]] = board.workers_ready
    return values, slots


def series(family: Family, values: Sequence[float], slots: Sequence[Sequence[float]],
           names: Mapping[str, Sequence[str]]) -> Iterator[tuple[list[str], Sequence[float]]]:  # fmt: skip
    """Yields label values and doubles of each series of a family; `names` are those of what slots count by number. What
    has no name is not there, and neither is a process that does not say what it uses."""
    at, width = OFFSETS[family.name], RUN if family.kind == "histogram" else 1
    if family.merge == "each":
        for index, slot in enumerate(slots):
            if slot[OFFSETS["process_start_time_seconds"]]:
                yield [f"worker-{index}" if index else "supervisor"], slot[at : at + 1]
        return
    for index, cell in enumerate(family.cells):
        labels = [value if isinstance(value, str) else "".join(names[label][value : value + 1])
                  for label, value in zip(family.labels, cell, strict=True)]  # fmt: skip
        if "" not in labels:
            yield labels, values[at + index * width : at + (index + 1) * width]


class Totals(NamedTuple):
    """What all processes have counted of the model's requests, whatever their protocol."""

    rows: int
    answered: int
    answered_seconds: float
    refused: int
    refused_seconds: float
    stages: dict[str, float]
    """Seconds by stage."""
    batches: list[tuple[int, int, float]]
    """Of each number of rows (`SIZES`) that a prediction had: how many there were, and their seconds in the model."""
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
        rows, last = values[OFFSETS["runtime_rows_total"]], values[OFFSETS["runtime_last_answer_timestamp_seconds"]]
        sums = values[OFFSETS["runtime_request_stage_seconds"] + RUN - 1 :: RUN]
        sizes, half = (*SIZES, 2 * SIZES[-1]), len(SIZES) + 1
        counted = zip(sizes, values[BATCHES.start :][:half], values[BATCHES.start + half :], strict=True)
        batches = [(size, int(count), took) for size, count, took in counted if count]
        return cls(int(rows), int(number[0]), seconds[0], int(number[1]), seconds[1],
                   dict(zip(STAGES, sums, strict=False)), batches, last)  # fmt: skip
