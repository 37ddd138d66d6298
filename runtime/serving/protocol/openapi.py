"""Pieces of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), for the protocols that describe themselves."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from adapters.base import TensorSpec
from runtime.serving.protocol.json_elements import FLOATS, INTEGERS

Piece = dict[str, Any]

OBJECT: Final[Piece] = {"type": "object"}
TEXT: Final[Piece] = {"type": "string"}
FLAG: Final[Piece] = {"type": "boolean"}
SERVER: Final = "server"
"""The tag of what is about no model."""


def operation(
    tag: str,
    summary: str,
    answer: Piece,
    *,
    refused: Iterable[int] = (),
    body: Piece | None = None,
    parameters: Iterable[Piece] = (),
) -> Piece:
    """Returns an operation that answers 200 with `answer`, a schema of JSON or a whole response, or is `refused`."""
    whole = answer if "description" in answer else {"description": summary, "content": json_of(answer)}
    statuses = sorted({*refused, 400, 500})
    responses = {"200": whole, **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}}
    found: Piece = {"tags": [tag], "summary": summary, "responses": responses}
    if body is not None:
        found["requestBody"] = body
    if given := list(parameters):
        found["parameters"] = given
    return found


def json_of(schema: Piece, **more: Any) -> Piece:
    """Returns the content of a JSON body."""
    return {"application/json": {"schema": schema, **more}}


def object_of(required: Mapping[str, Any], **optional: Any) -> Piece:
    """Returns the schema of an object with these members, and others."""
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def array_of(items: Piece) -> Piece:
    """Returns the schema of an array."""
    return {"type": "array", "items": items}


HEALTH: Final = object_of({"live": FLAG}, ready=FLAG, reason=TEXT, progress=OBJECT)


def readiness() -> Piece:
    """Returns the operation that says whether the server is ready."""
    ready = operation(SERVER, "Whether predictions should be sent here", HEALTH)
    ready["responses"]["503"] = {"description": "Not yet, or no more", "content": json_of(HEALTH)}
    return ready


def element(datatype: str) -> Piece:
    """Returns the schema of one element of a tensor in JSON."""
    if datatype in INTEGERS:
        low, high = INTEGERS[datatype]
        return {"type": "integer", "minimum": low, "maximum": high}
    if datatype in FLOATS:
        return {"type": ["number", "null"]}
    return TEXT if datatype == "BYTES" else FLAG


def row_of(inputs: Sequence[TensorSpec], pictures: Container[str]) -> Piece:
    """Returns the schema of a row: the values of a model's one input, or all inputs by name; images are `b64`."""
    image = object_of({"b64": TEXT})
    named = {spec.name: {"anyOf": [_nested(spec), image]} if spec.name in pictures else _nested(spec)
             for spec in inputs}  # fmt: skip
    required = {spec.name: named[spec.name] for spec in inputs if not spec.optional}
    whole = object_of(required, **{name: schema for name, schema in named.items() if name not in required})
    return {"anyOf": [*named.values(), whole]} if len(inputs) == 1 else whole


def _nested(spec: TensorSpec) -> Piece:
    schema = element(spec.datatype)
    for size in reversed(spec.shape[1:]):
        schema = array_of(schema) if size < 0 else {**array_of(schema), "minItems": size, "maxItems": size}
    return schema


def example_of(value: object, longest: int = 2**16) -> Piece:
    """Returns `value` as the example of a body, nothing if it has more than `longest` bytes as JSON."""
    return {"example": value} if len(orjson.dumps(value)) <= longest else {}
