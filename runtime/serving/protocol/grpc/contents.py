"""The typed contents of a tensor: where a datatype stands in an InferTensorContents, and an output written as one.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from typing import Final

from adapters.values import Array
from runtime.serving.protocol.grpc.messages import message
from runtime.serving.protocol.grpc.wire import field
from runtime.serving.protocol.tensor_bytes import as_bytes, bytes_from

FIELDS: Final = {
    "BOOL": "bool_contents", **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"), "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"), "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""A datatype without such a field travels raw only."""
_Contents: Final = message("InferTensorContents")
_NUMBERS: Final = {field.name: field.number for field in _Contents.DESCRIPTOR.fields}
_AS_THEY_ARE: Final = ("fp32_contents", "fp64_contents", "bool_contents")
"""What packed fields hold is what the array holds: https://protobuf.dev/programming-guides/encoding/#packed."""


def contents_of(name: str, datatype: str, array: Array) -> bytes:
    """Returns an InferTensorContents with the output `name`, as it is on the wire."""
    wanted = FIELDS[datatype]
    if not array.size:
        return b""
    if wanted in _AS_THEY_ARE:
        return field(_NUMBERS[wanted], bytes(bytes_from(name, array)))
    elements = array.reshape(-1).tolist()
    written: bytes = _Contents(
        **{wanted: as_bytes(name, elements) if datatype == "BYTES" else elements}
    ).SerializeToString()
    return written
