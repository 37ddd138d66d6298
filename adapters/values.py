"""Between arrays as the protocol has them (BYTES is an object array of `bytes`) and arrays as frameworks have them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from adapters.base import DATATYPES, WrongInput

Array = np.ndarray[Any, Any]

DTYPES: Final = {datatype: np.dtype(name) for datatype, name in DATATYPES.items()}
"""OIP datatype -> numpy dtype."""
DATATYPE: Final = {dtype: name for name, dtype in DTYPES.items()}


def to_text(array: Array, what: str) -> Array:
    """BYTES as an object array of `str`. Raises WrongInput where an element is not UTF-8."""
    texts = np.empty(array.size, dtype=object)
    for i, value in enumerate(array.ravel().tolist()):
        try:
            texts[i] = value.decode()
        except UnicodeDecodeError as error:
            raise WrongInput(f"{what}: element {i} is not UTF-8: {error.reason} at byte {error.start}") from error
    return texts.reshape(array.shape)


def from_text(array: Array) -> Array:
    """An array of anything with a text (`str`, numbers, None) as BYTES."""
    flat = array.ravel().tolist()
    data = np.empty(len(flat), dtype=object)
    for i, value in enumerate(flat):
        data[i] = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return data.reshape(array.shape)


def to_protocol(array: Array) -> Array:
    """The array in a datatype of the protocol, C-contiguous: strings and mixed objects become BYTES.

    Raises TypeError for what has no datatype (complex numbers, dates, wider floats).
    """
    if array.dtype.kind in "OUS":
        return from_text(array)
    native = array.dtype.newbyteorder("=")
    if native not in DATATYPE:
        raise TypeError(f"{array.dtype} has no datatype in the protocol")
    # asarray with order="C" keeps 0 dimensions, ascontiguousarray would add one
    return np.asarray(array, dtype=native, order="C")
