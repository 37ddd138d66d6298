"""What `/openapi.json` says of KServe's V1: its pages, and each model with rows that pass."""

from runtime.serving.protocol.openapi import (
    FLAG,
    SERVER,
    TEXT,
    Piece,
    array_of,
    example_of,
    json_of,
    object_of,
    operation,
    row_of,
)
from runtime.serving.served import Models, Served


def paths(models: Models) -> Piece:
    """Returns the path items of V1, for the models that are there."""
    found: Piece = {
        "/v1/models": {"get": operation(SERVER, "Names of the models", object_of({"models": array_of(TEXT)}))}
    }
    for name, served in models.served.items():
        ready = object_of({"name": TEXT, "ready": FLAG})
        found[f"/v1/models/{name}"] = {
            "get": operation(name, "Whether the model can be asked", ready, refused=(404, 503))
        }
        found[f"/v1/models/{name}:predict"] = {"post": _predict(served)}
    return found


def _predict(served: Served) -> Piece:
    pictures = served.signature.pictures
    rows = array_of(row_of(served.model.inputs, pictures))
    schema = {"anyOf": [object_of({"instances": {**rows, "minItems": 1}}), object_of({"inputs": {}})]}
    example = example_of({"instances": served.example_rows()})
    return operation(
        served.name,
        "A prediction in KServe V1: rows, or columns",
        object_of({"predictions": {"type": "array"}}),
        refused=(404, 413, 415, 503, 504),
        body={"required": True, "content": json_of(schema, **example)},
    )
