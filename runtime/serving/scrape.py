"""What a scrape answers: all slots together, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from runtime.link.metrics import BUCKETS, FAMILIES, OFFSETS, RUN, WIDTH, Family

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from runtime.serving.provenance import Provenance


class Slots(Protocol):
    """What `render` needs of `runtime.link.board.Board`."""

    @property
    def slots(self) -> int:
        """How many there are, the supervisor's included."""

    def slot(self, index: int, /) -> memoryview[float]:
        """The doubles of one."""

    @property
    def workers_ready(self) -> int:
        """How many workers answer predictions now; the board knows that itself."""


def render(board: Slots, provenance: Provenance | None) -> bytes:
    """All slots together in Prometheus' text format; metrics of a model appear once `provenance` names it."""
    registry = CollectorRegistry()
    registry.register(_Collector(_merged(board), provenance))
    return generate_latest(registry)


def _merged(board: Slots) -> list[float]:
    slots = [board.slot(index).tolist()[:WIDTH] for index in range(board.slots)]
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
    def __init__(self, values: Sequence[float], provenance: Provenance | None) -> None:
        self._values = values
        self._provenance = provenance

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            if self._provenance is not None or "model" not in family.labels:
                yield self._metric(family)

    def _metric(self, family: Family) -> Metric:
        if family.kind == "histogram":
            return self._histogram(family)
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric: Metric = kind(family.name, family.help, labels=family.labels)
        if family.kind == "info":
            metric.add_metric(self._kit(family.labels), 1.0)  # type: ignore[attr-defined]  # on every family class
            return metric
        for index, cell in enumerate(family.cells):
            value = self._values[OFFSETS[family.name] + index]
            metric.add_metric(self._labels(family, cell), value)  # type: ignore[attr-defined]  # as above
        return metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for index, cell in enumerate(family.cells):
            at = OFFSETS[family.name] + index * RUN
            metric.add_metric(self._labels(family, cell), _cumulative(self._values[at : at + RUN - 1]),
                              self._values[at + RUN - 1])  # fmt: skip
        return metric

    def _labels(self, family: Family, cell: tuple[str, ...]) -> tuple[str, ...]:
        if self._provenance is not None and "model" in family.labels:
            return (self._provenance.name, *cell)
        return cell

    def _kit(self, labels: tuple[str, ...]) -> list[str]:
        kit = self._provenance
        assert kit is not None
        facts = {"model": kit.name, "reference": kit.reference, "digest": kit.digest or "", "framework": kit.framework,
                 "adapter": kit.adapter, "verified": kit.verified}  # fmt: skip
        return [facts[label] for label in labels]


def _cumulative(counts: Sequence[float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
