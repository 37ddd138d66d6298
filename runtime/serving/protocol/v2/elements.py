"""JSON elements → one numpy array: every element checked, nothing rounded, wrapped or cut in silence.

The rules are docs/protocol.md, section 3: integers for FP*, whole floats for integers up to 2^53, booleans from
true, false, 0 and 1, BYTES from strings, null for FP* only. Checks are whole-list calls into C, not loops.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import numpy as np

from runtime.serving.protocol.datatypes import EXACT_INTEGERS, FLOATS, INTEGERS, NUMPY
from runtime.serving.protocol.v2.document import InputAtFault, kind_of
from runtime.serving.wording import shown

Array = np.ndarray[Any, Any]

_FEW: Final = 64
_NUMBERS: Final[frozenset[type]] = frozenset({int, float})
_NUMBERS_OR_NULL: Final[frozenset[type]] = frozenset({int, float, type(None)})
_WHOLE: Final = frozenset({int})
_FLAGS: Final[frozenset[type]] = frozenset({bool, int})
_STRINGS: Final[frozenset[type]] = frozenset({str})
_LISTS: Final = frozenset({list})
_WANTED: Final = {"BOOL": "true, false, 0 or 1", "BYTES": "a string", **dict.fromkeys(INTEGERS, "a whole number"),
                  **dict.fromkeys(FLOATS, "a number or null")}  # fmt: skip


def array_of(name: str, datatype: str, shape: list[int], count: int, data: object) -> Array:
    """The array of `shape`, whose product is `count`, from `data`: flat, or nested exactly like the shape.

    Raises InputAtFault naming the input, what was wanted and got, and the flat index of a bad element.
    """
    if type(data) is not list:
        raise InputAtFault(f"input {shown(name)}: data must be an array, got {kind_of(data)}")
    if data and type(data[0]) is list:
        data = _flat(name, shape, data)
    if len(data) != count:
        raise InputAtFault(f"input {shown(name)}: shape {shown(shape)} wants {count} elements, got {len(data)}")
    array = _READERS[datatype](name, datatype, data)
    return array if len(shape) == 1 else array.reshape(shape)


def _flat(name: str, shape: list[int], data: list[Any]) -> list[Any]:
    """Unwraps one level after another, each of which has to be as long as the shape says."""
    for axis, size in enumerate(shape):
        if axis:
            if not _LISTS.issuperset(map(type, data)) or not {size}.issuperset(map(len, data)):
                raise _other_nesting(name, shape)
            data = list(chain.from_iterable(data))
        elif len(data) != size:
            raise _other_nesting(name, shape)
    if data and type(data[0]) is list:
        raise _other_nesting(name, shape)
    return data


def _other_nesting(name: str, shape: list[int]) -> InputAtFault:
    return InputAtFault(f"input {shown(name)}: data does not match shape {shown(shape)}: its nesting differs")


def _floats(name: str, datatype: str, data: list[Any]) -> Array:
    numbers = _NUMBERS.issuperset(map(type, data))
    if not numbers and not _NUMBERS_OR_NULL.issuperset(map(type, data)):
        raise _wrong_type(name, datatype, data, _NUMBERS_OR_NULL)
    if datatype == "FP64":
        return np.array(data, np.float64)
    limit = FLOATS[datatype]
    if not data or (numbers and len(data) <= _FEW and max(data) < limit and min(data) > -limit):
        return np.array(data, NUMPY[datatype])
    wide = np.array(data, np.float64)
    if (over := np.abs(wide) >= limit).any():
        raise _out_of_range(name, datatype, data, int(over.argmax()))
    return wide.astype(NUMPY[datatype])


def _integers(name: str, datatype: str, data: list[Any]) -> Array:
    if not _WHOLE.issuperset(map(type, data)):
        if not _NUMBERS.issuperset(map(type, data)):
            raise _wrong_type(name, datatype, data, _NUMBERS)
        data = [_whole(name, datatype, index, value) for index, value in enumerate(data)]
    try:
        return np.array(data, NUMPY[datatype])
    except OverflowError:
        low, high = INTEGERS[datatype]
        index = next(index for index, value in enumerate(data) if not low <= value <= high)
        raise _out_of_range(name, datatype, data, index) from None


def _whole(name: str, datatype: str, index: int, value: float) -> int:
    if type(value) is int:
        return value
    if not value.is_integer():
        raise InputAtFault(
            _at(name, index, f"{datatype} wants a whole number, got {shown(value)} (wrong element type)")
        )
    if abs(value) > EXACT_INTEGERS:  # 2^64 comes out of the parser as a float: it is not known which number was meant
        raise InputAtFault(_at(name, index, f"{shown(value)} is out of range for {datatype} or not exact"))
    return int(value)


def _flags(name: str, datatype: str, data: list[Any]) -> Array:
    if not _FLAGS.issuperset(map(type, data)):
        raise _wrong_type(name, datatype, data, _FLAGS)
    if set(data) - {0, 1}:
        index = next(index for index, value in enumerate(data) if value not in {0, 1})
        raise InputAtFault(
            _at(name, index, f"BOOL wants {_WANTED['BOOL']}, got {shown(data[index])} (wrong element type)")
        )
    return np.array(data, np.bool_)


def _strings(name: str, datatype: str, data: list[Any]) -> Array:
    if not _STRINGS.issuperset(map(type, data)):
        raise _wrong_type(name, datatype, data, _STRINGS)
    array = np.empty(len(data), np.object_)
    array[:] = [text.encode() for text in data]
    return array


_READERS: Final[dict[str, Callable[[str, str, list[Any]], Array]]] = {
    "BOOL": _flags,
    "BYTES": _strings,
    **dict.fromkeys(INTEGERS, _integers),
    **dict.fromkeys(FLOATS, _floats),
}


def _wrong_type(name: str, datatype: str, data: list[Any], right: frozenset[type]) -> InputAtFault:
    index = next(index for index, value in enumerate(data) if type(value) not in right)
    got = data[index]
    seen = kind_of(got) if isinstance(got, list | dict) else shown(got)
    if isinstance(got, list):
        return InputAtFault(f"input {shown(name)}: data does not match shape: element {index} is an array")
    return InputAtFault(_at(name, index, f"{datatype} wants {_WANTED[datatype]}, got {seen} (wrong element type)"))


def _out_of_range(name: str, datatype: str, data: list[Any], index: int) -> InputAtFault:
    return InputAtFault(_at(name, index, f"{shown(data[index])} is out of range for {datatype}"))


def _at(name: str, index: int, text: str) -> str:
    return f"input {shown(name)}, element {index}: {text}"
