"""KServe's V1, which is TensorFlow Serving's REST: rows in, predictions out.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from adapters.values import Arrays
from runtime.errors import InputAtFault
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature
from runtime.serving.media import Head
from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.protocol.examples import advice
from runtime.serving.protocol.json_document import Document, read_document
from runtime.serving.protocol.json_numbers import LONG
from runtime.serving.protocol.long_rows import BLANKS, from_long_numbers, from_long_rows
from runtime.serving.protocol.rows import array_from, blocks_of, by_rows, from_columns, from_rows, values_of, written
from runtime.serving.served import Models, Served
from runtime.serving.statuses import (
    JSON,
    Header,
    MethodNotAllowed,
    NotImplementedHere,
    Response,
    error_response,
)

NAME: Final = "v1"
_ROWS: Final = rb'[ \t\r\n]*\{[ \t\r\n]*"(instances|inputs)"[ \t\r\n]*:[ \t\r\n]*(?=\[)'
_MODEL: Final = "/v1/models/{model}"


class Form(NamedTuple):
    """What does not change from request to request of one model: in `served.forms[NAME]`."""

    headers: tuple[Header, ...]
    advice: str

    @classmethod
    def of(cls, served: Served) -> "Form":
        """Returns the form of `served`."""
        text = advice(served.signature, served.name, served.example_rows(), lambda rows: {"instances": rows})
        return cls(served.stamped((JSON,)), text)


def decode(_: Head, body: bytes, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    form: Form = served.forms[NAME]
    if (request := read_long(body, served, form)) is not None:
        return request
    try:
        document = read_document(body, served.limits.json_depth, served.limits.json_bytes)
    except InputAtFault as fault:
        fault.advice = form.advice
        raise
    return read(document, served, form)


def read_long(body: bytes, served: Served, form: Form) -> Request | None:
    """Returns the request in a body that is nothing but a long array of rows, None from any other. Raises InputAtFault
    and what `from_long_rows` does."""
    try:
        inputs = _long_rows(body, served.signature, served.limits)
    except InputAtFault as fault:
        fault.advice = form.advice
        raise
    return None if inputs is None else Request(inputs, served.signature.default)


def _long_rows(body: bytes, signature: Signature, limits: Limits) -> Arrays | None:
    start = re.match(_ROWS, body) if len(body) > LONG else None
    if start is None or body[(end := body.rfind(b"]") + 1) :].strip(BLANKS) != b"}":
        return None
    rows, only = body[start.end() : end], signature.only
    if only and (found := from_long_numbers(rows, only, limits)):
        return {only.name: found[0]} if not found[1] else None
    return from_long_rows(rows, signature, limits, "instances") if start[1] == b"instances" else None


def read(document: Document, served: Served, form: Form) -> Request:
    """Returns the request in an object with `instances` (rows) or `inputs` (columns). Raises InputAtFault."""
    try:
        return Request(_inputs(document, served.signature, served.limits), served.signature.default)
    except InputAtFault as fault:
        fault.advice = form.advice
        raise


def _inputs(document: Document, signature: Signature, limits: Limits) -> Arrays:
    if "instances" in document:
        return from_rows(document["instances"], signature, limits, "instances")
    if "inputs" not in document:
        raise InputAtFault("the request has neither instances (rows) nor inputs (columns)")
    if type(given := document["inputs"]) is dict:
        return from_columns(given, signature, limits)
    if signature.only is not None:
        return {signature.only.name: array_from(signature.only, given, signature, limits)}
    return from_rows(given, signature, limits, "inputs")


def encode(served: Served, request: Request, outputs: Arrays) -> Response:
    """Returns the answer: one output as its nested list, several as rows of objects."""
    return answer(served.forms[NAME], request, outputs)


def answer(form: Form, request: Request, outputs: Arrays) -> Response:
    """Returns what `encode` does, for a protocol that has a form of its own."""
    names = request.wanted
    if by_rows(request.rows, names, outputs):
        text = written(blocks_of(request.rows, names, outputs), _listed)
    else:
        whole = {name: values_of(name, outputs[name]) for name in names}
        values = whole if len(names) > 1 else whole[names[0]]
        text = orjson.dumps(values if type(values) is list else [values])
    return Response(200, form.headers, b'{"predictions":%b}' % text)


def _listed(outputs: Arrays) -> list[Any]:
    whole = {name: values_of(name, array) for name, array in outputs.items()}
    if len(whole) > 1:
        return [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]
    (values,) = whole.values()
    return list(values)


def _models(models: Models, _: Mapping[str, str]) -> Response:
    return _json({"models": list(models.served)})


def _model(models: Models, parameters: Mapping[str, str]) -> Response:
    if parameters["model"].endswith((":predict", ":explain")):  # the pattern of this page matches theirs
        raise MethodNotAllowed("POST")
    return _json({"name": models.find_ready(**parameters).name, "ready": True})


def _explain(models: Models, parameters: Mapping[str, str]) -> Response:
    models.find(**parameters)
    raise NotImplementedHere("explanations are not implemented; POST to …:predict for predictions")


def _json(value: Any) -> Response:
    return Response(200, (JSON,), orjson.dumps(value))


def _describe(models: Models) -> dict[str, Any]:
    from runtime.serving.protocol.v1_openapi import paths  # for people: no start has to wait for it

    return paths(models)


V1: Final = Codec(
    name=NAME,
    paths=(f"{_MODEL}:predict",),
    media_types=(b"application/json", None, b"application/octet-stream", b"application/x-www-form-urlencoded"),
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=error_response,
    describe=_describe,
    images=True,
    pages=(
        Page("/v1/models", _models),
        Page(_MODEL, _model, quiet=True),
        Page(f"{_MODEL}:explain", _explain, methods=("POST",)),
    ),
)
