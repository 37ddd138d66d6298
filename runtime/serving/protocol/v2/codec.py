"""The Open Inference Protocol V2 in JSON, as one value, with the pages that describe the server and its models.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import orjson

from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import encode
from runtime.serving.protocol.v2.form import NAME, Form
from runtime.serving.statuses import JSON, RETRY, Response, error_response

if TYPE_CHECKING:
    from runtime.serving.models import Models

Parameters = Mapping[str, str]
_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def _json(value: object) -> Response:
    return Response(200, (JSON,), orjson.dumps(value))


def _live(_: Models, __: Parameters) -> Response:
    return _json({"live": True})


def _ready(models: Models, _: Parameters) -> Response:
    report = _json(models.health.report())
    return report if models.health.ready else report._replace(status=503, headers=(JSON, RETRY))


def _server(_: Models, __: Parameters) -> Response:
    from runtime.serving.protocol.metadata import server_metadata  # no start has to wait for it

    return _json(server_metadata())


def _models(models: Models, _: Parameters) -> Response:
    return _json({"models": list(models)})


def _model(models: Models, parameters: Parameters) -> Response:
    from runtime.serving.protocol.metadata import model_metadata

    served = models.find(**parameters)
    return _json(model_metadata(served.model, served.provenance))


def _model_ready(models: Models, parameters: Parameters) -> Response:
    return _json({"name": models.find_ready(**parameters).name, "ready": True})


V2_JSON: Final = Codec(
    name=NAME,
    paths=tuple(f"{path}/infer" for path in _MODEL),
    # Clients send JSON under every name or none: tritonclient none, its asyncio half octet-stream, curl -d a form's.
    media_types=(b"application/json", None, b"application/octet-stream", b"application/x-www-form-urlencoded"),
    longest_body=2**31 - 1,  # a tensor has no more elements
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=error_response,
    pages=(
        Page("/v2", _server),
        Page("/v2/", _server),
        Page("/v2/health/live", _live, quiet=True),
        Page("/v2/health/ready", _ready, quiet=True),
        Page("/v2/models", _models),
        *(Page(path, _model) for path in _MODEL),
        *(Page(f"{path}/ready", _model_ready, quiet=True) for path in _MODEL),
    ),
)
