"""What `/openapi.json` says of plain predictions: each path, and each form with rows that pass for the model."""

import csv
import io
from collections.abc import Iterable
from math import prod
from typing import Any, Final

from adapters.base import TensorSpec
from runtime.serving.protocol.openapi import (
    TEXT,
    Piece,
    array_of,
    example_of,
    json_of,
    object_of,
    operation,
    readiness,
    row_of,
)
from runtime.serving.protocol.plain.body import ARROW, CSV, IMAGES, JSON_LINES, MULTIPART, NPY
from runtime.serving.protocol.plain.body import TEXT as PLAIN_TEXT
from runtime.serving.protocol.plain.csv_text import names_of
from runtime.serving.served import Models, Served

_MOST_COLUMNS: Final = 1024
_BYTES: Final[Piece] = {}  # OpenAPI 3.1: bytes that are no text have an empty schema


def described(models: Models, predict: Iterable[str], health: Iterable[str]) -> Piece:
    """Returns the path items of the paths for predictions, and of those for health."""
    found: Piece = {path: {"get": readiness()} for path in health}
    for served in models.served.values():
        forms = _forms(served)
        for path in predict:
            versions = {"name": "version", "in": "path", "required": True,
                        "schema": {"type": "string", "enum": list(served.provenance.versions)}}  # fmt: skip
            parameters = [versions] if "{version}" in path else []
            found[path.replace("{model}", served.name)] = {"post": _predict(served.name, forms, parameters)}
    return found


def _predict(name: str, forms: Piece, parameters: Iterable[Piece]) -> Piece:
    answer = {"description": "Rows of named values", "content": {**json_of({}), CSV.decode(): {"schema": TEXT}}}
    return operation(
        name,
        "A prediction from rows, columns, a table, an array, a text or an image",
        answer,
        refused=(404, 413, 415, 503, 504),
        body={"required": True, "content": forms},
        parameters=parameters,
    )


def _forms(served: Served) -> Piece:
    """Returns what a body may be, for this model."""
    inputs, only, pictures = served.model.inputs, served.signature.only, served.signature.pictures
    rows = served.example_rows()
    row = row_of(inputs, pictures)
    columns = object_of({}, **{spec.name: {} for spec in inputs})
    found = json_of({"anyOf": [array_of(row), row, columns]}, **example_of(rows))
    found[JSON_LINES[0].decode()] = {"schema": TEXT}
    if not pictures and (table := _csv_of(inputs, rows)) is not None:
        found[CSV.decode()] = {"schema": TEXT, **example_of(table)}
    others = [ARROW, *([NPY] if served.signature.alone else ()), *(IMAGES if only and pictures else ())]
    found |= {kind.decode(): {"schema": _BYTES} for kind in others}
    if text := served.signature.text:
        found[PLAIN_TEXT.decode()] = {"schema": TEXT, **example_of(str(rows[0] if only else rows[0][text.name]))}
    found[MULTIPART.decode()] = {"schema": object_of({}, file={"type": "string"})}
    return found


def _csv_of(inputs: tuple[TensorSpec, ...], rows: list[Any]) -> str | None:
    """Returns a table of `rows`, all the same, None if that is very wide, or CSV has no form for the inputs."""
    if any(-1 in spec.shape[1:] or prod(spec.shape[1:]) > _MOST_COLUMNS for spec in inputs):
        return None
    row = rows[0] if len(inputs) > 1 else {inputs[0].name: rows[0]}
    cells: dict[str, Any] = {}
    for spec in inputs:
        if spec.name in row:
            values = _flat(row[spec.name])
            cells |= zip(names_of(spec.name, spec.shape[1:], len(values)), values, strict=True)
    text = io.StringIO()
    csv.writer(text).writerows([cells, *[["" if cell is None else cell for cell in cells.values()]] * len(rows)])
    return text.getvalue()


def _flat(value: Any) -> list[Any]:
    return [cell for each in value for cell in _flat(each)] if type(value) is list else [value]
