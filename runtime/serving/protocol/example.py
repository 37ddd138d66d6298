"""A request that passes for a model, made from its signature alone: zeros, empty strings, free dimensions of 1."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from adapters.base import Model, TensorSpec

LONGEST_SHOWN = 2048


def example_request(model: Model) -> dict[str, Any]:
    """Returns an inference request that fits `model`: its required inputs, or one if all are optional."""
    required = [spec for spec in model.inputs if not spec.optional]
    return {"inputs": [_zeros(spec) for spec in required or model.inputs[:1]]}


def advice(model: Model, name: str) -> str:
    """Returns what an error about inputs ends with: a body that passes, or where to look if that would be long."""
    body = orjson.dumps(example_request(model)).decode() if _elements(model) <= LONGEST_SHOWN else ""
    if body and len(body) <= LONGEST_SHOWN:
        return f"; a body that passes: {body}"
    return f"; GET /v2/models/{name} shows what the model takes"


def _elements(model: Model) -> int:
    return sum(prod(map(abs, spec.shape)) for spec in model.inputs)


def _zeros(spec: TensorSpec) -> dict[str, Any]:
    shape = [1 if size < 0 else size for size in spec.shape]
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [zero] * prod(shape)}
