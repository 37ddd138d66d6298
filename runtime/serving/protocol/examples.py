"""Rows that pass for a model: what stands in errors about inputs, and in `/openapi.json`."""

import base64
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
import orjson

from adapters.base import Model, TensorSpec
from runtime.serving.pictures import Picture
from runtime.serving.protocol.image import blank

_LONGEST_SHOWN: Final = 1024


def example_rows(model: Model, sample: Mapping[str, Any] | None, pictures: Mapping[str, Picture]) -> list[Any]:
    """Returns rows that pass: black images, the first row of the kit's `sample`, else zeros and ""; one, if the model
    takes one."""
    rows = max((spec.shape[0] for spec in model.inputs if spec.shape), default=1)
    row = _of_sample(model, sample or {}) or {
        spec.name: _zeros(spec, spec.shape[1:]) for spec in _required(model) or model.inputs[:1]
    }
    row |= {name: {"b64": base64.b64encode(blank(picture)).decode()} for name, picture in pictures.items()}
    return [row if len(model.inputs) > 1 else next(iter(row.values()), None)] * max(1, rows)


def _required(model: Model) -> tuple[TensorSpec, ...]:
    return tuple(spec for spec in model.inputs if not spec.optional)


def _of_sample(model: Model, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the first row of a request in V2 JSON, nothing if it has parameters or no rows."""
    row = {}
    for tensor in sample.get("inputs", ()):
        if tensor.get("parameters") or not tensor["shape"] or not tensor["shape"][0]:
            return {}
        values = np.array(tensor["data"], np.object_).reshape(tensor["shape"])
        row[tensor["name"]] = values[0].tolist() if values.ndim > 1 else values[0]
    is_whole = len(row) == len(model.inputs) == 1 or {spec.name for spec in _required(model)} <= row.keys()
    return row if is_whole and not sample.get("parameters") else {}


def _zeros(spec: TensorSpec, shape: Sequence[int]) -> Any:
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0)
    for size in reversed(shape):
        zero = [zero] * (1 if size < 0 else size)
    return zero


def advice(model: Model, name: str, sample: Mapping[str, Any] | None, write: Callable[[list[Any]], Any]) -> str:
    """Returns what an error about inputs ends with: a body that passes, or where to look if that would be long."""
    one_row = all(spec.shape[:1] in ((-1,), (1,)) for spec in model.inputs)
    if one_row and sum(prod(map(abs, spec.shape)) for spec in model.inputs) <= _LONGEST_SHOWN:
        body = orjson.dumps(write(example_rows(model, sample, {}))).decode()
        if len(body) <= _LONGEST_SHOWN:
            return f"; a body that passes: {body}"
    return f"; GET /v2/models/{name} shows what the model takes"
