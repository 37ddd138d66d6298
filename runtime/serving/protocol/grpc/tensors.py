"""Bytes and typed contents of a tensor ⇄ its array. Raw bytes are little-endian, row-major, BYTES with length prefixes:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

import struct
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.protocol.grpc.messages import Message, message
from runtime.serving.protocol.grpc.wire import field
from runtime.serving.protocol.json_elements import array_of, count_of, fitted
from runtime.serving.wording import quoted

FIELDS: Final = {
    "BOOL": "bool_contents", **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"), "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"), "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where the typed contents of a datatype stand; a datatype without such a field travels raw only."""
_Contents: Final = message("InferTensorContents")
_NUMBERS: Final = {field.name: field.number for field in _Contents.DESCRIPTOR.fields}
_AS_THEY_ARE: Final = ("fp32_contents", "fp64_contents", "bool_contents")
"""What packed fields hold is what the array holds: https://protobuf.dev/programming-guides/encoding/#packed."""
_PREFIX: Final = struct.Struct("<I")


def from_raw(spec: TensorSpec, shape: list[int], raw: memoryview, limits: Limits) -> Array:
    """Returns the array of `shape` in `raw`, a view of it where it is aligned for that. Raises InputAtFault."""
    count = count_of(spec, shape, limits)
    if spec.datatype == "BYTES":
        return _strings(spec, count, raw).reshape(fitted(spec, shape))
    dtype = DTYPES[spec.datatype]
    if len(raw) != count * dtype.itemsize:
        raise _fault(spec, f"shape {quoted(shape)} wants {count * dtype.itemsize} bytes, got {len(raw)}")
    array = np.frombuffer(raw, dtype)
    if dtype.kind == "b" and (wrong := np.frombuffer(raw, np.uint8) > 1).any():
        raise _fault(
            spec, f"element {int(wrong.argmax())}: a raw BOOL is a byte 0 or 1, got {raw[int(wrong.argmax())]}"
        )
    # native code of frameworks takes no numbers at odd addresses
    return (array if array.flags.aligned else array.copy()).reshape(fitted(spec, shape))


def _strings(spec: TensorSpec, count: int, raw: memoryview) -> Array:
    if len(raw) < count * _PREFIX.size:
        raise _fault(spec, f"malformed BYTES: {count} elements have 4 bytes of length each, got {len(raw)} in all")
    texts, at, last = list[bytes](), 0, len(raw)
    for index in range(count):
        end = at + _PREFIX.size
        if end <= last:
            at, end = end, end + _PREFIX.unpack_from(raw, at)[0]
        if end > last:
            raise _fault(spec, f"malformed BYTES: element {index} ends after the data")
        texts.append(bytes(raw[at:end]))
        at = end
    if at != last:
        raise _fault(spec, f"malformed BYTES: {last - at} bytes are left after {count} elements")
    return _objects(texts)


def from_contents(spec: TensorSpec, shape: list[int], contents: Message, limits: Limits) -> Array:
    """Returns the array of `shape` in an InferTensorContents. Raises InputAtFault."""
    name = FIELDS.get(spec.datatype)
    if name is None:
        raise _fault(spec, f"{spec.datatype} has no typed contents; send raw_input_contents")
    if other := [found.name for found, _ in contents.ListFields() if found.name != name]:
        raise _fault(spec, f"{spec.datatype} is sent in {name}, got {other[0]}")
    data = getattr(contents, name)
    count = count_of(spec, shape, limits)
    if len(data) != count:
        raise _fault(spec, f"shape {quoted(shape)} wants {count} elements, got {len(data)}")
    if DTYPES[spec.datatype].kind == "f":  # infinities and NaN are what they are
        return np.fromiter(data, DTYPES[spec.datatype], count).reshape(fitted(spec, shape))
    return array_of(spec, shape, list(data), limits)


def to_raw(name: str, array: Array) -> bytes | memoryview:
    """Returns the bytes of an output, a view of it unless it is BYTES or its order in memory is another."""
    if array.dtype.kind == "O":
        return b"".join(part for text in _texts(name, array) for part in (_PREFIX.pack(len(text)), text))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def to_contents(name: str, datatype: str, array: Array) -> bytes:
    """Returns an InferTensorContents with an output, as it is on the wire."""
    wanted = FIELDS[datatype]
    if not array.size:
        return b""
    if wanted in _AS_THEY_ARE:
        return field(_NUMBERS[wanted], bytes(to_raw(name, array)))
    elements = _texts(name, array) if datatype == "BYTES" else array.reshape(-1).tolist()
    written: bytes = _Contents(**{wanted: elements}).SerializeToString()
    return written


def _texts(name: str, array: Array) -> list[bytes]:
    try:
        return [text.encode() if type(text) is str else bytes(memoryview(text)) for text in array.reshape(-1).tolist()]
    except TypeError:
        raise PredictFailed(f"the model returned something else than bytes in its output {quoted(name)}") from None


def _objects(texts: Iterable[Any]) -> Array:
    values = list(texts)
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _fault(spec: TensorSpec, text: str) -> InputAtFault:
    return InputAtFault(f"input {quoted(spec.name)}: {text}")
