"""Between arrays of the protocol, where BYTES is an object array of `bytes`, and arrays of frameworks."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.base import DATATYPES, LoadFailed, TensorSpec, WrongInput
from adapters.wording import listed

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

DTYPES: Final = {datatype: np.dtype(name) for datatype, name in DATATYPES.items()}
DATATYPE: Final = {dtype: name for name, dtype in DTYPES.items()}


def to_text(array: Array, what: str) -> Array:
    """Returns BYTES as an object array of `str`. Raises WrongInput if an element is not UTF-8."""
    texts = np.empty(array.size, dtype=object)
    for i, value in enumerate(array.ravel().tolist()):
        try:
            texts[i] = value.decode()
        except UnicodeDecodeError as error:
            raise WrongInput(f"{what}: element {i} is not UTF-8: {error.reason} at byte {error.start}") from error
    return texts.reshape(array.shape)


def from_text(array: Array) -> Array:
    """Returns an array of `str`, numbers or None as BYTES: the text of each element."""
    data = np.empty(array.size, dtype=object)
    values = array.ravel().tolist()
    data[:] = [v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogateescape") for v in values]
    return data.reshape(array.shape)


def to_protocol(array: Array) -> Array:
    """Returns the array in a datatype of the protocol, C-contiguous; strings and objects become BYTES.
    Raises TypeError for a dtype without a datatype: complex numbers, dates, long doubles."""
    if array.dtype.kind in "OUS":
        return from_text(array)
    native = array.dtype.newbyteorder("=")
    if native not in DATATYPE:
        raise TypeError(f"{array.dtype} has no datatype in the protocol")
    # asarray with order="C" keeps 0 dimensions, ascontiguousarray would add one
    return np.asarray(array, dtype=native, order="C")


def check_lengths(columns: dict[str, Array]) -> None:
    """Raises WrongInput unless all columns have the same number of rows."""
    if len({len(column) for column in columns.values()}) > 1:
        lengths = listed(f"{name}: {len(column)}" for name, column in columns.items())
        raise WrongInput(f"the columns have different numbers of rows: {lengths}")


def example(datatype: str, shape: tuple[int, ...], text: bytes = b"a") -> Array:
    """Returns an array of zeros, or of `text` if it is BYTES: something to run a model on."""
    made = np.zeros(shape, DTYPES[datatype])
    if datatype == "BYTES":
        made.fill(text)
    return made


class Rows(NamedTuple):
    """The specs of inputs, and how their arrays become the rows that a model takes."""

    specs: tuple[TensorSpec, ...]
    build: Callable[[Arrays], Any]
    text: bytes = b"a"
    """An element of BYTES that the model should accept."""

    def example(self) -> Any:
        """Returns two rows to run a model on: for a single one some scikit-learn models drop the first axis."""
        shapes = {s.name: (2, *(max(size, 1) for size in s.shape[1:])) for s in self.specs}
        return self.build({s.name: example(s.datatype, shapes[s.name], self.text) for s in self.specs})


def spec_of(name: str, first: Array, second: Array) -> TensorSpec:
    """Returns an output's spec from runs of two sizes: what differs is -1. Raises LoadFailed if it has no datatype."""
    if first.dtype not in DATATYPE:
        raise LoadFailed(f"output {name!r} is {first.dtype}, which has no datatype in the protocol")
    shape = tuple(a if a == b else -1 for a, b in zip(first.shape, second.shape, strict=True))
    return TensorSpec(name, DATATYPE[first.dtype], shape)
