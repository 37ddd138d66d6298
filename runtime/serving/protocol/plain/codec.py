"""Predictions for people (docs/predict.md): every form with one meaning for this model, an example if it has none."""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.serving.engine.request import Request
from runtime.serving.media import Head
from runtime.serving.protocol import v1
from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.protocol.plain.body import (
    ARROW,
    CSV,
    IMAGES,
    JPG,
    JSON_LINES,
    MULTIPART,
    NAME,
    NPY,
    TEXT,
    Form,
    read,
)
from runtime.serving.protocol.plain.csv_text import write_csv
from runtime.serving.protocol.rows import blocks_of, by_rows, values_of, written
from runtime.serving.served import Models, Served
from runtime.serving.statuses import JSON, RETRY, Response, error_response

_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
_FOR_PLATFORMS: Final = ("/invocations", "/score")
"""SageMaker's path, and the usual one of Azure ML (docs/clouds.md)."""
_ASIDE: Final = (
    None,
    b"application/octet-stream",
    b"application/x-www-form-urlencoded",
    ARROW,
    MULTIPART,
    *IMAGES,
    JPG,
)
"""What may be an image, which takes milliseconds however short it is, or a library that has to be imported first."""


def decode(head: Head, body: bytes, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    try:
        inputs, form = read(head.get(b"content-type", b""), body, served)
    except InputAtFault as fault:
        fault.advice = fault.advice or served.forms[NAME].advice
        raise
    form = "csv" if _prefers_csv(head.get(b"accept", b"")) else form
    return Request(inputs, served.signature.default, form=form)


def _prefers_csv(accept: bytes) -> bool:
    """True if an Accept (https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1) wants CSV rather than JSON."""
    if CSV not in accept.lower():
        return False
    wants: dict[bytes, float] = {}
    for entry in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in entry.split(b";"))
        quality = next((part[2:] for part in parameters if part.startswith(b"q=")), b"1")
        try:
            wants.setdefault(kind, float(quality))
        except ValueError:
            wants.setdefault(kind, 0.0)
    others = (b"application/json", b"application/*", b"*/*")
    first = next((kind for kind in wants if kind == CSV or kind in others), b"")
    best = max((wants[kind] for kind in others if kind in wants), default=0.0)
    return wants.get(CSV, 0.0) > best or (first == CSV and wants[CSV] == best > 0)


def encode(served: Served, request: Request, outputs: Arrays) -> Response:
    """Returns the answer: rows of named values, or what the request asked for."""
    form: Form = served.forms[NAME]
    if request.form == "v1":
        return v1.answer(form.v1, request, outputs)
    aligned = by_rows(request.rows, request.wanted, outputs)
    if request.form == "csv":
        if not aligned:
            raise InvalidInput("the outputs have no rows, which CSV needs; ask for JSON")
        return Response(200, form.csv, write_csv(served.model, request, outputs))
    if not aligned:
        whole = {name: _named(served, outputs, name) for name in request.wanted}
        return Response(200, form.json, orjson.dumps(whole))
    blocks = blocks_of(request.rows, request.wanted, outputs)
    text = written(blocks, lambda block: rows_of(served, block, request.wanted))
    return Response(200, form.json, text[1:-1] if request.form == "row" and request.rows == 1 else text)


def rows_of(served: Served, outputs: Arrays, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Returns rows of the values of the outputs that are `wanted`, by name."""
    whole = {name: _named(served, outputs, name) for name in wanted}
    return [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]


def _named(served: Served, outputs: Arrays, name: str) -> Any:
    """Returns an output's values; of a number for each label, objects by label."""
    array, labels = outputs[name], served.model.labels
    values = values_of(name, array)
    if labels is None or array.dtype.kind != "f" or array.shape[1:] != (len(set(labels)),):
        return values
    return [dict(zip(labels, row, strict=True)) for row in values]


def _ready(models: Models, _: object) -> Response:
    ready = models.health.ready
    report = orjson.dumps(models.health.report())
    return Response(200, (JSON,), report) if ready else Response(503, (JSON, RETRY), report)


def plain(predict: str | None = None, health: str | None = None) -> Codec:
    """Returns the protocol, with a further path for predictions and one for health if a platform wants them."""
    paths = ("/predict", *(f"{path}/predict" for path in _MODEL), *_FOR_PLATFORMS, *filter(None, (predict,)))
    healths = ("/ping", *filter(None, (health,)))

    def describe(models: Models) -> dict[str, Any]:
        from runtime.serving.protocol.plain.openapi import described  # for people: no start has to wait for it

        return described(models, paths, healths)

    return Codec(
        name=NAME,
        paths=paths,
        media_types=(b"application/json", CSV, NPY, TEXT, *JSON_LINES, *_ASIDE),
        aside=frozenset(_ASIDE),
        images=True,
        prepare=Form.of,
        decode=decode,
        encode=encode,
        refuse=error_response,
        pages=tuple(Page(path, _ready, quiet=True) for path in healths),
        describe=describe,
    )


PLAIN: Final = plain()
