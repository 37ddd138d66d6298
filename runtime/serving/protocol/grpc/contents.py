"""The typed contents of a tensor: where a datatype stands in an InferTensorContents, and an output written as one.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from typing import Final

from adapters.values import Array
from runtime.serving.media import Body
from runtime.serving.protocol.grpc import varints
from runtime.serving.protocol.grpc.messages import message
from runtime.serving.protocol.grpc.wire import head
from runtime.serving.protocol.tensor_bytes import as_bytes, bytes_from

FIELDS: Final = {
    "BOOL": "bool_contents", **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"), "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"), "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""A datatype without such a field travels raw only."""
Contents: Final = message("InferTensorContents")
NUMBERS: Final = {field.name: field.number for field in Contents.DESCRIPTOR.fields}
_LONG: Final = 4096
"""Numbers from which it pays to write them without an object for each."""
_AS_THEY_ARE: Final = ("fp32_contents", "fp64_contents", "bool_contents")
"""What packed fields hold is what the array holds: https://protobuf.dev/programming-guides/encoding/#packed."""


def contents_of(name: str, datatype: str, array: Array) -> tuple[Body, ...]:
    """Returns an InferTensorContents with the output `name`, as it is on the wire, in pieces."""
    wanted = FIELDS[datatype]
    if not array.size:
        return ()
    if wanted in _AS_THEY_ARE or (datatype != "BYTES" and array.size > _LONG):
        packed = bytes_from(name, array) if wanted in _AS_THEY_ARE else varints.written(array.reshape(-1))
        return head(NUMBERS[wanted], len(packed)), packed
    elements = array.reshape(-1).tolist()
    written: bytes = Contents(
        **{wanted: as_bytes(name, elements) if datatype == "BYTES" else elements}
    ).SerializeToString()
    return (written,)
