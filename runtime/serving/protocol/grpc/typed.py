"""The typed contents of an input → an array (docs/grpc.md).

Long ones are read where they are in the message, without a protobuf message of them and without an object for a number:
the GIL is held for a millisecond or two at a time, and the event loop answers others meanwhile.
"""

from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault, InvalidInput, TooLarge
from runtime.link.limits import Limits
from runtime.serving.media import Body
from runtime.serving.protocol.exact import array_of_announced, check_kinds, converted
from runtime.serving.protocol.grpc import varints
from runtime.serving.protocol.grpc.contents import FIELDS, NUMBERS, Contents
from runtime.serving.protocol.grpc.wire import MOST_FIELDS, field, fields, split
from runtime.serving.protocol.json_elements import INTEGERS, count_of, fitted
from runtime.serving.wording import quoted, shown

LONG: Final = 16_384
"""Bytes of a message, beside raw tensors, from which `cut` pays."""
_INPUTS = _CONTENTS = 5  # field of a ModelInferRequest, and of an input in it
_MOST_OF_INPUT: Final = 1024
_MOST_BESIDE: Final = 2**20
_TEXT_BYTES: Final = 60
"""What CPython takes for a short text and its place."""
_FIXED: Final = frozenset({"FP32", "FP64"})
_NAMES: Final = {number: name for name, number in NUMBERS.items()}


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
        pieces = _pieces(spec, datatype, contents, count)
        if pieces is not None and datatype != "BYTES":
            flat = _numbers(spec, datatype, shape, count, pieces)
            return (flat if datatype == spec.datatype else converted(spec, datatype, flat)).reshape(fitted(spec, shape))
        if pieces is not None:
            if len(pieces) * _TEXT_BYTES > (most := max(limits.json_bytes, 4 * len(contents))):
                said = f"its {len(pieces)} texts would take {len(pieces) * _TEXT_BYTES} bytes, at most {most}"
                raise TooLarge(f"input {quoted(spec.name)} too large: {said}; send fewer, or longer ones")
            return array_of_announced(spec, datatype, shape, list(map(bytes, pieces)), limits)
        contents = _message(contents)
    for found, _ in contents.ListFields():
        if found.name != name:
            raise _wrong_field(spec, datatype, found.name)
    return array_of_announced(spec, datatype, shape, list(getattr(contents, name)), limits)


def _message(contents: memoryview) -> Any:
    try:
        return Contents.FromString(bytes(contents))
    except DecodeError:
        raise InvalidInput("not a valid InferTensorContents") from None


def _wrong_field(spec: TensorSpec, datatype: str, got: str) -> InputAtFault:
    return InputAtFault(f"input {quoted(spec.name)}: {datatype} is sent in {FIELDS[datatype]}, got {got}")


def _pieces(spec: TensorSpec, datatype: str, contents: memoryview, count: int) -> list[memoryview] | None:
    """Returns the content of each field that has elements of `datatype`; None if numbers are in fields of their own, as
    no client sends them. Raises InvalidInput."""
    wanted, pieces = NUMBERS[FIELDS[datatype]], list[memoryview]()
    most = max(MOST_FIELDS, count + 1) if datatype == "BYTES" else MOST_FIELDS
    for number, _, begin, end in fields(contents, most):
        if not number:
            return None
        if number == wanted:
            pieces.append(contents[begin:end])
        elif number in _NAMES:
            raise _wrong_field(spec, datatype, _NAMES[number])
    return pieces


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
