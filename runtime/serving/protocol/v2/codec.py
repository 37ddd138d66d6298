"""The Open Inference Protocol V2 over HTTP, as one value, with what it says about the server and its models.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from adapters.base import TensorSpec
from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.protocol.v2.decode import binary_at, decode, text_bytes
from runtime.serving.protocol.v2.encode import NAME, Form, encode, example_request
from runtime.serving.served import Models
from runtime.serving.statuses import JSON, RETRY, Response, error_response
from runtime.version import __version__

Parameters = Mapping[str, str]

EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "statistics")
"""What works as a whole. Of others a part does: the repository's index, settings that can be read
(https://github.com/triton-inference-server/server/tree/main/docs/protocol)."""
_ORIGIN: Final = ("reference", "framework", "adapter", "trust", "sandbox", "verified", "digest", "signed_by")
_LIMITS: Final = {"max_body_bytes": "body_bytes", "max_in_flight": "in_flight", "inference_timeout": "deadline_seconds"}
"""Properties by the names of the options that set them: a worker's share of a container may be less."""
_SERVER: Final = {"name": "modelkit-runtime", "version": __version__, "extensions": list(EXTENSIONS)}
_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def _json(value: object) -> Response:
    return Response(200, (JSON,), orjson.dumps(value))


def _ready(models: Models, _: Parameters) -> Response:
    report = _json(models.health.report())
    return report if models.health.ready else report._replace(status=503, headers=(JSON, RETRY))


def _model(models: Models, parameters: Parameters) -> Response:
    served = models.find(**parameters)
    model, origin = served.model, served.provenance._asdict()
    # What its author says, the adapter's own facts, our limits, where the model came from: strings, none of them empty.
    limits = {name: str(getattr(served.limits, field)) for name, field in _LIMITS.items()}
    ours = {**limits, **{key: origin[key] for key in _ORIGIN}, **served.batching}
    facts = {**served.provenance.about, **model.properties, **ours}
    facts["labels"] = "" if model.labels is None else orjson.dumps(model.labels).decode()
    return _json({"name": served.name, "versions": origin["versions"], "platform": model.platform,
                  "inputs": _tensors(model.inputs), "outputs": _tensors(model.outputs),
                  "properties": {key: text for key, text in facts.items() if text}})  # fmt: skip


def _example(models: Models, parameters: Parameters) -> Response:
    served = models.find(**parameters)
    return _json(served.example or example_request(served.model))


def _model_ready(models: Models, parameters: Parameters) -> Response:
    return _json({"name": models.find_ready(**parameters).name, "ready": True})


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _management() -> tuple[Page, ...]:
    from runtime.serving.protocol.v2.management import PAGES  # a start does not wait for what tools ask later

    return PAGES


def _describe(models: Models) -> dict[str, Any]:
    from runtime.serving.protocol.v2.openapi import paths  # for people: no start has to wait for it

    return paths(models)


_PAGES: Final = (
    *(Page(path, lambda *_: _json(_SERVER)) for path in ("/v2", "/v2/")),
    Page("/v2/health/live", lambda *_: _json({"live": True}), quiet=True),
    Page("/v2/health/ready", _ready, quiet=True),
    Page("/v2/models", lambda models, _: _json({"models": list(models.served)})),
    *(Page(path, _model) for path in _MODEL),
    *(Page(f"{path}/example", _example) for path in _MODEL),
    *(Page(f"{path}/ready", _model_ready, quiet=True) for path in _MODEL),
)

V2_JSON: Final = Codec(
    name=NAME,
    paths=tuple(f"{path}/infer" for path in _MODEL),
    # Clients send JSON under every name or none: tritonclient none, its asyncio half octet-stream, curl -d a form's.
    media_types=(b"application/json", None, b"application/octet-stream", b"application/x-www-form-urlencoded"),
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=error_response,
    pages=_PAGES,
    later_pages=_management,
    describe=_describe,
    binary_at=binary_at,
    text_bytes=text_bytes,
)
