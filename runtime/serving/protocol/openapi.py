"""Pieces of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), for the protocols that describe themselves."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Piece = dict[str, Any]

OBJECT: Final[Piece] = {"type": "object"}


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
