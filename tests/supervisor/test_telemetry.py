"""What OpenTelemetry's variables ask for, before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.link.board import Board
from runtime.link.metrics import WIDTH
from runtime.link.spans import Sampling
from runtime.log import Log
from runtime.supervisor.telemetry import Telemetry
from tests.link.test_spans import NOTE, write

END = "http://127.0.0.1:4318"


def asked(tmp_path: Path, **environ: str) -> Telemetry | None:
    with (tmp_path / "log").open("wb") as file:
        board = Board.create(2, WIDTH)
        for one in board.files:
            os.close(one)
        log = Log(file.fileno(), style="json")
        try:
            return Telemetry.asked(environ, board, log)
        finally:
            log.close()


@pytest.mark.parametrize(
    ("environ", "sampling", "seconds"),
    [({"OTEL_EXPORTER_OTLP_ENDPOINT": END}, Sampling(1.0, parent=True), 60.0),
     ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": END}, Sampling(1.0, parent=True), 0.0),
     ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": END, "OTEL_METRIC_EXPORT_INTERVAL": "5000"}, None, 5.0),
     ({"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_TRACES_EXPORTER": "none"}, None, 60.0),
     ({"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_METRICS_EXPORTER": "none"}, Sampling(1.0, parent=True), 0.0),
     ({"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_METRIC_EXPORT_INTERVAL": "soon"}, Sampling(1.0, parent=True), 60.0)],
)  # fmt: skip
def test_an_endpoint_asks_for_traces_and_metrics(tmp_path, environ, sampling, seconds):
    telemetry = asked(tmp_path, **environ)
    assert telemetry is not None
    assert (telemetry.sampling, telemetry._metrics_seconds) == (sampling, seconds)


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_SDK_DISABLED": "TRUE"},
     {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": END, "OTEL_TRACES_EXPORTER": "console"},
     {"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}],
)  # fmt: skip
def test_nothing_asks_for_nothing(tmp_path, environ):
    assert asked(tmp_path, **environ) is None
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize(
    ("name", "argument", "sampling"),
    [("always_on", "", Sampling(1.0, parent=False)), ("always_off", "", Sampling(0.0, parent=False)),
     ("parentbased_always_off", "", Sampling(0.0, parent=True)),
     ("traceidratio", "0.25", Sampling(0.25, parent=False)), ("parentbased_traceidratio", "0.5", Sampling(0.5, parent=True)),
     ("traceidratio", "often", Sampling(1.0, parent=False)), ("traceidratio", "7", Sampling(1.0, parent=False)),
     ("something", "", Sampling(1.0, parent=False))],
)  # fmt: skip
def test_the_sampler_is_the_one_that_the_variables_name(tmp_path, name, argument, sampling):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": END, "OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    telemetry = asked(tmp_path, **environ)
    assert telemetry is not None
    assert telemetry.sampling == sampling


def test_another_protocol_is_refused_aloud(tmp_path):
    assert asked(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=END, OTEL_EXPORTER_OTLP_PROTOCOL="grpc") is None
    assert "telemetry.off" in (tmp_path / "log").read_text()


def test_notes_that_nobody_sends_are_bounded(tmp_path):
    telemetry = asked(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=END)
    assert telemetry is not None
    assert not telemetry.take("[[7]]")
    assert all(telemetry.take(write([NOTE])) for _ in range(1000))
    assert telemetry._waiting.qsize() == 64
    telemetry.close()
