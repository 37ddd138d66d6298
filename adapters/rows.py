"""One matrix, or a column for each feature, as the rows that boosted trees take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.base import LoadFailed, Options, TensorSpec, WrongInput
from adapters.values import DTYPES


@dataclass(frozen=True, slots=True)
class Rows:
    """The specs of the inputs, and how they become one C-contiguous matrix (rows, features)."""

    specs: tuple[TensorSpec, ...]
    build: Callable[[dict[str, Any]], Any]

    def example(self) -> Any:
        """Two rows of zeros."""
        return self.build({s.name: np.zeros((2, *s.shape[1:]), DTYPES[s.datatype]) for s in self.specs})


def rows_of(options: Options, width: int, names: Sequence[str]) -> Rows:
    """`x`, FP32 (-1, width), unless `serving.inputs` says a matrix of another name or type, or the columns by name."""
    if not options.inputs:
        return _matrix(TensorSpec("x", "FP32", (-1, width)))
    if len(options.inputs) == 1 and len(options.inputs[0].shape) == 2:
        if options.inputs[0].shape[1] not in (-1, width):
            raise LoadFailed(f"serving.inputs says {options.inputs[0].shape[1]} features; the model has {width}")
        return _matrix(options.inputs[0])
    told = [spec.name for spec in options.inputs]
    if sorted(told) != sorted(names):
        raise LoadFailed(
            f"serving.inputs names {', '.join(told)}; the model's features are {', '.join(names) or width}"
        )
    return _columns(options.inputs, names)


def described(names: Sequence[str]) -> dict[str, str]:
    """The feature names as a property, for clients that have to put columns in order."""
    return {"feature_names": json.dumps(list(names), ensure_ascii=False)} if names else {}


def _matrix(spec: TensorSpec) -> Rows:
    if spec.datatype == "BYTES":
        raise LoadFailed(f"serving.inputs says {spec.name!r} is BYTES; the model takes numbers")
    return Rows((spec,), lambda arrays: arrays[spec.name])


def _columns(specs: tuple[TensorSpec, ...], names: Sequence[str]) -> Rows:
    if odd := [s.name for s in specs if s.datatype == "BYTES" or len(s.shape) != 1]:
        raise LoadFailed(f"serving.inputs says that {odd[0]!r} is no column of numbers; the model takes numbers")

    def build(arrays: dict[str, Any]) -> Any:
        if len({len(a) for a in arrays.values()}) > 1:
            listed = ", ".join(f"{name}: {len(a)}" for name, a in list(arrays.items())[:8])
            raise WrongInput(f"the columns have different numbers of rows: {listed}")
        return np.stack([arrays[name].astype(np.float64, copy=False) for name in names], axis=1)

    return Rows(specs, build)
