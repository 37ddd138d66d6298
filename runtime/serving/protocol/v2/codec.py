"""The Open Inference Protocol V2 in JSON, as one value.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from typing import Final

from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import NAME, Form, encode
from runtime.serving.protocol.v2.pages import MODEL, PAGES
from runtime.serving.statuses import error_response

V2_JSON: Final = Codec(
    name=NAME,
    paths=tuple(f"{path}/infer" for path in MODEL),
    # Clients send JSON under every name or none: tritonclient none, its asyncio half octet-stream, curl -d a form's.
    media_types=(b"application/json", None, b"application/octet-stream", b"application/x-www-form-urlencoded"),
    longest_body=2**31 - 1,  # a tensor has no more elements
    prepare=Form.of,
    decode=decode,
    encode=encode,
    refuse=error_response,
    pages=PAGES,
)
