"""The typed contents of an input → an array (docs/grpc.md).

Long ones are read where they are in the message, without a protobuf message of them and without an object for a number:
the GIL is held for a millisecond or two at a time, and the event loop answers others meanwhile.
"""

from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault, InvalidInput, TooLarge
from runtime.link.limits import Limits
from runtime.serving.media import Body
from runtime.serving.protocol.exact import array_of_announced, check_kinds, converted
from runtime.serving.protocol.grpc import varints
from runtime.serving.protocol.grpc.contents import FIELDS, NUMBERS
from runtime.serving.protocol.grpc.wire import MOST_FIELDS, field, fields, split, varint_at
from runtime.serving.protocol.json_elements import INTEGERS, count_of, fitted
from runtime.serving.wording import quoted, shown

LONG: Final = 16_384
"""Bytes of a message, beside raw tensors, from which `cut` pays."""
_INPUTS = _CONTENTS = 5  # field of a ModelInferRequest, and of an input in it
_MOST_OF_INPUT: Final = 1024
_MOST_BESIDE: Final = 2**20
_TEXT_BYTES: Final = 60
"""What CPython takes for a short text and its place."""
_LEAST_OF_TEXT: Final = 2
"""Bytes of the shortest field."""
_FIXED: Final = frozenset({"FP32", "FP64"})
_NAMES: Final = {number: name for name, number in NUMBERS.items()}
_KINDS: Final = {number: {"fp32_contents": 5, "fp64_contents": 1}.get(name, 0) for number, name in _NAMES.items()
                 if name != FIELDS["BYTES"]}  # fmt: skip
"""How a number is on the wire that is in a field of its own: https://protobuf.dev/programming-guides/encoding/#structure."""


def cut(message: Body) -> tuple[bytes, list[memoryview | None]]:
    """Returns a message without the contents of its inputs, and those of each. Raises InvalidInput, TooLarge."""
    rest, inputs = split(message, _INPUTS)
    heads, contents = list[Body]([rest]), list[memoryview | None]()
    for tensor in inputs:
        head, found = split(tensor, _CONTENTS, _MOST_OF_INPUT)
        heads.append(field(_INPUTS, head))
        contents.append(found[0] if len(found) == 1 else memoryview(b"".join(found)) if found else None)
    if (size := sum(map(len, heads))) > _MOST_BESIDE:
        said = f"{size} bytes of names, shapes and parameters, at most {_MOST_BESIDE}"
        raise TooLarge(f"message too large: beside its tensors it has {said}")
    return b"".join(heads), contents


def array_from(spec: TensorSpec, datatype: str, shape: list[int], contents: Any, limits: Limits) -> Array:
    """Returns the array of `shape` for the input `spec` from an InferTensorContents, or from the bytes of one.
    Raises InvalidInput, TooLarge."""
    check_kinds(spec, datatype)
    if (name := FIELDS.get(datatype)) is None:
        raise InputAtFault(f"input {quoted(spec.name)}: {datatype} has no typed contents; send raw_input_contents")
    if type(contents) is memoryview:
        count = count_of(spec, shape, limits)
        if datatype == "BYTES":
            return array_of_announced(spec, datatype, shape, _texts(spec, shape, count, contents, limits), limits)
        flat = _numbers(spec, datatype, shape, count, _pieces(spec, datatype, contents))
        return (flat if datatype == spec.datatype else converted(spec, datatype, flat)).reshape(fitted(spec, shape))
    for found, _ in contents.ListFields():
        if found.name != name:
            raise _wrong_field(spec, datatype, found.name)
    return array_of_announced(spec, datatype, shape, list(getattr(contents, name)), limits)


def _wrong_field(spec: TensorSpec, datatype: str, got: str) -> InputAtFault:
    return InputAtFault(f"input {quoted(spec.name)}: {datatype} is sent in {FIELDS[datatype]}, got {got}")


def _texts(spec: TensorSpec, shape: list[int], count: int, contents: memoryview, limits: Limits) -> list[bytes]:
    """Returns the texts in `contents`, none of them if those that are announced would take too much. Raises
    InvalidInput, TooLarge."""
    wanted, texts, whole = NUMBERS[FIELDS["BYTES"]], list[bytes](), bytes(contents)
    fit = (most := max(limits.json_bytes, 4 * len(whole))) // _TEXT_BYTES
    for number, start, begin, end in fields(whole, max(MOST_FIELDS, min(count, fit) + 1)):
        if number == wanted:
            if count > fit:
                raise _too_many(spec, shape, count, len(whole), most)
            texts.append(whole[begin:end])
        elif (other := _number_of(whole, number, start)[0]) in _NAMES:
            raise _wrong_field(spec, "BYTES", _NAMES[other])
    return texts


def _too_many(spec: TensorSpec, shape: list[int], count: int, size: int, most: int) -> InputAtFault | TooLarge:
    if _LEAST_OF_TEXT * count > size:
        said = f"{shown(count)} elements, got {size} bytes, and each has at least {_LEAST_OF_TEXT}"
        return InputAtFault(f"input {quoted(spec.name)}: shape {shown(shape)} wants {said}")
    said = f"its {count} texts would take {count * _TEXT_BYTES} bytes, at most {most}"
    return TooLarge(f"input {quoted(spec.name)} too large: {said}; send fewer, or longer ones")


def _number_of(message: Body, number: int, start: int) -> tuple[int, int]:
    """Returns the field's number and 0, where `fields` says that it is a string, bytes or message; else the number of
    typed contents of which this is an element, and where that starts; (0, 0) if there are none. Raises InvalidInput."""
    if number:
        return number, 0
    tag, at = varint_at(message, start)
    if not tag >> 3:
        raise InvalidInput("not a valid InferTensorContents: a field has the number 0")
    return (tag >> 3, at) if _KINDS.get(tag >> 3) == tag & 7 else (0, 0)


def _pieces(spec: TensorSpec, datatype: str, contents: memoryview) -> list[memoryview]:
    """Returns the packed numbers of `datatype`, those in fields of their own, as few clients send them, among them.
    Raises InvalidInput."""
    wanted, pieces = NUMBERS[FIELDS[datatype]], list[memoryview]()
    if (single := _all_single(contents, datatype, wanted << 3 | _KINDS[wanted])) is not None:
        return [single]
    for number, start, begin, end in fields(contents):
        found, at = _number_of(contents, number, start)
        if found == wanted:
            pieces.append(contents[at or begin : end])
        elif found in _NAMES:
            raise _wrong_field(spec, datatype, _NAMES[found])
    return pieces


def _all_single(contents: memoryview, datatype: str, tag: int) -> memoryview | None:
    """Returns the numbers packed if each is in a field of its own, with that tag, and nothing else is there."""
    if contents[:1] != bytes((tag,)):
        return None
    if datatype not in _FIXED:
        return varints.packed_from(contents, tag)
    if len(contents) % (size := 1 + DTYPES[datatype].itemsize):
        return None
    single = np.frombuffer(contents, np.uint8).reshape(-1, size)
    return single[:, 1:].reshape(-1).data if (single[:, 0] == tag).all() else None


def _numbers(spec: TensorSpec, datatype: str, shape: list[int], count: int, pieces: list[memoryview]) -> Array:
    packed, dtype = pieces[0] if len(pieces) == 1 else b"".join(pieces), DTYPES[datatype]
    got = len(packed) // dtype.itemsize if datatype in _FIXED else varints.count(packed)
    if got != count:
        said = f"shape {shown(shape)} wants {shown(count)} elements, got {got}"
        raise InputAtFault(f"input {quoted(spec.name)}: {said}")
    if datatype in _FIXED:
        if len(packed) % dtype.itemsize:
            raise InvalidInput("not a valid InferTensorContents: it ends within a number")
        return np.frombuffer(packed, dtype).copy()
    made, at = np.empty(count, dtype), 0
    for block in varints.read(packed):
        made[at : at + len(block)] = _ranged(spec, datatype, at, block)
        at += len(block)
    return made


def _ranged(spec: TensorSpec, datatype: str, at: int, block: Array) -> Array:
    """Returns numbers modulo 2^64 as the field has them, of 32 bits where it has no more. Raises InputAtFault."""
    if datatype == "BOOL":
        return np.asarray(block != 0)
    if datatype in ("INT64", "UINT64"):
        return block.view(DTYPES[datatype])
    block = block.astype(np.int32 if datatype.startswith("INT") else np.uint32)
    low, high = INTEGERS[datatype]
    if (wrong := (block < low) | (block > high)).any():
        index = int(wrong.argmax())
        said = f"{shown(int(block[index]))} is out of range for {datatype}"
        raise InputAtFault(f"input {quoted(spec.name)}, element {at + index}: {said}")
    return block
