"""Rows that pass for a model: what stands in errors about inputs, and in `/openapi.json`."""

import base64
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
import orjson

from adapters.base import TensorSpec
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.image import blank
from runtime.serving.protocol.rows import short

_LONGEST_SHOWN: Final = 1024


def example_rows(signature: Signature, sample: Mapping[str, Any] | None, *, alone: bool = True) -> list[Any]:
    """Returns rows that pass: the first one of the kit's `sample`, else the model's own, else zeros and "", and black
    images. As many as the model takes: one, or all of `sample` if it takes none `alone`."""
    inputs = signature.inputs
    found = _of_sample(signature, sample or {}) or [
        {name: _example(inputs[name], signature.example.get(name, ())) for name in signature.required or [*inputs][:1]}
    ]
    pictures = {name: {"b64": base64.b64encode(blank(it)).decode()} for name, it in signature.pictures.items()}
    made = [row | pictures for row in (found[:1] if alone else found)]
    fixed = max((spec.shape[0] for spec in inputs.values() if spec.shape), default=1)
    rows = made * fixed if alone and fixed > 1 else made
    return rows if signature.only is None else [next(iter(row.values()), None) for row in rows]


def _of_sample(signature: Signature, sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of a request in V2 JSON, none if it has parameters, or is none."""
    columns: dict[str, list[Any]] = {}
    try:
        for tensor in sample["inputs"]:
            values = np.array(tensor["data"], np.object_).reshape(tensor["shape"])
            name = tensor["name"] if signature.only is None else signature.only.name
            columns[name] = values.tolist()
            if "parameters" in tensor:
                return []
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    except (KeyError, TypeError, ValueError):  # of a sample that is wrong the replay says so
        return []
    return rows if columns.keys() >= set(signature.required) and "parameters" not in sample else []


def _example(spec: TensorSpec, elements: Sequence[object]) -> Any:
    sizes = [1 if size < 0 else size for size in spec.shape[1:]]
    if elements:
        return np.array(elements, np.object_).reshape(sizes).tolist()
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0)
    for size in reversed(sizes):
        zero = [zero] * size
    return zero


def as_written(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a request in V2 JSON with the digits that a person writes for FP32: 5.1, not 5.099999904632568."""
    try:
        return {**request, "inputs": [{**tensor, "data": _as_written(tensor)} for tensor in request["inputs"]]}
    except (KeyError, TypeError, ValueError, OverflowError):  # of a sample that is wrong the replay says so
        return request


def _as_written(tensor: Mapping[str, Any]) -> Any:
    if tensor["datatype"] != "FP32":
        return tensor["data"]
    with np.errstate(over="ignore"):
        array = np.array(tensor["data"], np.float32)
    return tensor["data"] if np.isinf(array).any() else short(array)


def advice(signature: Signature, name: str, rows: list[Any], write: Callable[[list[Any]], Any]) -> str:
    """Returns what an error about inputs ends with: a body of `rows` that pass, or where to look if it is long."""
    specs = signature.inputs.values()
    numbers = sum(prod(map(abs, spec.shape)) for spec in specs if spec.name not in signature.pictures)
    if numbers <= _LONGEST_SHOWN and all(spec.shape[:1] in ((-1,), (1,)) for spec in specs):
        body = orjson.dumps(write(rows)).decode()
        if len(body) <= _LONGEST_SHOWN:
            return f"; a body that passes: {body}"
    return f"; GET /v2/models/{name} shows what the model takes"
