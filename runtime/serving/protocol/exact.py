"""From the datatype that a client announced to the model's: the same values, or a refusal that says which would change.

Only the sign of a zero and the payload of a NaN may get lost.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault
from runtime.link.limits import Limits
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.wording import quoted, shown

_DIGITS: Final = {"FP16": 11, "FP32": 24, "FP64": 53}
"""Binary digits of a float: a whole number is exact if it has no more between its first and its last 1."""


def array_of_announced(spec: TensorSpec, datatype: str, shape: Any, data: object, limits: Limits) -> Array:
    """Returns the array of `shape` for the input `spec` from JSON elements that are of `datatype`.
    Raises InputAtFault."""
    if datatype == spec.datatype:
        return array_of(spec, shape, data, limits)
    check_kinds(spec, datatype)
    array = array_of(replace(spec, datatype=datatype), shape, data, limits)
    return converted(spec, datatype, array.reshape(-1)).reshape(array.shape)


def check_kinds(spec: TensorSpec, datatype: str) -> None:
    """Raises InputAtFault if no element of `datatype` can be one of the input `spec`: text is no number."""
    if datatype != spec.datatype and "BYTES" in (datatype, spec.datatype) and not spec.ignored:
        raise InputAtFault(f"input {quoted(spec.name)}: expected datatype {spec.datatype}, got {datatype}")


def converted(spec: TensorSpec, datatype: str, array: Array) -> Array:
    """Returns the flat `array`, which is of `datatype`, in the datatype of the input `spec`. Raises InputAtFault."""
    if spec.ignored:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        made = array.astype(DTYPES[spec.datatype])
        changed = np.zeros(1, np.bool_) if datatype == "BOOL" else _changed(spec.datatype, array, made)
    if changed.any():
        index = int(changed.argmax())
        value = shown(array[index].item())
        floats = {datatype, spec.datatype} <= _DIGITS.keys()
        hint = f"; send {spec.datatype} ({DTYPES[spec.datatype]}) to have it rounded" if floats else ""
        what = f"expected datatype {spec.datatype}, got {datatype}, and {value} would change in that{hint}"
        raise InputAtFault(f"input {quoted(spec.name)}, element {index}: {what}")
    return made


def _changed(datatype: str, array: Array, made: Array) -> Array:
    """Returns where `made` is another value than `array`. No cast back of a float decides it where the result of one
    out of range depends on the processor (https://numpy.org/doc/stable/reference/generated/numpy.ndarray.astype.html)."""
    kinds = array.dtype.kind + made.dtype.kind
    if kinds[1] == "b":
        return np.asarray((array != 0) & (array != 1))
    if kinds == "ff":
        return np.asarray((made.astype(array.dtype) != array) & ~np.isnan(array))
    if kinds[0] == "f":
        limits = np.iinfo(made.dtype)
        low, high = np.float64(limits.min), np.float64(limits.max + 1)
        return np.asarray(~((array == np.trunc(array)) & (array >= low) & (array < high)))
    if kinds[1] in "iu":
        limits = np.iinfo(made.dtype)
        return np.asarray((array < limits.min) | (array > limits.max))
    if 8 * array.itemsize <= _DIGITS[datatype]:
        return np.zeros(1, np.bool_)
    # Of the least INT64 the magnitude wraps to itself, which is right as an UINT64.
    magnitude = np.abs(array if kinds[0] == "u" else array.astype(np.int64)).astype(np.uint64)
    last = magnitude & (~magnitude + np.uint64(1))
    limit = last << np.uint64(_DIGITS[datatype])  # 0 where it wraps: then there are few enough digits
    return np.asarray(((magnitude >= limit) & (limit > 0)) | ~np.isfinite(made))
