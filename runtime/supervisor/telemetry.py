"""Whether traces and metrics go to a collector, as OpenTelemetry's variables say, and the thread that sends them.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

Workers have no network: what they note of traced requests comes through their channels. Metrics come from the board.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from runtime.link.spans import Note, Sampling, read

if TYPE_CHECKING:
    from runtime.kit.kit import Kit
    from runtime.link.board import Board
    from runtime.link.meter import Meter
    from runtime.log import Log

_MOST_WAITING: Final = 64
_CLOSE_SECONDS: Final = 2.0
_SAMPLERS: Final = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
_INTERVAL: Final = 60_000.0


class Telemetry:
    """What goes to a collector."""

    def __init__(self, board: Board, log: Log, sampling: Sampling | None, metrics_seconds: float) -> None:
        """`sampling` is None where no traces, `metrics_seconds` is 0 where no metrics are asked for."""
        self.sampling = sampling
        self._board, self._log, self._metrics_seconds = board, log, metrics_seconds
        self._waiting: SimpleQueue[list[Note] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._meter: Meter | None = None

    @classmethod
    def asked(cls, environ: Mapping[str, str], board: Board, log: Log) -> Telemetry | None:
        """Returns what the variables ask for, None for nothing."""
        traces, metrics = (_is_asked(environ, signal) for signal in ("TRACES", "METRICS"))
        if not (traces or metrics) or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return None
        if wanted := _missing(environ):
            _say_off(log, wanted)
            return None
        seconds = _number(environ, "OTEL_METRIC_EXPORT_INTERVAL", _INTERVAL) / 1000
        return cls(board, log, _sampling(environ) if traces else None, max(seconds, 0.1) if metrics else 0.0)

    def start(self, model: str, meter: Meter, kit: Kit) -> None:
        """Begins to send."""
        self._meter = meter
        self._thread = threading.Thread(target=self._run, args=(model, kit), name="telemetry", daemon=True)
        self._thread.start()

    def take(self, text: str) -> bool:
        """Takes notes of traced requests; False: that is none."""
        try:
            notes = read(text)
        except ValueError:
            return False
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(notes)
        elif self._meter:
            self._meter.add("runtime_spans_dropped_total", len(notes))
        return True

    def close(self) -> None:
        """Sends what waits, for at most two seconds."""
        if self._thread:
            self._waiting.put(None)
            self._thread.join(_CLOSE_SECONDS)

    def _run(self, model: str, kit: Kit) -> None:
        from runtime.supervisor.otlp import Exporter  # with the SDK: 0.2 s, and 20 MB

        try:
            exporter = Exporter(model, kit, traces=self.sampling is not None, metrics=self._metrics_seconds > 0)
        except Exception as error:  # noqa: BLE001 - of a variable that the SDK cannot read
            _say_off(self._log, f"{type(error).__name__}: {error}")
            return
        due = time.monotonic() + self._metrics_seconds
        while True:
            try:
                notes = self._waiting.get(timeout=max(0.0, due - time.monotonic()) if self._metrics_seconds else None)
            except Empty:
                exporter.export_metrics(self._board)
                due = time.monotonic() + self._metrics_seconds
                continue
            if notes is None:
                break
            for note in notes:
                exporter.trace(note)
        if self._metrics_seconds:
            exporter.export_metrics(self._board)
        exporter.close()


def _say_off(log: Log, reason: str) -> None:
    log.warning("telemetry.off", message=f"no traces and metrics to a collector: {reason}", reason=reason)


def _is_asked(environ: Mapping[str, str], signal: str) -> bool:
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return bool(endpoint) and environ.get(f"OTEL_{signal}_EXPORTER", "").strip() in ("", "otlp")


def _missing(environ: Mapping[str, str]) -> str:
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        return f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, wanted http/protobuf"
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        found = False
    if found:
        return ""
    from adapters.imports import how_to_install

    return f"it needs more packages: {how_to_install('otel')}"


def _sampling(environ: Mapping[str, str]) -> Sampling:
    """https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    share = _SAMPLERS.get(name.removeprefix("parentbased_"), 1.0)
    if share is None:
        share = min(_number(environ, "OTEL_TRACES_SAMPLER_ARG", 1.0), 1.0)
    return Sampling(share, name.startswith("parentbased_"))


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    """Returns the value of a variable; what is no number is as if unset, as the specification has it."""
    try:
        number = float(environ.get(name) or default)
    except ValueError:
        return default
    return number if number >= 0 else default
