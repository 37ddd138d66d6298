"""JSON elements → one numpy array: every element checked, nothing rounded, wrapped or cut in silence.

The rules are docs/protocol.md, section 3: integers for FP*, whole floats for integers up to 2^53, booleans from
true, false, 0 and 1, BYTES from strings, null for FP* and for texts that may be missing. Checks are whole-list calls
into C, not loops.
"""

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array, Arrays
from runtime.errors import InputAtFault
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.json_document import kind_of
from runtime.serving.protocol.json_numbers import Numbers
from runtime.serving.wording import quoted, shown

ALIASES: Final = {**{name: name for name in DTYPES}, "STRING": "BYTES"}
"""What a request may call a datatype; Triton's pages say STRING where they mean BYTES."""

INTEGERS: Final = {name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for name, kind in DTYPES.items()
                   if kind.kind in "iu"}  # fmt: skip
"""Lowest and highest value."""

FLOATS: Final = {"FP16": 65520.0, "FP32": 3.4028235677973366e38, "FP64": float("inf")}
"""The least magnitude that rounds to infinity: largest finite value plus half a unit in its last place."""

EXACT_INTEGERS: Final = 2**53
"""Up to here every integer is a double; above, a float that looks whole may have been another number."""

_FEW: Final = 64
_NAMED: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""Numbers that JSON has not, by the names that answers have for infinities."""
_NUMBERS: Final[frozenset[type]] = frozenset({int, float})
_NUMBERS_OR_NULL: Final[frozenset[type]] = frozenset({int, float, type(None)})
_WHOLE: Final = frozenset({int})
_FLAGS: Final[frozenset[type]] = frozenset({bool, int})
_STRINGS: Final[frozenset[type]] = frozenset({str, bytes})
_STRINGS_OR_NULL: Final = _STRINGS | {type(None)}
_LISTS: Final = frozenset({list})
_WANTED: Final = {"BOOL": "true, false, 0 or 1", "BYTES": "a string", **dict.fromkeys(INTEGERS, "a whole number"),
                  **dict.fromkeys(FLOATS, "a number or null")}  # fmt: skip


def array_of(spec: TensorSpec, shape: Any, data: object, limits: Limits) -> Array:
    """Returns the array of `shape` from `data`, flat or nested exactly like the shape, for the input `spec`.
    Raises InputAtFault naming the input, what was wanted and got, and the flat index of a bad element."""
    count = count_of(spec, shape, limits)
    if type(data) is not list:
        if type(data) is not Numbers:
            raise _fault(spec, f"data must be an array, got {kind_of(data)}")
        if (array := _typed(spec, shape, data)) is not None:
            return array.reshape(fitted(spec, shape))
        return array_of(spec, shape, data.listed(), limits)
    if data and type(data[0]) is list:
        data = _flat(spec, shape, data)
    if len(data) != count:
        raise _fault(spec, f"shape {shown(shape)} wants {shown(count)} elements, got {len(data)}")
    array = READERS[spec.datatype](spec, data)
    rank = len(spec.shape)
    return array if rank == 1 else array.reshape(shape if len(shape) == rank else fitted(spec, shape))


def array_of_any(spec: TensorSpec, shape: Any, data: Any, limits: Limits) -> Array:
    """Returns `array_of` elements of which no datatype is announced: true is 1 there, and 1.0 is true."""
    if spec.datatype == "BYTES":
        return array_of(spec, shape, data, limits)
    try:
        return array_of(spec, shape, data, limits)
    except InputAtFault:
        return array_of(spec, shape, _as_numbers(data, float if spec.datatype == "BOOL" else bool), limits)


def _as_numbers(data: Any, kind: type) -> Any:
    """Returns the values with integers for those of `kind` that are one."""
    if type(data) is list:
        return [_as_numbers(value, kind) for value in data]
    is_kind = type(data) is kind
    return int(data) if is_kind and data == int(data) else data


def fitted(spec: TensorSpec, shape: list[int]) -> list[int]:
    """Returns `shape`, which `count_of` has let pass, as the model has it: one column may come as [N, 1] for [N], and
    as [N] for [N, 1]."""
    more = len(spec.shape) - len(shape)
    return shape if not more else [*shape, 1] if more > 0 else shape[:-1]


def _is_column(spec: TensorSpec, shape: list[int]) -> bool:
    wanted = spec.shape
    ranks = len(shape), len(wanted)
    one = shape if ranks == (2, 1) else wanted if ranks == (1, 2) else (0, 0)
    return one[1] == 1 and wanted[0] in (shape[0], -1)


def arrays_of(inputs: Mapping[str, Any], signature: Signature, limits: Limits) -> Arrays:
    """Returns the model's inputs from arrays or nested lists. Raises InputAtFault by the same rules, and for names."""
    if not isinstance(inputs, Mapping):
        raise InputAtFault(f"inputs must be a mapping from names to arrays, got {type(inputs).__name__}")
    signature = signature.meant(inputs.keys())
    only = signature.only if len(inputs) == 1 else None
    specs = {name: only or signature.input(name) for name in inputs}
    arrays = {spec.name: _array(spec, inputs[name], limits) for name, spec in specs.items() if not spec.ignored}
    signature.check_complete(arrays)
    return arrays


def _check_unmasked(spec: TensorSpec, value: Any) -> None:
    """Raises InputAtFault for a masked array, of which numpy would hand out what is under the mask."""
    if _is_masked(value):
        raise _fault(spec, "a masked array is not taken; fill it first: array.filled(…)")


def _is_masked(value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    return any(map(_is_masked, value)) if is_list else isinstance(value, np.ma.MaskedArray)


def _array(spec: TensorSpec, value: Any, limits: Limits) -> Array:
    try:
        _check_unmasked(spec, value)
        array = value if isinstance(value, np.ndarray) else np.array(value, object)
        shape = list(array.shape)
        if array.dtype == DTYPES[spec.datatype] != np.object_:
            count_of(spec, shape, limits)
            return np.asarray(array, order="C").reshape(fitted(spec, shape))
        elements = [item.item() if isinstance(item, np.generic) else item for item in array.reshape(-1).tolist()]
        return array_of_any(spec, shape, elements, limits)
    except (InputAtFault, MemoryError):
        raise
    except Exception as error:  # ragged or endless lists, numbers too large, an `__array__` that raises
        raise InputAtFault(f"input {quoted(spec.name)}: {type(error).__name__}: cannot be read as an array") from error


def _fault(spec: TensorSpec, text: str, index: int | None = None) -> InputAtFault:
    element = "" if index is None else f", element {index}"
    return InputAtFault(f"input {quoted(spec.name)}{element}: {text}")


def count_of(spec: TensorSpec, shape: Any, limits: Limits) -> int:
    """Returns the number of elements of `shape`, once every dimension is a number and fits the model's."""
    if type(shape) is not list:
        raise _fault(spec, f"shape must be an array of non-negative integers, got {kind_of(shape)}")
    if len(shape) > limits.rank:
        raise _fault(spec, f"too many dimensions: {len(shape)}, at most {limits.rank}")
    count, fits = 1, len(shape) == len(spec.shape)
    for axis, size in enumerate(shape):
        if type(size) is float and size >= 2**63:  # an integer too large for the parser comes as a float
            raise _fault(spec, f"element count too large: dimension {axis} is {shown(size)}")
        if type(size) is not int or size < 0:
            raise _fault(spec, f"shape must be non-negative integers, dimension {axis} is {shown(size)}")
        count *= size or 1  # a zero must not hide a dimension that nothing can hold
        fits = fits and spec.shape[axis] in (size, -1)
    if count > limits.elements:
        raise _fault(spec, f"element count too large: shape {shown(shape)}, at most {limits.elements}")
    if not fits and not _is_column(spec, shape):
        raise _fault(spec, f"expected shape {quoted(list(spec.shape))} (-1: any), got {shown(shape)}")
    return 0 if 0 in shape else count


def _flat(spec: TensorSpec, shape: list[int], data: list[Any]) -> list[Any]:
    """Unwraps one level after another, each of which has to be as long as the shape says."""
    flat, fits = data, bool(shape) and len(data) == shape[0]
    for size in shape[1:]:
        fits = fits and _LISTS.issuperset(map(type, flat)) and {size}.issuperset(map(len, flat))
        flat = list(chain.from_iterable(flat)) if fits else []
    if not fits or (flat and type(flat[0]) is list):
        raise _fault(spec, f"data does not match shape {shown(shape)}: its nesting differs")
    return flat


def _typed(spec: TensorSpec, shape: list[int], data: Numbers) -> Array | None:
    """Returns the flat array of `data`, None if its shape is another one or a number is out of range."""
    flat, dtype = data.flat, DTYPES[spec.datatype]
    if data.shape != shape and data.shape != [prod(shape)]:
        return None
    if flat.dtype == dtype:
        return flat
    if dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return flat.astype(dtype)
        except FloatingPointError:
            return None
    low, high = INTEGERS[spec.datatype]
    return flat.astype(dtype) if low <= flat.min() and flat.max() <= high else None


def _floats(spec: TensorSpec, data: list[Any]) -> Array:
    numbers = _NUMBERS.issuperset(map(type, data))
    if not numbers and not _NUMBERS_OR_NULL.issuperset(map(type, data)):
        data = [_NAMED.get(value, value) if type(value) is str else value for value in data]
        if not _NUMBERS_OR_NULL.issuperset(map(type, data)):
            raise _wrong_type(spec, data, _NUMBERS_OR_NULL)
    if spec.datatype == "FP64":
        return np.array(data, np.float64)
    limit = FLOATS[spec.datatype]
    if not data or (numbers and len(data) <= _FEW and max(data) < limit and min(data) > -limit):
        return np.array(data, DTYPES[spec.datatype])
    wide = np.array(data, np.float64)
    if (over := (np.abs(wide) >= limit) & np.isfinite(wide)).any():
        raise _out_of_range(spec, data, int(over.argmax()))
    return wide.astype(DTYPES[spec.datatype])


def _integers(spec: TensorSpec, data: list[Any]) -> Array:
    if not _WHOLE.issuperset(map(type, data)):
        if not _NUMBERS.issuperset(map(type, data)):
            raise _wrong_type(spec, data, _NUMBERS)
        data = [_whole(spec, index, value) for index, value in enumerate(data)]
    try:
        return np.array(data, DTYPES[spec.datatype])
    except OverflowError:
        low, high = INTEGERS[spec.datatype]
        index = next(index for index, value in enumerate(data) if not low <= value <= high)
        raise _out_of_range(spec, data, index) from None


def _whole(spec: TensorSpec, index: int, value: float) -> int:
    if type(value) is int:
        return value
    if not value.is_integer():
        raise _wrong_element(spec, index, shown(value))
    if abs(value) > EXACT_INTEGERS:  # 2^64 comes out of the parser as a float: it is not known which number was meant
        raise _fault(spec, f"{shown(value)} is out of range for {spec.datatype} or not exact", index)
    return int(value)


def _flags(spec: TensorSpec, data: list[Any]) -> Array:
    if not _FLAGS.issuperset(map(type, data)):
        raise _wrong_type(spec, data, _FLAGS)
    if set(data) - {0, 1}:
        index = next(index for index, value in enumerate(data) if value not in {0, 1})
        raise _wrong_element(spec, index, shown(data[index]))
    return np.array(data, np.bool_)


def _strings(spec: TensorSpec, data: list[Any]) -> Array:
    wanted = _STRINGS_OR_NULL if spec.nullable else _STRINGS
    if not wanted.issuperset(map(type, data)):
        raise _wrong_type(spec, data, wanted)
    array = np.empty(len(data), np.object_)
    array[:] = [text.encode() if type(text) is str else text for text in data]
    return array


READERS: Final = {"BOOL": _flags, "BYTES": _strings, **dict.fromkeys(INTEGERS, _integers),
                  **dict.fromkeys(FLOATS, _floats)}  # fmt: skip
"""What makes the flat array of a datatype from a list."""


def _wrong_type(spec: TensorSpec, data: list[Any], right: frozenset[type]) -> InputAtFault:
    index, got = next((index, value) for index, value in enumerate(data) if type(value) not in right)
    if isinstance(got, list):
        return _fault(spec, f"data does not match shape: element {index} is an array")
    if got is None and spec.datatype == "BYTES":
        said = "BYTES wants a string, got null (wrong element type): this input has no missing texts"
        return _fault(spec, said, index)
    return _wrong_element(spec, index, kind_of(got) if isinstance(got, dict) else shown(got))


def _wrong_element(spec: TensorSpec, index: int, got: str) -> InputAtFault:
    wanted = f"{_WANTED[spec.datatype]}{' or null' if spec.nullable and spec.datatype not in FLOATS else ''}"
    return _fault(spec, f"{spec.datatype} wants {wanted}, got {got} (wrong element type)", index)


def _out_of_range(spec: TensorSpec, data: list[Any], index: int) -> InputAtFault:
    return _fault(spec, f"{shown(data[index])} is out of range for {spec.datatype}", index)
