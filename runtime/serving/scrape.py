"""What a scrape answers: all slots together, in Prometheus' text format."""

import platform
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from runtime.link.board import Board
from runtime.link.metrics import FAMILIES, OFFSETS, RUN, Family, counts, merged
from runtime.serving.served import Provenance
from runtime.version import __version__

_KINDS: Final[dict[str, Any]] = {"counter": CounterMetricFamily, "histogram": HistogramMetricFamily,
                                 "gauge": GaugeMetricFamily, "info": GaugeMetricFamily}  # fmt: skip

_STARTED: Final = OFFSETS["process_start_time_seconds"]
_BUILD: Final = {"version": __version__, "python": platform.python_version()}


def render(board: Board, models: Sequence[Provenance], protocols: Sequence[str]) -> bytes:
    """Returns all slots together; `models` and `protocols` name what slots count by number, and only those appear."""
    slots = [counts(board.slot(index)) for index in range(board.slots)]
    values = merged(slots)
    values[OFFSETS["runtime_workers_ready"]] = board.workers_ready
    return generate_latest(_Collector(values, slots, models, protocols))


class _Collector:
    def __init__(self, values: Sequence[float], slots: Sequence[Sequence[float]], models: Sequence[Provenance],
                 protocols: Sequence[str]) -> None:  # fmt: skip
        self._values, self._slots, self._models = values, slots, models
        self._names = {"model": [model.name for model in models], "protocol": protocols}

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            if self._models or "model" not in family.labels:
                yield self._metric(family)

    def _metric(self, family: Family) -> Any:
        metric = _KINDS[family.kind](family.name, family.help, labels=family.labels)
        if family.kind == "info":
            kits = [{**model._asdict(), "model": model.name} for model in self._models]
            for facts in kits if "model" in family.labels else [_BUILD]:
                metric.add_metric([facts[label] or "" for label in family.labels], 1.0)
            return metric
        if family.merge == "each":
            for index, slot in enumerate(self._slots):
                if slot[_STARTED]:  # a process that says what it uses
                    metric.add_metric([f"worker-{index}" if index else "supervisor"], slot[OFFSETS[family.name]])
            return metric
        width = RUN if family.kind == "histogram" else 1
        for index, cell in enumerate(family.cells):
            at, labels = OFFSETS[family.name] + index * width, list(map(self._label, family.labels, cell))
            if "" in labels:  # of a model or a protocol that is not there
                continue
            if family.kind == "histogram":
                *run, total = self._values[at : at + RUN]
                bounds = [*map(str, family.bounds), "+Inf"]
                metric.add_metric(labels, list(zip(bounds, accumulate(run), strict=True)), total)
            else:
                metric.add_metric(labels, self._values[at])
        return metric

    def _label(self, label: str, value: int | str) -> str:
        if isinstance(value, str):
            return value
        names = self._names[label]
        return names[value] if value < len(names) else ""
