"""What Triton's extensions of the protocol say about a server: repository, configuration, statistics, settings.

https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from adapters.base import TensorSpec
from runtime.errors import InvalidInput
from runtime.serving.protocol.codec import Page
from runtime.serving.protocol.json_document import read_document
from runtime.serving.served import Models, Served
from runtime.serving.statuses import JSON, NotImplementedHere, Response
from runtime.serving.wording import quoted, shown

Parameters = Mapping[str, str]

_STATES: Final = {"starting": "LOADING", "pulling": "LOADING", "loading": "LOADING", "draining": "UNLOADING"}
_ANY_BATCH: Final = 2**31 - 1
_DEPTH: Final = 16
_STAGES: Final = {"queue": "queue", "compute_input": "decode", "compute_infer": "compute", "compute_output": "encode"}
_TRACE: Final = {"trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
                 "trace_file": "", "trace_mode": "triton"}  # fmt: skip


def _json(value: object) -> Response:
    return Response(200, (JSON,), orjson.dumps(value))


def _document(body: bytes) -> dict[str, Any]:
    """Returns what a body says; an empty one says nothing."""
    return read_document(body, _DEPTH) if body.strip() else {}


def _index(models: Models, _: Parameters, body: bytes) -> Response:
    only_ready = _document(body).get("ready", False)
    if type(only_ready) is not bool:
        raise InvalidInput("ready must be true or false")
    ready, report = models.health.ready, models.health.report()
    reason = str(report.get("reason", ""))
    state = "READY" if ready else _STATES.get(reason, "UNAVAILABLE")
    entries = []
    for name in models.health.model_names:
        served = models.served.get(name)
        version = {} if served is None else {"version": served.provenance.versions[0]}
        entries.append({"name": name, **version, "state": state, "reason": reason})
    return _json(entries if ready or not only_ready else [])


def _refuse(*_: object) -> Response:
    raise NotImplementedHere("this server serves one model and neither loads nor unloads any; start another server")


def _config(models: Models, parameters: Parameters) -> Response:
    served = models.find(**parameters)
    model, specs = served.model, (*served.model.inputs, *served.model.outputs)
    batches = model.batch and all(spec.shape[:1] == (-1,) for spec in specs)
    joined = served.engine.batches
    most = joined.most_rows if joined.shapes else 0
    joins = {"dynamic_batching": {"max_queue_delay_microseconds": int(joined.delay_seconds * 1e6)}} if most else {}
    return _json({"name": served.name, "platform": model.platform, "backend": served.provenance.adapter,
                  "max_batch_size": (most or _ANY_BATCH) if batches else 0, **joins,
                  "input": [_tensor(spec, batches) for spec in model.inputs],
                  "output": [_tensor(spec, batches) for spec in model.outputs]})  # fmt: skip


def _tensor(spec: TensorSpec, batches: bool) -> dict[str, Any]:
    """Returns a tensor as Triton configures it: without the batch axis of a model that has one."""
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    dims = spec.shape[1:] if batches else spec.shape
    return {
        "name": spec.name,
        "data_type": f"TYPE_{kind}",
        "dims": dims,
        **({"optional": True} if spec.optional else {}),
    }


def _statistics(models: Models, parameters: Parameters) -> Response:
    served = [models.find(**parameters)] if parameters else models.served.values()
    return _json({"model_stats": [_counted(models, one) for one in served]})


def _counted(models: Models, served: Served) -> dict[str, Any]:
    total, none = models.totals(), _took(0, 0.0)
    stages = {name: _took(total.answered, total.stages[stage]) for name, stage in _STAGES.items()}
    stats = {
        "success": _took(total.answered, total.answered_seconds),
        "fail": _took(total.refused, total.refused_seconds),
        **stages,
        "cache_hit": none,
        "cache_miss": none,
    }
    batches = [{"batch_size": rows, "compute_input": none, "compute_infer": _took(count, seconds),
                "compute_output": none} for rows, count, seconds in total.batches]  # fmt: skip
    return {"name": served.name, "version": served.provenance.versions[0],
            "last_inference": int(total.last_answer * 1000), "inference_count": total.rows,
            "execution_count": sum(count for _, count, _ in total.batches), "inference_stats": stats,
            "batch_stats": batches, "memory_usage": [], "response_stats": {}}  # fmt: skip


def _took(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, int(seconds * 1e9))}


def _logging(models: Models, _: Parameters, body: bytes) -> Response:
    written = models.log.enabled
    settings = {"log_file": "", "log_info": written("info"), "log_warning": written("warning"),
                "log_error": written("error"), "log_verbose_level": int(written("debug")),
                "log_format": "ISO8601"}  # fmt: skip
    return _unchanged(settings, body, "restart the server with another --log-level or --log-format")


def _trace(models: Models, parameters: Parameters, body: bytes) -> Response:
    if parameters:
        models.find(**parameters)
    return _unchanged(_TRACE, body, "traces go where OTEL_EXPORTER_OTLP_ENDPOINT says")


def _unchanged(settings: Mapping[str, object], body: bytes, advice: str) -> Response:
    """Returns the settings, also to a POST that would leave them as they are."""
    for name, value in _document(body).items():
        if name not in settings:
            raise InvalidInput(f"unknown setting {shown(name)}")
        if value != settings[name]:
            raise InvalidInput(f"setting {quoted(name)} is read only; {advice}")
    return _json(settings)


_BOTH: Final = ("GET", "POST")
_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
PAGES: Final = (
    Page("/v2/models/stats", _statistics),  # before the models: none is called so
    *(Page(f"{path}/stats", _statistics) for path in _MODEL),
    *(Page(f"{path}/config", _config) for path in _MODEL),
    Page("/v2/repository/index", _index, methods=("POST",), wants_body=True),
    *(Page(f"/v2/repository/models/{{model}}/{verb}", _refuse, methods=("POST",)) for verb in ("load", "unload")),
    Page("/v2/logging", _logging, methods=_BOTH, wants_body=True),
    *(Page(f"{path}/trace/setting", _trace, methods=_BOTH, wants_body=True) for path in ("/v2", "/v2/models/{model}")),
)
