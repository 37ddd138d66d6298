"""What a scrape answers: all slots together, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from runtime.link.metrics import BUCKETS, FAMILIES, OFFSETS, RUN, WIDTH, Family, counts

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from runtime.link.board import Board
    from runtime.serving.provenance import Provenance


def render(board: Board, models: Sequence[Provenance], protocols: Sequence[str]) -> bytes:
    """Returns all slots together in Prometheus' text format.

    `models` and `protocols` are the names of those that slots count by number; metrics of a model appear with its name.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(_merged(board), models, protocols))
    return generate_latest(registry)


def _merged(board: Board) -> list[float]:
    slots = [counts(board.slot(index)[:WIDTH]) for index in range(board.slots)]
    merged: list[float] = []
    for family in FAMILIES:
        merge = sum if family.merge == "sum" else max
        at = OFFSETS[family.name]
        merged += [
            float(merge(column)) for column in zip(*(slot[at : at + family.width] for slot in slots), strict=True)
        ]
    merged[OFFSETS["runtime_workers_ready"]] = board.workers_ready
    return merged


class _Collector:
    def __init__(self, values: Sequence[float], models: Sequence[Provenance], protocols: Sequence[str]) -> None:
        self._values, self._models = values, models
        self._names = {"model": [model.name for model in models], "protocol": protocols}

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            if self._models or "model" not in family.labels:
                yield self._metric(family)

    def _metric(self, family: Family) -> Metric:
        if family.kind == "histogram":
            return self._histogram(family)
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric: Metric = kind(family.name, family.help, labels=family.labels)
        if family.kind == "info":
            for model in self._models:
                metric.add_metric(_facts(model, family.labels), 1.0)  # type: ignore[attr-defined]  # on every family class
            return metric
        for at, labels in self._cells(family, 1):
            metric.add_metric(labels, self._values[at])  # type: ignore[attr-defined]  # as above
        return metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for at, labels in self._cells(family, RUN):
            metric.add_metric(labels, _cumulative(self._values[at : at + RUN - 1]), self._values[at + RUN - 1])
        return metric

    def _cells(self, family: Family, width: int) -> Iterator[tuple[int, list[str]]]:
        """Yields where each cell begins, and its label values, without the models and protocols that are not there."""
        for index, cell in enumerate(family.cells):
            labels = [self._label(label, value) for label, value in zip(family.labels, cell, strict=True)]
            if "" not in labels:
                yield OFFSETS[family.name] + index * width, labels

    def _label(self, label: str, value: int | str) -> str:
        if isinstance(value, str):
            return value
        names = self._names[label]
        return names[value] if value < len(names) else ""


def _facts(model: Provenance, labels: Sequence[str]) -> list[str]:
    facts = {"model": model.name, "reference": model.reference, "digest": model.digest or "",
             "framework": model.framework, "adapter": model.adapter,
             "verified": model.verified}  # fmt: skip
    return [facts[label] for label in labels]


def _cumulative(counts: Sequence[float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
