"""A `.npy` file → an array, without Python objects: the header is matched, never evaluated, and sizes come first.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import re
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DATATYPE, Array
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.protocol.exact import check_kinds, converted
from runtime.serving.protocol.json_elements import count_of
from runtime.serving.protocol.rows import is_one_row
from runtime.serving.wording import quoted, shown

_MAGIC: Final = b"\x93NUMPY"
_LONGEST_START: Final = 12
_LONGEST_HEADER: Final = 4096
_FIELDS: Final = rb"""\{'descr': '([^']+)', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*)\),? ?\}\s*"""
_DTYPES: Final = r"[<>=|]?(?:b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})"


def is_npy(body: bytes) -> bool:
    """True if `body` begins as a NumPy file does."""
    return body.startswith(_MAGIC)


def read_npy(body: bytes, spec: TensorSpec, limits: Limits) -> tuple[Array, bool]:
    """Returns the array in `body` as the input `spec`, and whether it is one row without an axis of rows.
    Raises InvalidInput, InputAtFault where it does not fit."""
    dtype, fortran, shape, start = _header(body)
    if is_row := is_one_row(spec, shape):
        shape.insert(0, 1)
    elif len(shape) == 1 and len(spec.shape) == 2 and spec.shape[1] == 1:
        shape.append(1)
    elif len(shape) == 2 and shape[1] == 1 and len(spec.shape) == 1:
        shape.pop()
    count, left, name = count_of(spec, shape, limits), len(body) - start, quoted(spec.name)
    if left != count * dtype.itemsize:
        raise InputAtFault(f"input {name}: shape {shown(shape)} wants {count * dtype.itemsize} bytes, got {left}")
    flat: Array = np.frombuffer(body, dtype, count, start) if count else np.empty(0, dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    if dtype.kind in "SU":
        if spec.datatype != "BYTES":
            raise InputAtFault(f"input {name}: expected datatype {spec.datatype}, got texts")
        return _texts(array), is_row
    if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise InputAtFault(f"input {name}: BOOL wants bytes of 0 or 1")
    native = dtype.newbyteorder("=")
    check_kinds(spec, datatype := DATATYPE[native])
    array = np.array(array, native, order="C")  # in the body it may be neither aligned nor writable
    if datatype != spec.datatype:
        array = converted(spec, datatype, array.reshape(-1)).reshape(array.shape)
    return array, is_row


def _header(body: bytes) -> tuple[np.dtype[Any], bool, list[int], int]:
    """Returns the dtype, whether the order is Fortran's, the shape, and where the data begins."""
    if not is_npy(body) or len(body) < _LONGEST_START or body[6] not in (1, 2, 3):
        raise InvalidInput("the body is not a NumPy file of version 1 to 3 (numpy.save)")
    start = 10 if body[6] == 1 else _LONGEST_START
    header = body[start : (end := start + int.from_bytes(body[8:start], "little"))]
    if len(header) > _LONGEST_HEADER or end > len(body):
        raise InvalidInput(f"the NumPy file's header is cut, or has more than {_LONGEST_HEADER} bytes")
    found = re.fullmatch(_FIELDS, header)
    if not found or not re.fullmatch(_DTYPES, kind := found[1].decode("latin-1")):
        text = shown(header.decode("latin-1"))
        raise InvalidInput(f"the NumPy file holds something else than plain numbers or texts: {text}")
    shape = [int(size) for size in found[3].split(b",") if size.strip()]
    return np.dtype(kind), found[2] == b"True", shape, end


def _texts(array: Array) -> Array:
    texts = np.empty(array.size, np.object_)
    try:
        texts[:] = [text.encode() if type(text) is str else text for text in array.reshape(-1).tolist()]
    except ValueError as error:  # code points that are no characters
        raise InputAtFault(f"the NumPy file has a text that is no Unicode: {type(error).__name__}") from None
    return texts.reshape(array.shape)
