"""Spans and metrics over OTLP, with the exporters of OpenTelemetry's SDK: they read addresses, headers, certificates,
time limits and compression from the standard variables, and retry. Imported by the thread that sends alone.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as points
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime.link.metrics import FAMILIES, PROTOCOL_NAMES, Family
from runtime.link.totals import read, series
from runtime.version import __version__

if TYPE_CHECKING:
    from runtime.kit.kit import Kit
    from runtime.link.board import Board
    from runtime.link.spans import Note

_SCOPE: Final = InstrumentationScope("modelkit-runtime", __version__)
_CUMULATIVE: Final = points.AggregationTemporality.CUMULATIVE
_UNITS: Final = {"seconds": "s", "bytes": "By", "1": "1", "1 or 0": "1"}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class Exporter:
    """Sends to one collector."""

    def __init__(self, model: str, kit: Kit, *, traces: bool, metrics: bool) -> None:
        about = {"service.name": "modelkit-runtime", "service.version": __version__, "modelkit.model": model,
                 "modelkit.reference": str(kit.reference), "modelkit.digest": str(kit.digest or "")}  # fmt: skip
        self._resource = Resource.create({**about, **OTELResourceDetector().detect().attributes})
        self._names, self._started = {"model": [model], "protocol": PROTOCOL_NAMES}, time_ns()
        self._spans = BatchSpanProcessor(OTLPSpanExporter()) if traces else None
        self._metrics = OTLPMetricExporter() if metrics else None

    def trace(self, note: Note) -> None:
        """Makes the spans of a traced request: the whole, and its stages."""
        if self._spans is None:
            return
        trace = int(note.trace, 16)
        whole = SpanContext(trace, int(note.span, 16), is_remote=False, trace_flags=_SAMPLED)
        parent = SpanContext(trace, int(note.parent, 16), is_remote=True, trace_flags=_SAMPLED) if note.parent else None
        code = StatusCode.ERROR if note.status >= 500 or not note.status else StatusCode.UNSET
        self._end(f"predict {note.model}", whole, parent, SpanKind.SERVER, _about(note), note.began, note.seconds, code)
        for name, after, seconds in _stages(note):
            own = SpanContext(trace, int.from_bytes(os.urandom(8), "big") or 1, is_remote=False, trace_flags=_SAMPLED)
            began = note.began + int(after * 1e9)
            self._end(name, own, whole, SpanKind.INTERNAL, {}, began, seconds, StatusCode.UNSET)

    def _end(self, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind,
             attributes: dict[str, str | int], began: int, seconds: float, code: StatusCode) -> None:  # fmt: skip
        assert self._spans
        self._spans.on_end(ReadableSpan(
            name, context, parent, self._resource, attributes, kind=kind, status=Status(code), start_time=began,
            end_time=began + int(seconds * 1e9), instrumentation_scope=_SCOPE))  # fmt: skip

    def export_metrics(self, board: Board) -> None:
        """Sends what all processes have counted until now."""
        if self._metrics is None:
            return
        values, slots = read(board)
        metrics = [self._metric(family, values, slots) for family in FAMILIES if family.kind != "info"]
        scope = points.ScopeMetrics(_SCOPE, metrics, "")
        self._metrics.export(points.MetricsData([points.ResourceMetrics(self._resource, [scope], "")]))

    def _metric(self, family: Family, values: list[float], slots: list[list[float]]) -> points.Metric:
        now, found = time_ns(), list[Any]()
        for labels, cells in series(family, values, slots, self._names):
            about = dict(zip(family.labels, labels, strict=True))
            if family.kind != "histogram":
                found.append(points.NumberDataPoint(about, self._started, now, cells[0]))
            elif count := int(sum(cells[:-1])):
                buckets = [int(cell) for cell in cells[:-1]]
                extremes: Any = (None, None)  # nobody knows them
                told = count, cells[-1], buckets, family.bounds, *extremes
                found.append(points.HistogramDataPoint(about, self._started, now, *told))
        data: points.Sum | points.Gauge | points.Histogram
        if family.kind == "counter":
            data = points.Sum(found, _CUMULATIVE, is_monotonic=True)
        else:
            data = points.Gauge(found) if family.kind == "gauge" else points.Histogram(found, _CUMULATIVE)
        return points.Metric(family.name, family.help, _UNITS.get(family.unit, f"{{{family.unit}}}"), data)

    def close(self) -> None:
        """Sends what waits."""
        if self._spans is not None:
            self._spans.shutdown()
        if self._metrics is not None:
            self._metrics.shutdown()


def _about(note: Note) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "modelkit.model": note.model, "modelkit.protocol": note.protocol, "modelkit.request_id": note.id,
        "modelkit.rows": note.rows, "http.request.body.size": note.bytes_in,
    }  # fmt: skip
    if note.status:
        about["http.response.status_code"] = note.status
    if note.outcome:
        about["error.type"] = note.outcome
    return about


def _stages(note: Note) -> Iterator[tuple[str, float, float]]:
    """Yields name, begin and length of each stage that the request came to; decoding comes before the queue."""
    if not note.computed:
        return
    yield "decode", 0.0, note.started - note.queued
    if note.queued:
        yield "queue", note.started - note.queued, note.queued
    yield "infer", note.started, note.computed
    yield "encode", note.started + note.computed, note.encoded
