"""Traces and metrics over OTLP, from sandboxed workers through the supervisor to a real receiver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.collector import Collector, attributes
from tests.e2e.server import Server
from tests.places import KITS

pytestmark = pytest.mark.slow

IRIS = f"oci:{KITS}/iris-onnx:v1"
INFER = "/v2/models/iris-onnx/infer"
REQUEST = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a collector got of a server that answered one request of a trace, one without, a wrong one, and one that its
    caller does not want traced; and the server's answers and events."""
    cache, before = tmp_path_factory.mktemp("cache"), time.time_ns()
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret", "OTEL_SERVICE_NAME": "shop",
               "OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500",
               "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}  # fmt: skip
    with Collector() as collector:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with (
            Server(IRIS, "--drain-delay", "0", "--workers", "2", cache=cache, **environ) as server,
            server.ready() as client,
        ):
            server.event("worker.ready", count=2)
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            went_on = client.post(INFER, json=REQUEST, headers={**headers, "x-request-id": "mine"})
            began = client.post(INFER, json=REQUEST)
            wrong = client.post(INFER, json={}, headers=headers)
            client.post(INFER, json=REQUEST, headers={"traceparent": f"00-{TRACE[::-1]}-{SPAN}-00"})
            collector.wait(lambda c: len([span for span in c.spans if span.name == "predict iris-onnx"]) >= 3)
            collector.wait(lambda c: counted(c) == 3)
            last = client.post(INFER, json=REQUEST)
            assert server.stop() == 0
        yield {"collector": collector, "went_on": went_on, "began": began, "wrong": wrong, "last": last,
               "events": server.events, "within": (before, time.time_ns())}  # fmt: skip


def counted(collector: Collector) -> float:
    metric = collector.metrics.get("runtime_request_duration_seconds")
    found = [p for p in metric.histogram.data_points if attributes(p)["outcome"] == "ok"] if metric else []
    return sum(point.count for point in found)


def roots(collector: Collector, trace: str) -> list[Any]:
    return [s for s in collector.spans if s.trace_id.hex() == trace and s.name == "predict iris-onnx"]


def test_a_trace_goes_on_with_a_span_for_each_stage(told: dict[str, Any]) -> None:
    collector, (before, after) = told["collector"], told["within"]
    whole, *_ = (span for span in roots(collector, TRACE) if not attributes(span).get("error.type"))
    assert whole.parent_span_id.hex() == SPAN
    assert told["went_on"].headers["traceresponse"] == f"00-{TRACE}-{whole.span_id.hex()}-01"
    assert attributes(whole) == {
        "modelkit.model": "iris-onnx", "modelkit.protocol": "v2_json", "modelkit.request_id": "mine",
        "modelkit.rows": 1, "http.request.body.size": len(told["went_on"].request.content),
        "http.response.status_code": 200,
    }  # fmt: skip
    stages = sorted(
        (s for s in collector.spans if s.parent_span_id == whole.span_id), key=lambda s: s.start_time_unix_nano
    )
    assert [span.name for span in stages] in (["decode", "infer", "encode"], ["decode", "queue", "infer", "encode"])
    assert before < whole.start_time_unix_nano < whole.end_time_unix_nano < after
    ends = whole.start_time_unix_nano
    for span in stages:
        assert span.trace_id.hex() == TRACE
        assert ends - 2000 <= span.start_time_unix_nano <= span.end_time_unix_nano <= whole.end_time_unix_nano + 2000
        ends = span.end_time_unix_nano


def test_a_request_without_a_trace_begins_one_and_says_which(told: dict[str, Any]) -> None:
    _, trace, span, flags = told["began"].headers["traceresponse"].split("-")
    (whole,) = roots(told["collector"], trace)
    assert (whole.span_id.hex(), whole.parent_span_id, flags) == (span, b"", "01")
    (event,) = (event for event in told["events"] if event.get("trace") == trace)
    assert (event["event"], event["span"], event["worker"] in (1, 2)) == ("request.answered", span, True)


def test_an_error_has_its_status_and_reason(told: dict[str, Any]) -> None:
    (failed,) = (span for span in roots(told["collector"], TRACE) if "error.type" in attributes(span))
    said = attributes(failed)
    assert (said["error.type"], said["http.response.status_code"]) == ("invalid_input", told["wrong"].status_code)


def test_a_request_that_its_caller_does_not_trace_is_not_traced(told: dict[str, Any]) -> None:
    assert roots(told["collector"], TRACE[::-1]) == []


def test_what_is_under_way_at_a_stop_is_sent(told: dict[str, Any]) -> None:
    assert len(roots(told["collector"], told["last"].headers["traceresponse"].split("-")[1])) == 1
    assert counted(told["collector"]) == 4


def test_the_collector_gets_the_operators_headers_and_the_name_of_the_service(told: dict[str, Any]) -> None:
    assert {headers["authorization"] for headers in told["collector"].headers} == {"Bearer secret"}
    about = told["collector"].resource
    assert (about["service.name"], about["modelkit.model"]) == ("shop", "iris-onnx")
    assert about["modelkit.digest"].startswith("sha256:")


def test_metrics_are_those_of_the_scrape(told: dict[str, Any]) -> None:
    metrics = told["collector"].metrics
    (point,) = (
        p for p in metrics["runtime_request_stage_seconds"].histogram.data_points if attributes(p)["stage"] == "compute"
    )
    assert point.count == 4
    assert sum(point.bucket_counts) == 4
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert metrics["runtime_request_stage_seconds"].unit == "s"
    (rows,) = metrics["runtime_rows_total"].sum.data_points
    assert (rows.as_double, metrics["runtime_rows_total"].sum.is_monotonic) == (4, True)
    (ready,) = metrics["runtime_workers_ready"].gauge.data_points
    assert ready.as_double in (0, 1, 2)
    processes = {attributes(p)["process"] for p in metrics["process_cpu_seconds_total"].sum.data_points}
    assert processes == {"supervisor", "worker-1", "worker-2"}


def test_a_server_that_cannot_send_serves_all_the_same(tmp_path: Path) -> None:
    with Collector() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        with Server(IRIS, "--drain-delay", "0", cache=tmp_path, **environ) as server, server.ready() as client:
            answer = client.post(INFER, json=REQUEST)
            assert (answer.status_code, "traceresponse" in answer.headers) == (200, False)
            assert server.stop() == 0
        reason = "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', wanted http/protobuf"
        assert server.event("telemetry.off")["reason"] == reason
        assert collector.requests == []


def test_a_collector_that_is_gone_costs_no_request_and_no_time_at_the_stop(tmp_path: Path) -> None:
    with Collector() as collector:
        gone = collector.url
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": gone,
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with Server(IRIS, "--drain-delay", "0", cache=tmp_path, **environ) as server, server.ready() as client:
        assert {client.post(INFER, json=REQUEST).status_code for _ in range(5)} == {200}
        server.event("library.logged")
        assert httpx.post(f"{client.base_url}{INFER}", json=REQUEST).status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


def test_a_variable_that_the_sdk_refuses_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}
    with Server(IRIS, "--drain-delay", "0", cache=tmp_path, **environ) as server, server.ready() as client:
        assert "max_queue_size must be a positive integer" in server.event("telemetry.off")["reason"]
        assert client.post(INFER, json=REQUEST).status_code == 200
        assert server.stop() == 0
