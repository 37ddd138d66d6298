"""What the protocol says about the server and its models (docs/protocol.md, 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from runtime.serving.protocol.codec import Page
from runtime.serving.statuses import JSON, RETRY, Response
from runtime.version import __version__

if TYPE_CHECKING:
    from adapters.base import TensorSpec
    from runtime.serving.served import Models, Served

Parameters = Mapping[str, str]

MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def _json(value: object) -> Response:
    return Response(200, (JSON,), orjson.dumps(value))


def _ready(models: Models, _: Parameters) -> Response:
    report = _json(models.health.report())
    return report if models.health.ready else report._replace(status=503, headers=(JSON, RETRY))


def _server(_: Models, __: Parameters) -> Response:
    return _json({"name": "modelkit-runtime", "version": __version__, "extensions": []})


def _model(models: Models, parameters: Parameters) -> Response:
    served = models.find(**parameters)
    return _json(
        {
            "name": served.name,
            "versions": served.provenance.served_versions,
            "platform": served.model.platform,
            "inputs": _tensors(served.model.inputs),
            "outputs": _tensors(served.model.outputs),
            "properties": _properties(served),
        }
    )


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _properties(served: Served) -> dict[str, str]:
    """Where the model came from, and the adapter's own facts: strings, none of them empty."""
    origin = served.provenance
    facts = {
        **served.model.properties,
        "reference": origin.reference,
        "framework": origin.framework,
        "adapter": origin.adapter,
        "trust": origin.trust,
        "sandbox": origin.sandbox,
        "verified": origin.verified,
        "digest": origin.digest or "",
        "labels": "" if served.model.labels is None else orjson.dumps(served.model.labels).decode(),
    }
    return {key: text for key, text in facts.items() if text}


def _model_ready(models: Models, parameters: Parameters) -> Response:
    return _json({"name": models.find_ready(**parameters).name, "ready": True})


PAGES: Final = (
    Page("/v2", _server),
    Page("/v2/", _server),
    Page("/v2/health/live", lambda *_: _json({"live": True}), quiet=True),
    Page("/v2/health/ready", _ready, quiet=True),
    Page("/v2/models", lambda models, _: _json({"models": list(models.served)})),
    *(Page(path, _model) for path in MODEL),
    *(Page(f"{path}/ready", _model_ready, quiet=True) for path in MODEL),
)
