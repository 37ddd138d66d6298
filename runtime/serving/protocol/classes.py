"""Triton's classification extension: the highest values of an output, each as `value:index` or `value:index:label`.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from adapters.base import Model, TensorSpec
from adapters.values import Array
from runtime.errors import InvalidInput
from runtime.serving.protocol.json_elements import FLOATS, INTEGERS
from runtime.serving.wording import quoted, shown


def wanted_classes(parameters: Mapping[str, Mapping[str, Any]], outputs: Iterable[TensorSpec]) -> dict[str, int]:
    """Returns how many classes are asked of outputs, by name, from the `parameters` of each. Raises InvalidInput."""
    key = "classification"
    return {spec.name: _count(of[key], spec) for spec in outputs if key in (of := parameters.get(spec.name, {}))}


def _count(given: object, spec: TensorSpec) -> int:
    if spec.datatype not in FLOATS and spec.datatype not in INTEGERS:
        raise _invalid(spec, f"an output of {spec.datatype} has no highest values")
    if type(given) is not int or given < 1:
        raise _invalid(spec, f"must be a positive integer, got {shown(given)}")
    classes = spec.shape[_rows(spec) :]
    if -1 not in classes:
        _check(spec, given, prod(classes))
    return given


def classified(model: Model, name: str, values: Array, count: int) -> Array:
    """Returns the `count` highest `values` of each row of the output `name` as BYTES, the highest first; of equals the
    one that comes first. An output whose first axis is free has rows. The model's labels are named where there is one
    for each class."""
    spec = next(spec for spec in model.outputs if spec.name == name)
    rows = [len(values)] if _rows(spec) else []
    classes = prod(values.shape[len(rows) :])
    _check(spec, count, classes)
    flat = values.reshape(prod(rows), classes)
    keys = np.where(np.isnan(flat), -np.inf, flat)[:, ::-1] if spec.datatype in FLOATS else flat[:, ::-1]
    order = classes - 1 - np.argsort(keys, axis=1, kind="stable")[:, ::-1][:, :count]
    highest = np.take_along_axis(flat, order, axis=1)
    named = model.labels if model.labels is not None and len(model.labels) == classes else None
    texts = np.empty(order.size, np.object_)
    texts[:] = [
        f"{value}:{index}:{named[index]}".encode() if named else f"{value}:{index}".encode()
        for value, index in zip(map(str, highest.reshape(-1)), order.reshape(-1).tolist(), strict=True)
    ]
    return texts.reshape(*rows, count)


def _rows(spec: TensorSpec) -> int:
    return spec.shape[:1] == (-1,)


def _check(spec: TensorSpec, count: int, classes: int) -> None:
    if count > classes:
        raise _invalid(spec, f"{shown(count)} of {classes} classes")


def _invalid(spec: TensorSpec, why: str) -> InvalidInput:
    return InvalidInput(f"output {quoted(spec.name)}: invalid parameter 'classification': {why}")
