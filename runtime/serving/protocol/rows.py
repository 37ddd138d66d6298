"""Rows and columns of JSON values → a model's inputs, and its outputs → JSON values: for protocols without tensors.

A row is a value, a list, or an object by the inputs' names. `[N]` is taken for `[N, 1]` and the other way round.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from adapters.base import TensorSpec
from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.image import read_images
from runtime.serving.protocol.json_document import kind_of
from runtime.serving.protocol.json_elements import array_of_any
from runtime.serving.wording import listed, quoted, shown

_DOUBLE: Final = 8  # bytes
_BLOCK_ROWS: Final = 4096
_OBJECTS: Final = frozenset({dict})
_LISTS: Final = frozenset({list})
_TEXTS: Final = frozenset({str})


def from_rows(rows: object, signature: Signature, limits: Limits, what: str) -> Arrays:
    """Returns the inputs that `rows` hold: lists or values for a model with one input, texts for one that needs no more
    than a text, objects by name for any. Lists for several inputs hold one value for each, in the model's order.
    Raises InputAtFault, naming `what`."""
    if type(rows) is not list or not rows:
        raise InputAtFault(f"{what} must be a non-empty array of rows, got {'none' if rows == [] else kind_of(rows)}")
    if _OBJECTS.issuperset(map(type, rows)) and not is_binary(rows[0], signature):
        names = rows[0].keys()
        if not all(row.keys() == names for row in rows):
            number = next(index for index, row in enumerate(rows) if row.keys() != names)
            raise other_names(what, number, rows[number])
        return from_columns({name: [row[name] for row in rows] for name in names}, signature, limits)
    if signature.only is not None:
        return {signature.only.name: array_from(signature.only, rows, signature, limits)}
    if (text := signature.text) and _TEXTS.issuperset(map(type, rows)):
        return from_columns({text.name: rows}, signature, limits)
    wanted = tuple(signature.inputs)
    if not _LISTS.issuperset(map(type, rows)) or not {len(wanted)}.issuperset(map(len, rows)):
        raise InputAtFault(f"each of {what} must be an object with {listed(wanted)}, or an array of their values")
    return from_columns(dict(zip(wanted, map(list, zip(*rows, strict=True)), strict=True)), signature, limits)


def from_columns(columns: Mapping[str, object], signature: Signature, limits: Limits) -> Arrays:
    """Returns the inputs from their values by name. Raises InputAtFault, also if the numbers of rows differ."""
    signature = signature.meant(columns.keys())
    only = signature.only if len(columns) == 1 else None
    arrays: Arrays = {}
    for name, values in columns.items():
        spec = only or signature.input(name)
        if spec.name in arrays:
            raise InputAtFault(f"duplicate input {quoted(name)}")
        if not spec.ignored:
            arrays[spec.name] = array_from(spec, values, signature, limits)
    return complete(arrays, signature)


def complete(arrays: Arrays, signature: Signature) -> Arrays:
    """Returns the arrays if they are all inputs that a model needs, of as many rows each. Raises InputAtFault."""
    signature.check_complete(arrays)
    lengths = {name: len(array) for name, array in arrays.items() if signature.inputs[name].shape[:1] == (-1,)}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{quoted(name)} {length}" for name, length in lengths.items())
        raise InputAtFault(f"the inputs have different numbers of rows: {counts}")
    return arrays


def columns_of(signature: Signature, names: list[str]) -> Mapping[str, TensorSpec] | None:
    """Returns the specs of a table's columns if the model takes them as one matrix, else None."""
    only = signature.only
    if only is None or len(only.shape) != 2 or names == [only.name] or only.shape[1] not in (-1, len(names)):
        return None
    return {name: TensorSpec(name, only.datatype, (-1,)) for name in names}


def matrix_of(columns: Arrays, only: TensorSpec, properties: Mapping[str, str]) -> Arrays:
    """Returns the model's one input of the columns of a table: by the names that the model knows, else as they came."""
    if len(lengths := {len(column) for column in columns.values()}) > 1:
        raise InvalidInput(f"the columns have different numbers of rows: {shown(sorted(lengths))}")
    known: list[str] = json.loads(properties.get("columns", "[]"))
    indexed = [f"{only.name}[{index}]" for index in range(len(columns))]
    names = next((names for names in (known, indexed) if sorted(names) == sorted(columns)), list(columns))
    return {only.name: np.stack([columns[name] for name in names], axis=1)}


def array_from(spec: TensorSpec, data: Any, signature: Signature, limits: Limits) -> Array:
    """Returns the array that nested lists are, whose shape is that of their first elements, or images as `b64`.
    Raises InputAtFault, and what `read_images` does."""
    picture, entries = signature.pictures.get(spec.name), data if type(data) is list else [data]
    if picture and entries and all(is_binary(entry, signature) for entry in entries):
        return read_images([_from_base64(spec, entry) for entry in entries], spec, picture, limits)
    rank = len(spec.shape)
    shape = shape_of(data)
    if not rank:
        shape, data = [], entries
    elif rank == 1 and shape[1:] == [1] and all(type(row) is list and len(row) == 1 for row in data):
        shape, data = shape[:1], [row[0] for row in data]
    elif rank == 2 and len(shape) == 1 and spec.shape[1] == 1:
        shape.append(1)
    return array_of_any(spec, shape, _with_bytes(spec, data) if spec.datatype == "BYTES" else data, limits)


def shape_of(data: Any) -> list[int]:
    """Returns how long the first lists are, from the outside in; [] for what is no list."""
    shape = []
    while type(data) is list:
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def is_one_row(spec: TensorSpec, shape: list[int]) -> bool:
    """True if an array of that shape is one row of the input, without an axis of rows; a column of one row has it."""
    return len(shape) < len(spec.shape) and shape == list(spec.shape[1:]) != [1]


def is_binary(value: object, signature: Signature) -> bool:
    """True for `{"b64": …}`, which stands for bytes, unless a model's input has that name."""
    return type(value) is dict and value.keys() == {"b64"} and "b64" not in signature.inputs


def _with_bytes(spec: TensorSpec, data: Any) -> Any:
    if type(data) is list:
        return [_with_bytes(spec, value) if type(value) is list or type(value) is dict else value for value in data]
    if type(data) is not dict or data.keys() != {"b64"} or type(data["b64"]) is not str:
        return data
    return _from_base64(spec, data)


def _from_base64(spec: TensorSpec, data: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(data["b64"], validate=True)
    except (ValueError, TypeError):
        raise InputAtFault(f"input {quoted(spec.name)}: b64 {shown(data['b64'])} is not base64") from None


def other_names(what: str, number: int, row: Mapping[str, object]) -> InputAtFault:
    """Returns the fault of a row whose names are not those of the rows before it."""
    names = ", ".join(map(shown, list(row)[:8])) or "none"
    return InputAtFault(f"{what}[{number}] has other names than the rows before it: {names}")


# outputs


def values_of(name: str, array: Array) -> Any:
    """Returns an output as JSON values. Bytes that are not UTF-8 are `{"b64": …}`; infinities have names."""
    kind = array.dtype.kind
    if kind == "O":
        texts = np.empty(array.size, np.object_)
        texts[:] = [_text(name, value) for value in array.reshape(-1).tolist()]
        return texts.reshape(array.shape).tolist()
    if kind == "f":
        if (endless := np.isinf(array)).any():
            mixed = np.array(short(array), np.object_)
            mixed[endless & (array > 0)], mixed[endless & (array < 0)] = "Infinity", "-Infinity"
            return mixed.tolist()
        return short(array)
    return array.tolist()


def short(array: Array) -> Any:
    """Returns floats with as few digits as tell them apart: 5.1 for FP32, not 5.099999904632568. NaN may be None."""
    if array.itemsize == _DOUBLE:
        return array.tolist()
    shape = array.shape or (1,)
    values = orjson.loads(orjson.dumps(np.ascontiguousarray(array).reshape(shape), option=orjson.OPT_SERIALIZE_NUMPY))
    return values if array.shape else values[0]


def _text(name: str, value: object) -> object:
    try:
        return value if type(value) is str else value.decode()  # type: ignore[attr-defined]
    except UnicodeDecodeError as error:
        return {"b64": base64.b64encode(error.object).decode()}
    except AttributeError:
        raise PredictFailed(f"the model returned something else than bytes in its output {quoted(name)}") from None


def by_rows(rows: int, wanted: Sequence[str], outputs: Arrays) -> bool:
    """True if every output has an element for each row, so that answers may be rows too."""
    return all(outputs[name].ndim and len(outputs[name]) == rows for name in wanted)


def blocks_of(rows: int, wanted: Sequence[str], outputs: Arrays) -> Iterator[Arrays]:
    """Yields the outputs that are `wanted`, and `by_rows`, a block of rows at a time: of a long answer only so many
    objects are there at once, and the GIL is held only for so long."""
    for start in range(0, rows, _BLOCK_ROWS):
        yield {name: outputs[name][start : start + _BLOCK_ROWS] for name in wanted}


def written(blocks: Iterable[Arrays], listed_as: Callable[[Arrays], list[Any]]) -> bytes:
    """Returns `blocks_of` outputs as one JSON array, each as `listed_as` makes it."""
    return b"[" + b",".join(orjson.dumps(listed_as(block))[1:-1] for block in blocks) + b"]"


def not_utf8(what: str) -> InvalidInput:
    """Returns the refusal of a text in another encoding."""
    return InvalidInput(f"{what} is not UTF-8")
