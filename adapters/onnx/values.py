"""ONNX Runtime's types, such as `tensor(float)` or `seq(map(string,tensor(float)))`, as datatypes of the protocol."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed, WrongInput
from adapters.values import from_text, to_text

NUMBERS: Final = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float": "FP32", "double": "FP64",
    "string": "BYTES",
}  # fmt: skip
MAP_VALUES: Final = {"float": np.float32, "double": np.float64, "int64": np.int64}

Cast = Callable[[Any], Any]
"""From an array of the protocol to what ONNX Runtime takes, or back."""


def reader(onnx_type: str, what: str) -> tuple[str, Cast | None]:
    """Returns (datatype, conversion from the protocol's array or None) of an input. Raises LoadFailed with the type."""
    element = _inside(onnx_type, "tensor")
    if element not in NUMBERS:
        raise _no_datatype(onnx_type, what)
    return NUMBERS[element], partial(to_text, what=what) if element == "string" else None


def writer(onnx_type: str, labels: tuple[str | int, ...] | None, what: str) -> tuple[str, Cast | None]:
    """Returns (datatype, conversion to the protocol's array or None) of an output. Raises LoadFailed with the type.
    A sequence of maps becomes a tensor with a column for each of the ZipMap's `labels`; tensors are stacked."""
    element = _inside(onnx_type, "tensor")
    if element in NUMBERS:
        return NUMBERS[element], from_text if element == "string" else None
    inner = _inside(onnx_type, "seq")
    if (element := _inside(inner, "tensor")) in NUMBERS:
        return NUMBERS[element], partial(_stack, element=element, what=what)
    value = _inside(_inside(inner, "map").partition(",")[2], "tensor")
    if value in MAP_VALUES:
        if not labels:
            raise LoadFailed(f"{what} is a {onnx_type} whose labels the file does not state; export without ZipMap")
        return NUMBERS[value], partial(_columns, labels=labels, dtype=MAP_VALUES[value])
    raise _no_datatype(onnx_type, what)


def _inside(text: str, kind: str) -> str:
    return text[len(kind) + 1 : -1] if text.startswith(f"{kind}(") and text.endswith(")") else ""


def _no_datatype(onnx_type: str, what: str) -> LoadFailed:
    return LoadFailed(f"{what} is a {onnx_type}, which has no datatype in the Open Inference Protocol")


def _columns(maps: list[dict[Any, Any]], labels: tuple[str | int, ...], dtype: Any) -> Any:
    return np.array([[row[label] for label in labels] for row in maps], dtype=dtype).reshape(len(maps), len(labels))


def _stack(values: list[Any], element: str, what: str) -> Any:
    if len({value.shape for value in values}) > 1:
        raise WrongInput(f"{what} is a sequence of tensors of different shapes this time, which no one tensor can hold")
    whole = np.stack(values) if values else np.empty((0,))
    return from_text(whole) if element == "string" else whole
