"""What `/openapi.json` says of V2: its pages, and each model with its tensors and a request that passes."""

from collections.abc import Iterable
from typing import Any, Final

from adapters.base import TensorSpec
from runtime.serving.protocol.openapi import (
    FLAG,
    HEALTH,
    OBJECT,
    SERVER,
    TEXT,
    Piece,
    array_of,
    element,
    example_of,
    json_of,
    object_of,
    operation,
    readiness,
)
from runtime.serving.protocol.v2.encode import example_request
from runtime.serving.served import Models, Served

_LONGEST_EXAMPLE: Final = 2**20
_SIZE: Final = {"type": "integer", "minimum": 0}
_PARAMETERS: Final = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_TENSORS: Final = array_of(object_of({"name": TEXT, "datatype": TEXT, "shape": array_of({"type": "integer"})}))
_STATS: Final = object_of({"model_stats": array_of(object_of({"name": TEXT, "inference_stats": OBJECT}))})


def paths(models: Models) -> Piece:
    """Returns the path items of V2, for the models that are there."""
    found = _of_server()
    for served in models.served.values():
        name = served.name
        versions = {"name": "version", "in": "path", "required": True,
                    "schema": {"type": "string", "enum": list(served.provenance.versions)}}  # fmt: skip
        found.update(_of_model(served, f"/v2/models/{name}", ()))
        found.update(_of_model(served, f"/v2/models/{name}/versions/{{version}}", (versions,)))
        found[f"/v2/models/{name}/trace/setting"] = _settings(name, "Settings of traces")
    return found


def _of_server() -> Piece:
    entry = object_of({"name": TEXT, "state": TEXT, "reason": TEXT}, version=TEXT)
    about = object_of({"name": TEXT, "version": TEXT, "extensions": array_of(TEXT)})
    only_ready = {"content": json_of(object_of({}, ready=FLAG), example={"ready": True})}
    return {
        "/v2": {"get": operation(SERVER, "Name, version and extensions", about)},
        "/v2/health/live": {"get": operation(SERVER, "Whether the server listens", HEALTH)},
        "/v2/health/ready": {"get": readiness()},
        "/v2/models": {"get": operation(SERVER, "Names of the models", object_of({"models": array_of(TEXT)}))},
        "/v2/models/stats": {"get": operation(SERVER, "Statistics of all models", _STATS)},
        "/v2/repository/index": {
            "post": operation(SERVER, "State of the models", array_of(entry), refused=(413, 415), body=only_ready)
        },
        "/v2/logging": _settings(SERVER, "Settings of the log"),
        "/v2/trace/setting": _settings(SERVER, "Settings of traces"),
    }


def _settings(tag: str, what: str) -> Piece:
    refused, body = (404, 413, 415, 503), {"content": json_of(OBJECT, example={})}
    return {
        "get": operation(tag, what, OBJECT, refused=refused),
        "post": operation(tag, f"{what}: nothing that would change one", OBJECT, refused=refused, body=body),
    }


def _of_model(served: Served, path: str, parameters: Iterable[Piece]) -> Piece:
    def about(summary: str, answer: Piece) -> Piece:
        return {"get": operation(served.name, summary, answer, refused=(404, 503), parameters=parameters)}

    metadata = object_of({"name": TEXT, "versions": array_of(TEXT), "platform": TEXT, "inputs": _TENSORS,
                          "outputs": _TENSORS, "properties": OBJECT})  # fmt: skip
    config = object_of({"name": TEXT, "max_batch_size": _SIZE, "input": array_of(OBJECT), "output": array_of(OBJECT)})
    example = example_of(served.example or example_request(served.model), _LONGEST_EXAMPLE)
    predict = operation(served.name, "A prediction", _answer(served), refused=(404, 413, 415, 503, 504),
                        body={"required": True, "content": json_of(_request(served), **example)},
                        parameters=parameters)  # fmt: skip
    return {
        path: about("What the model takes and gives", metadata),
        f"{path}/ready": about("Whether the model can be asked", object_of({"name": TEXT, "ready": FLAG})),
        f"{path}/example": about("A request that the model answers", OBJECT),
        f"{path}/config": about("The model as Triton's tools configure it", config),
        f"{path}/stats": about("Statistics of the model", _STATS),
        f"{path}/infer": {"post": predict},
    }


def _request(served: Served) -> Piece:
    model = served.model
    names = {"enum": [spec.name for spec in model.outputs]} if model.outputs else TEXT  # they may be unknown as yet
    wanted = object_of({"name": names}, parameters=_PARAMETERS)
    one = len(model.inputs) == 1
    inputs = {"type": "array", "minItems": 1, "maxItems": max(served.limits.inputs, 2 * len(model.inputs)),
              "items": _one_of(_input(spec, any_name=one) for spec in (*model.inputs, *model.also))}  # fmt: skip
    return object_of({"inputs": inputs}, id=TEXT, parameters=_PARAMETERS, outputs=array_of(wanted))


def _answer(served: Served) -> Piece:
    labels = served.model.labels
    outputs = array_of(_one_of(_output(spec) for spec in served.model.outputs))
    if labels is not None:
        outputs["description"] = "Labels: " + ", ".join(f"{index} {label}" for index, label in enumerate(labels[:1000]))
    members = {"model_name": {"const": served.name}, "model_version": TEXT, "id": TEXT, "outputs": outputs}
    return object_of(members, parameters=_PARAMETERS)


def _input(spec: TensorSpec, *, any_name: bool) -> Piece:
    name = {"type": "string", "examples": [spec.name]} if any_name else {"const": spec.name}
    data = {"type": ["string", "null"]} if spec.nullable and spec.datatype == "BYTES" else element(spec.datatype)
    return _tensor(spec, name, {"const": spec.datatype}, {"data": array_of(data)})


def _output(spec: TensorSpec) -> Piece:
    # asked for as classes, it is of BYTES and has another shape; in binary form it has no data
    found = object_of({"name": {"const": spec.name}, "datatype": {"enum": sorted({spec.datatype, "BYTES"})},
                       "shape": array_of(_SIZE)})  # fmt: skip
    found["properties"]["data"] = array_of({"anyOf": [element(spec.datatype), TEXT]})
    return found


def _tensor(spec: TensorSpec, name: Piece, datatype: Piece, more: Piece) -> Piece:
    sizes: list[Piece] = [_SIZE if size < 0 else {"const": size} for size in spec.shape]
    shape: Piece = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
    if sizes:
        shape["prefixItems"] = sizes
    return {**object_of({"name": name, "shape": shape, "datatype": datatype, **more}),
            "description": f"{spec.name}: {spec.datatype} {list(spec.shape)}, where -1 is any size"
                           f"{'; may be left out' if spec.optional else ''}"}  # fmt: skip


def _one_of(schemas: Iterable[Piece]) -> dict[str, Any]:
    all_of_them = list(schemas)
    return all_of_them[0] if len(all_of_them) == 1 else {"anyOf": all_of_them} if all_of_them else OBJECT
