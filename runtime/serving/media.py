"""What a request's headers may say about its body (docs/protocol.md).

Clients send JSON under every name or none (tritonclient none, curl's -d a form's), so only a content type that clearly
means something else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from runtime.errors import InvalidInput, TooLarge, UnsupportedMedia
from runtime.serving.wording import shown

if TYPE_CHECKING:
    from runtime.serving.engine.limits import Limits

Head = Mapping[bytes, bytes]
"""A request's headers, names in lower case."""

BINARY_HEADER: Final = b"inference-header-content-length"
_OTHER_MEANING: Final = (
    b"text/csv", b"text/xml", b"text/html", b"application/xml", b"multipart/", b"image/", b"audio/", b"video/",
    b"application/vnd.apache.arrow", b"application/x-npy", b"application/x-protobuf", b"application/grpc",
)  # fmt: skip
_FINE: Final = frozenset({None, b"application/json", b"application/octet-stream", b"application/x-www-form-urlencoded"})
_UTF8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})


def check_head(head: Head) -> None:
    """Raises UnsupportedMedia or InvalidInput for a body that would not be JSON in UTF-8 as it stands."""
    if (kind := head.get(b"content-type")) not in _FINE:
        _check_content_type(kind or b"")
    if (encoding := head.get(b"content-encoding")) and encoding.strip().lower() != b"identity":
        raise UnsupportedMedia(f"unsupported content encoding {shown(encoding.decode('latin-1'))}; send it as it is")
    if BINARY_HEADER in head:
        raise InvalidInput(
            "binary tensor data is not supported yet; send JSON, without Inference-Header-Content-Length"
        )


def too_large(most: int) -> str:
    """Returns what a client is told whose body has more than `most` bytes, announced or not."""
    return f"body too large: more than {most} bytes, the limit of --max-body-bytes"


def check_length(head: Head, limits: Limits) -> int | None:
    """Announced bytes of the body, None where nothing is announced. Raises TooLarge before any of it is read."""
    length = head.get(b"content-length")
    if length is None:
        return None
    if not length.isdigit():
        raise InvalidInput(f"invalid Content-Length {shown(length.decode('latin-1'))}")
    if len(length) > 18 or int(length) > limits.longest_body:
        raise TooLarge(too_large(limits.longest_body))
    return int(length)


def _check_content_type(value: bytes) -> None:
    kind, *parameters = (part.strip().lower() for part in value.split(b";"))
    if kind.startswith(_OTHER_MEANING):
        raise UnsupportedMedia(f"unsupported content type {shown(kind.decode('latin-1'))}; send application/json")
    for parameter in parameters:
        name, _, text = parameter.partition(b"=")
        if name.strip() == b"charset" and text.strip(b"\"' ") not in _UTF8:
            raise UnsupportedMedia(f"unsupported charset {shown(text.decode('latin-1'))}; send UTF-8")
