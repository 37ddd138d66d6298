"""The OpenAPI 3.1 document of a server, and the page that shows it: https://spec.openapis.org/oas/v3.1.0."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import orjson

from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.openapi import Piece, array_of, json_of, object_of, operation
from runtime.serving.served import Models
from runtime.serving.statuses import JSON, STATUSES, Response
from runtime.version import __version__

_FILES: Final = Path(__file__).parent / "swagger"
_TYPES: Final = {".css": b"text/css", ".js": b"text/javascript"}
_POLICY: Final = b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_HTML: Final = ((b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", _POLICY))
_KEPT: Final = ((b"cache-control", b"max-age=3600"), (b"x-content-type-options", b"nosniff"))


def openapi(models: Models, codecs: Iterable[Codec], root: str) -> Response:
    """Returns the document of this server, whose paths begin with `root`."""
    paths = _own_paths()
    for codec in codecs:
        paths.update(codec.describe(models))
    error = json_of(object_of({"error": {"type": "string"}}))
    refusals: dict[str, Piece] = {}
    for row in STATUSES:
        text = (row.failure.__doc__ or "").partition("\n")[0]
        refusals.setdefault(str(row.http), {"description": text, "content": error})
    document = {
        "openapi": "3.1.0",
        "info": {"title": f"ModelKit Runtime: {', '.join(models.served) or 'no model yet'}", "version": __version__},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"responses": refusals},
    }
    return Response(200, (JSON,), orjson.dumps(document))


def _own_paths() -> Piece:
    metrics = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    home = object_of({"status": {"const": "alive"}, "models": array_of({"type": "string"})})
    return {
        "/": {"get": operation("server", "Where everything is", home)},
        "/metrics": {"get": operation("server", "Metrics of all workers", metrics)},
    }


def page() -> Response:
    """Returns the page that shows the document with Swagger UI, from this server alone."""
    return Response(200, _HTML, (_FILES / "page.html").read_bytes())


@cache
def files() -> frozenset[str]:
    """Returns the names of the files that the page asks for."""
    return frozenset(path.name for path in _FILES.iterdir() if path.suffix in _TYPES)


def file(name: str) -> Response:
    """Returns one of `files()`."""
    path = _FILES / name
    return Response(200, ((b"content-type", _TYPES[path.suffix] + b"; charset=utf-8"), *_KEPT), path.read_bytes())
