"""What a request's headers may say about its body (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.errors import InvalidInput, TooLarge, UnsupportedMedia
from runtime.serving.wording import shown

Head = Mapping[bytes, bytes]
"""A request's headers, names in lower case."""

_OTHER_MEANING: Final = (
    b"text/csv", b"text/xml", b"text/html", b"application/xml", b"multipart/", b"image/", b"audio/", b"video/",
    b"application/vnd.apache.arrow", b"application/x-npy", b"application/x-protobuf", b"application/grpc",
)  # fmt: skip
_UTF8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})


def check_encoding(head: Head) -> None:
    """Raises UnsupportedMedia for a body that would have to be unpacked first."""
    if (encoding := head.get(b"content-encoding")) and encoding.strip().lower() != b"identity":
        raise UnsupportedMedia(f"unsupported content encoding {shown(encoding.decode('latin-1'))}; send it as it is")


def media_type(value: bytes) -> bytes:
    """A Content-Type in lower case, without its parameters. Raises UnsupportedMedia if the text is not UTF-8."""
    kind, *parameters = (part.strip().lower() for part in value.split(b";"))
    for parameter in parameters:
        name, _, text = parameter.partition(b"=")
        if name.strip() == b"charset" and text.strip(b"\"' ") not in _UTF8:
            raise UnsupportedMedia(f"unsupported charset {shown(text.decode('latin-1'))}; send UTF-8")
    return kind


def check_meaning(kind: bytes, wanted: bytes) -> None:
    """Raises UnsupportedMedia for a media type that clearly means something else than `wanted`."""
    if kind.startswith(_OTHER_MEANING):
        raise UnsupportedMedia(
            f"unsupported content type {shown(kind.decode('latin-1'))}; send {wanted.decode('latin-1')}"
        )


def too_large(most: int, whose: str = "--max-body-bytes") -> TooLarge:
    """Returns what a client is told whose body has more than `most` bytes, announced or not."""
    return TooLarge(f"body too large: more than {most} bytes, the limit of {whose}")


def announced_length(head: Head) -> int:
    """Bytes of the body, 0 where nothing is announced; of an absurd number, the first 18 digits."""
    length = head.get(b"content-length", b"0")
    if not length.isdigit():
        raise InvalidInput(f"invalid Content-Length {shown(length.decode('latin-1'))}")
    return int(length[:18])
