"""Between arrays of the protocol, where BYTES is an object array of `bytes`, and arrays of frameworks."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.base import DATATYPES, LoadFailed, TensorSpec, WrongInput
from adapters.wording import listed

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

DTYPES: Final = {datatype: np.dtype(name) for datatype, name in DATATYPES.items()}
DATATYPE: Final = {dtype: name for name, dtype in DTYPES.items()}


def to_text(array: Array, what: str) -> Array:
    """Returns BYTES as an object array of `str`, and of None where one is missing. Raises WrongInput for what is not
    UTF-8."""
    texts = np.empty(array.size, dtype=object)
    for i, value in enumerate(array.ravel().tolist()):
        try:
            texts[i] = None if value is None else value.decode()
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


def example(datatype: str, shape: tuple[int, ...], text: bytes = b"a", number: float = 0) -> Array:
    """Returns an array of `number`, or of `text` if it is BYTES: something to run a model on."""
    made = np.empty(shape, DTYPES[datatype])
    made.fill(text if datatype == "BYTES" else number)
    return made


def twice(arrays: Arrays) -> Arrays:
    """Returns the rows, twice: for a single one some scikit-learn models drop the first axis."""
    return {name: np.concatenate([array, array]) for name, array in arrays.items()}


def codes(array: Array, known: Sequence[Any], what: str) -> Array:
    """Returns the place of each element among the categories `known`, NaN for a missing one. Raises WrongInput."""
    places = {value: float(place) for place, value in enumerate(known)} | {None: np.nan}
    values = to_text(array, what).tolist() if array.dtype == object else array.tolist()
    try:
        return np.array([places[value] for value in values])
    except KeyError:
        at = next(i for i, value in enumerate(values) if value not in places)
        raise WrongInput(f"{what}: element {at} is none of its categories: {listed(known)}") from None


def check_codes(column: Array, count: int, name: str) -> None:
    """Raises WrongInput unless each element of a column is the place of one of `count` categories, or missing."""
    wrong = ~(np.isnan(column) | ((column == np.trunc(column)) & (column >= 0) & (column < count)))
    if wrong.any():
        said = f"column {name!r} of the matrix, row {int(wrong.argmax())}, is no code of its {count} categories"
        raise WrongInput(f"{said}: 0 to {count - 1}, or null")


def datatype_of(categories: Sequence[Any]) -> str:
    """Returns the datatype in which a client sends one of these categories."""
    kinds = {type(value) for value in categories}
    return "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "FP64" if kinds <= {int, float} else "BYTES"


def as_said(names: Sequence[str], said: Sequence[str]) -> list[str]:
    """Returns the names of a model's columns as they are `said`: LightGBM's files have `_` for each blank."""
    known = {name.replace(" ", "_"): name for name in said} | {name: name for name in said}
    return [known.get(name, name) for name in names]


class Rows(NamedTuple):
    """The specs of inputs, and how their arrays become the rows that a model takes."""

    specs: tuple[TensorSpec, ...]
    build: Callable[[Arrays], Any]
    also: tuple[TensorSpec, ...] = ()
    """Inputs that `build` takes in place of `specs`."""
    row: Mapping[str, Sequence[Any]] = {}
    """By name, the elements of a row that the model should accept, where that is not one of zeros."""
    properties: Mapping[str, str] = {}
    """For the metadata."""

    def example(self, number: float = 0) -> Any:
        """Returns two rows to run a model on.
        `number` stands for those that `row` does not have."""
        return self.build({spec.name: self._example(spec, number) for spec in self.specs})

    def sampled(self, sample: Arrays) -> Any:
        """Returns the rows of a sample, twice. Raises KeyError if they are of other inputs."""
        names = {spec.name: spec.name for spec in self.specs}
        if len(self.specs) == len(sample) == 1:  # its name is free, as in requests
            names = {self.specs[0].name: next(iter(sample))}
        arrays = {spec.name: sample[names[spec.name]].astype(DTYPES[spec.datatype]) for spec in self.specs}
        return self.build(twice(arrays))

    def filled(self, number: float) -> Mapping[str, Sequence[Any]]:
        """Returns a whole row: `row`, and `number` wherever it has no elements."""
        numbers = (spec for spec in self.specs if spec.datatype != "BYTES")
        made = {spec.name: [number] * prod(max(size, 1) for size in spec.shape[1:]) for spec in numbers}
        return {**made, **self.row}

    def _example(self, spec: TensorSpec, number: float) -> Array:
        shape = (2, *(max(size, 1) for size in spec.shape[1:]))
        made = example(spec.datatype, shape, number=number)
        if spec.name in self.row:
            values = [v.encode() if isinstance(v, str) else v for v in self.row[spec.name]]
            made[:] = np.array(values, dtype=made.dtype).reshape(shape[1:])
        return made


def spec_of(name: str, first: Array, second: Array) -> TensorSpec:
    """Returns an output's spec from runs of two sizes: what differs is -1. Raises LoadFailed if it has no datatype."""
    if first.dtype not in DATATYPE:
        raise LoadFailed(f"output {name!r} is {first.dtype}, which has no datatype in the protocol")
    shape = tuple(a if a == b else -1 for a, b in zip(first.shape, second.shape, strict=True))
    return TensorSpec(name, DATATYPE[first.dtype], shape)
