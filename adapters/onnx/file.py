"""What an ONNX file says before ONNX Runtime reads it: operators, external data, class labels, declared shapes.

A reader of the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) for the messages that matter
here, of https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto3. It skips all others by their length, so a file of
many gigabytes costs no more than its graph. Pure: bytes in, facts or `LoadFailed` out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from adapters.base import LoadFailed

Buffer = memoryview
"""The whole file; a message is (start, end) within it."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
DEPTH: Final = 100
"""The depth to which protobuf's own parser reads."""

# message -> field number -> message of that field; every other field is skipped by its length
CHILDREN: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
# fields of a ModelProto: number -> wire type
MODEL_FIELDS: Final = {1: VARINT, 5: VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)}


_TERM: Final = r"[A-Za-z ]*(\.\.\.[A-Za-z ]*)?"
EQUATION: Final = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")
"""https://onnx.ai/onnx/operators/onnx__Einsum.html"""
ANY_NUMBER: Final = frozenset({"Concat", "Einsum", "FeatureVectorizer", "Max", "Mean", "Min", "Sum"})
"""Operators of any number of inputs: ONNX Runtime reads memory of one that is left out."""


class Malformed(ValueError):
    """The bytes are not the protobuf message that is expected there."""


class External(NamedTuple):
    """Where a tensor's external data is, as the file says it."""

    location: str
    offset: int
    length: int | None


@dataclass(slots=True)
class Facts:
    """What a model file says about itself."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    """(domain, operator) of every node, in subgraphs and functions too."""
    functions: set[tuple[str, str]] = field(default_factory=set)
    """(domain, name) of the functions that the file itself defines."""
    externals: list[External] = field(default_factory=list)
    zipmaps: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Output name of a ZipMap node -> its class labels."""
    categories: dict[str, str] = field(default_factory=dict)
    """Input name of a OneHotEncoder node -> the first text that it knows."""
    shapes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    """Of graph inputs and outputs (for a sequence or an optional: of its elements); None if the file gives none."""


def read_facts(data: Buffer, name: str) -> Facts:
    """Returns what the model in `data` says about itself. Raises LoadFailed if it is not one whole ONNX model."""
    try:
        return _walked(data)
    except (Malformed, UnicodeDecodeError) as error:
        raise LoadFailed(f"{name} is not a whole ONNX model: {error}") from error


def looks_like_onnx(head: bytes) -> bool:
    """True if `head` begins an ONNX model: known fields only, with an IR version and a graph."""
    data, at, seen = memoryview(head), 0, set[int]()
    while at < len(data):
        try:
            tag, at = _varint(data, at, len(data))
            if MODEL_FIELDS.get(tag >> 3) != tag & 7:
                return False
            value, at = _varint(data, at, len(data))
        except Malformed:
            break
        if tag >> 3 == 1 and not 0 < value < 1000:
            return False
        seen.add(tag >> 3)
        if tag & 7 == LENGTH:
            at += value
    return 1 in seen and 7 in seen


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed(f"a number at byte {at} does not end")


def fields(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field number, value or start, end) of a message; end is 0 for numbers. Raises Malformed for groups."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Malformed(f"byte {at} begins no field")
        if wire == VARINT:
            value, at = _varint(data, at, end)
            yield number, value, 0
        elif wire == LENGTH:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise Malformed(f"field {number} at byte {at} says {size} bytes, {end - at} are there")
            yield number, at, at + size
            at += size
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if size > end - at:
                raise Malformed(f"field {number} at byte {at} is cut off")
            at += size
        else:
            raise Malformed(f"byte {at} has the wire type {wire}")


def _walked(data: Buffer) -> Facts:
    facts, stack = Facts(), [("Model", 0, len(data), 0)]
    while stack:
        message, start, end, depth = stack.pop()
        if depth > DEPTH:
            raise Malformed(f"messages nest deeper than {DEPTH}")
        if message == "Node":
            _read_node(data, start, end, facts)
        elif message == "Tensor":
            _read_tensor(data, start, end, facts)
        elif message == "Function":
            facts.functions.add(_texts(data, start, end, 10, 1))
        elif message == "Graph" and depth == 1:
            _read_signature(data, start, end, facts)
        children = CHILDREN[message]
        for number, at, stop in fields(data, start, end):
            if (child := children.get(number)) is not None and stop:
                stack.append((child, at, stop, depth + 1))
    return facts


def _text(data: Buffer, start: int, end: int) -> str:
    return bytes(data[start:end]).decode()


def _members(data: Buffer, start: int, end: int, *numbers: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field number, start, end) of the texts and messages in the fields `numbers` of a message."""
    return (found for found in fields(data, start, end) if found[0] in numbers and found[2])


def _texts(data: Buffer, start: int, end: int, first: int, second: int) -> tuple[str, str]:
    """Returns the texts in two fields of a message, of each the last one, as protobuf reads it."""
    found = {number: _text(data, at, stop) for number, at, stop in _members(data, start, end, first, second)}
    return found.get(first, ""), found.get(second, "")


def _read_node(data: Buffer, start: int, end: int, facts: Facts) -> None:
    domain, operator = _texts(data, start, end, 7, 4)
    facts.operators.add((domain, operator))
    if operator == "Einsum":  # ONNX Runtime reads others for ever
        for _, at, stop in _members(data, start, end, 5):
            name, equation = _texts(data, at, stop, 1, 4)
            if name == "equation" and not EQUATION.fullmatch(equation):
                raise Malformed(f"an Einsum has the equation {equation[:60]!r}")
    if operator in ANY_NUMBER and any(at == stop for _, at, stop in _members(data, start, end, 1)):
        raise Malformed(f"one of the inputs of a node {operator} has no name")
    if operator == "ZipMap" and (output := next(_members(data, start, end, 2), None)):
        attributes = (_values(data, at, stop, "classlabels") for _, at, stop in _members(data, start, end, 5))
        facts.zipmaps[_text(data, *output[1:])] = tuple(chain.from_iterable(attributes))
    if operator == "OneHotEncoder" and (given := next(_members(data, start, end, 1), None)):
        for _, at, stop in _members(data, start, end, 5):
            facts.categories |= {_text(data, *given[1:]): str(c) for c in _values(data, at, stop, "cats_strings")[:1]}


def _values(data: Buffer, start: int, end: int, wanted: str) -> list[str | int]:
    """Returns the texts or whole numbers of an attribute whose name begins with `wanted`; of another, none."""
    name, labels = "", list[str | int]()
    for number, at, stop in fields(data, start, end):
        if number == 1 and stop:
            name = _text(data, at, stop)
        elif number == 9 and stop:
            labels.append(_text(data, at, stop))
        elif number == 8 and not stop:
            labels.append(_signed(at))
        while number == 8 and at < stop:  # packed
            value, at = _varint(data, at, stop)
            labels.append(_signed(value))
    return labels if name.startswith(wanted) else []


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >> 63 else value


def _read_tensor(data: Buffer, start: int, end: int, facts: Facts) -> None:
    locations, numbers = list[str](), {}
    for _, at, stop in _members(data, start, end, 13):
        key, value = _texts(data, at, stop, 1, 2)
        if key == "location":
            locations.append(value)
        elif key in ("offset", "length"):
            if not value.isascii() or not value.isdigit():
                raise Malformed(f"the {key} of external data is {value[:40]!r}")
            numbers[key] = int(value)
    facts.externals += [External(text, numbers.get("offset", 0), numbers.get("length")) for text in locations]


def _read_signature(data: Buffer, start: int, end: int, facts: Facts) -> None:
    for _, at, stop in _members(data, start, end, 11, 12):
        names = [_text(data, *name[1:]) for name in _members(data, at, stop, 1)]
        shapes = [_shape_of_type(data, *kind[1:]) for kind in _members(data, at, stop, 2)]
        facts.shapes[names[-1] if names else ""] = shapes[-1] if shapes else None


def _shape_of_type(data: Buffer, start: int, end: int, depth: int = 0) -> tuple[int, ...] | None:
    """Returns the shape in a TypeProto: of a tensor (1, sparse 8), or of what a sequence (4) or optional (9) holds."""
    for number, at, stop in _members(data, start, end, 1, 4, 8, 9):
        if depth > 4:
            break
        inside = next(_members(data, at, stop, 1 if number in (4, 9) else 2), None)
        if inside is None:
            return None
        if number in (4, 9):
            return _shape_of_type(data, *inside[1:], depth + 1)
        return tuple(_dimension(data, a, s) for _, a, s in _members(data, *inside[1:], 1))
    return None


def _dimension(data: Buffer, start: int, end: int) -> int:
    values = [value for number, value, stop in fields(data, start, end) if number == 1 and not stop]
    return _signed(values[-1]) if values else -1
