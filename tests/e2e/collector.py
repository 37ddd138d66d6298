"""An OTLP receiver: an HTTP server that parses what it gets with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_KINDS = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


class Collector:
    """As a context manager, it listens on a free port of loopback."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked, answer = _KINDS[self.path]
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                with collector._news:
                    collector.requests.append(asked.FromString(body))
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                    collector._news.notify_all()
                data = answer().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Any]:
        asked = [request for request in self.requests if isinstance(request, ExportTraceServiceRequest)]
        scopes = [scope for request in asked for group in request.resource_spans for scope in group.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    @property
    def resource(self) -> dict[str, str]:
        groups = [g for r in self.requests for g in getattr(r, "resource_spans", getattr(r, "resource_metrics", ()))]
        return attributes(groups[0].resource)

    @property
    def metrics(self) -> dict[str, Any]:
        """The latest of each name."""
        asked = [request for request in self.requests if isinstance(request, ExportMetricsServiceRequest)]
        scopes = [scope for request in asked for group in request.resource_metrics for scope in group.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def wait(self, found: Callable[[Collector], object], seconds: float = 60.0) -> None:
        with self._news:
            assert self._news.wait_for(lambda: found(self), seconds), self.requests


def attributes(of: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}
