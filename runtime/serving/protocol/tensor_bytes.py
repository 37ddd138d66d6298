"""The bytes of one tensor ↔ one numpy array: little-endian, row-major, no padding; BOOL is one byte, 0 or 1, and each
element of BYTES has its length in front, in 4 bytes (docs/protocol.md, 4).

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from itertools import chain
from struct import Struct
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.protocol.exact import check_kinds, converted
from runtime.serving.protocol.json_elements import count_of, fitted
from runtime.serving.wording import quoted, shown

ALIGNMENT: Final = 16
"""What memory of our own begins at a multiple of, as numpy's does: enough for every datatype."""

_LENGTH: Final = Struct("<I")


def aligned(pieces: list[bytes], at: int) -> memoryview:
    """Returns the pieces in one writable buffer, where byte `at` is aligned: the one copy that a long body needs."""
    padding = bytes(-at % ALIGNMENT)
    return memoryview(bytearray().join((padding, *pieces)))[len(padding) :]


def array_from(spec: TensorSpec, datatype: str, shape: Any, data: memoryview, limits: Limits) -> Array:
    """Returns the array of `shape` for the input `spec` from `data`, which is of `datatype`.

    It is a view of `data` where that is aligned, may be written (frameworks want to) and is of the input's own
    datatype; else a copy. Raises InputAtFault.
    """
    check_kinds(spec, datatype)
    count = count_of(spec, shape, limits)
    array = _strings(spec, data, count) if datatype == "BYTES" else _numbers(spec, datatype, shape, data, count)
    if datatype != spec.datatype:
        array = converted(spec, datatype, array)
    return array.reshape(fitted(spec, shape))


def _numbers(spec: TensorSpec, datatype: str, shape: Any, data: memoryview, count: int) -> Array:
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        wanted = f"shape {shown(shape)} of {datatype} wants {count * dtype.itemsize} bytes"
        raise _fault(spec, f"binary size does not match shape: {wanted}, got {len(data)}")
    if not count:
        return np.empty(0, dtype)
    if datatype == "BOOL":
        _check_flags(spec, data)
    return view_of(data, dtype, count)


def view_of(data: memoryview, dtype: np.dtype[Any], count: int, at: int = 0) -> Array:
    """Returns `count` numbers that begin at byte `at`: a view of `data` where that is aligned and may be written."""
    array = np.frombuffer(data, dtype, count, at)
    return array if array.flags.aligned and array.flags.writeable else array.copy()


def _check_flags(spec: TensorSpec, data: memoryview) -> None:
    flags = np.frombuffer(data, np.uint8)
    if flags.max() > 1:
        index = int((flags > 1).argmax())
        raise _fault(spec, f"invalid BOOL: a byte must be 0 or 1, got {shown(int(flags[index]))}", index)


def _strings(spec: TensorSpec, data: memoryview, count: int) -> Array:
    whole, size, at, found = bytes(data), len(data), 0, list[bytes]()
    length_at, add, index = _LENGTH.unpack_from, found.append, 0
    for index in range(count if 4 * count <= size else size // 4 + 1):
        start = at + 4
        end = start + length_at(whole, at)[0] if start <= size else size + 1
        if end > size:
            said = f"{size - at} bytes are left of its {end - at}" if start <= size else "its length is not there"
            raise _fault(spec, f"malformed BYTES: {said}", index)
        add(whole[start:end])
        at = end
    if at != size:
        raise _fault(spec, f"malformed BYTES: {size - at} bytes are left behind the last of {count} elements")
    array = np.empty(count, np.object_)
    array[:] = found
    return array


def _fault(spec: TensorSpec, text: str, index: int | None = None) -> InputAtFault:
    element = "" if index is None else f", element {index}"
    return InputAtFault(f"input {quoted(spec.name)}{element}: {text}")


def bytes_from(name: str, array: Array) -> bytes | memoryview:
    """Returns the bytes of the output `name`: its own memory, unless it is BYTES or lies there in another order."""
    flat = array.reshape(-1)
    if flat.dtype != np.object_:
        return np.ascontiguousarray(flat).view(np.uint8).data
    values = as_bytes(name, flat.tolist())
    return b"".join(chain.from_iterable(zip(map(_LENGTH.pack, map(len, values)), values, strict=True)))


def as_bytes(name: str, values: list[Any]) -> list[bytes]:
    """Returns the elements of a BYTES output as `bytes`. Raises PredictFailed for anything but strings."""
    try:
        return [value if type(value) is bytes else value.encode(errors="surrogateescape") for value in values]
    except (AttributeError, UnicodeEncodeError):
        raise PredictFailed(f"the model returned something else than bytes in its output {quoted(name)}") from None
