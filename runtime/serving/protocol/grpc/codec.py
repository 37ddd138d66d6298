"""The Open Inference Protocol V2 over gRPC, as one value: a message's bytes in, a message's bytes out."""

from typing import Final

from runtime.errors import RequestFailed
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.grpc.decode import decode, text_bytes
from runtime.serving.protocol.grpc.encode import NAME, Form, encode
from runtime.serving.statuses import STATUSES, Response, status_of
from runtime.serving.wording import one_line

CODE: Final = b"grpc-code"
_CODES: Final = {status.grpc: ((CODE, status.grpc.encode()),) for status in STATUSES}


def refuse(failure: RequestFailed) -> Response:
    """Returns the answer that tells a client of a failure: its text, and its gRPC code in the header CODE."""
    status = status_of(failure)
    return Response(status.http, _CODES[status.grpc], one_line(str(failure)).encode())


GRPC: Final = Codec(
    name=NAME,
    paths=(),  # no HTTP/1.1: `runtime.serving.grpc` gives it its requests
    media_types=(None,),
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=refuse,
    text_bytes=text_bytes,
)
