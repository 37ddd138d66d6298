"""What a scrape answers: all slots together, in Prometheus' text format."""

import platform
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from runtime.link.board import Board
from runtime.link.metrics import FAMILIES, Family
from runtime.link.totals import read, series
from runtime.serving.served import Provenance
from runtime.version import __version__

_KINDS: Final[dict[str, Any]] = {"counter": CounterMetricFamily, "histogram": HistogramMetricFamily,
                                 "gauge": GaugeMetricFamily, "info": GaugeMetricFamily}  # fmt: skip

_BUILD: Final = {"version": __version__, "python": platform.python_version()}


def render(board: Board, models: Sequence[Provenance], protocols: Sequence[str]) -> bytes:
    """Returns all slots together; `models` and `protocols` name what slots count by number, and only those appear."""
    return generate_latest(_Collector(*read(board), models, protocols))


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
        for labels, cells in series(family, self._values, self._slots, self._names):
            if family.kind == "histogram":
                bounds = [*map(str, family.bounds), "+Inf"]
                metric.add_metric(labels, list(zip(bounds, accumulate(cells[:-1]), strict=True)), cells[-1])
            else:
                metric.add_metric(labels, cells[0])
        return metric
