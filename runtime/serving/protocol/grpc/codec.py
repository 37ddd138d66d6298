"""The Open Inference Protocol V2 over gRPC, as one value: a message's bytes in, a message's bytes out."""

from typing import Final

from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.grpc.decode import decode, text_bytes
from runtime.serving.protocol.grpc.encode import NAME, Form, encode
from runtime.serving.statuses import grpc_response

GRPC: Final = Codec(
    name=NAME,
    paths=(),  # no HTTP/1.1: `runtime.serving.grpc` gives it its requests
    media_types=(None,),
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=grpc_response,
    text_bytes=text_bytes,
)
