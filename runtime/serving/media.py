"""What a request's headers may say about its body (docs/protocol.md)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from runtime.errors import InvalidInput, TooLarge, UnsupportedCoding, UnsupportedMedia
from runtime.serving.wording import shown

Head = Mapping[bytes, bytes]
"""A request's headers, names in lower case."""

Body = bytes | memoryview
"""A request's body; a memoryview, which may be written, where its protocol has a `binary_at`."""


def head_of(headers: Sequence[tuple[bytes, bytes]]) -> Head:
    """Returns headers by name; what came more than once is one list (RFC 9110, 5.3), and no number."""
    head = dict(headers)
    if len(head) != len(headers):
        for name in head:
            head[name] = b", ".join(value for other, value in headers if other == name)
    return head


_OTHER_MEANING: Final = (
    b"text/csv", b"text/xml", b"text/html", b"application/xml", b"multipart/", b"image/", b"audio/", b"video/",
    b"application/vnd.apache.arrow", b"application/x-npy", b"application/x-protobuf", b"application/grpc",
)  # fmt: skip
CODINGS: Final = {b"": b"", b"identity": b"", b"gzip": b"gzip", b"x-gzip": b"gzip", b"deflate": b"deflate"}
"""What a Content-Encoding may say, and what it means; nothing: the body is as it is."""
_UTF8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})


def media_type(head: Head, claimed: Collection[bytes | None], preferred: bytes) -> bytes:
    """Returns the Content-Type in lower case, without its parameters.
    Raises UnsupportedMedia for a body in an unknown coding, not in UTF-8, or clearly none of the `claimed` types."""
    content_coding(head)
    kind, *parameters = (part.strip().lower() for part in head.get(b"content-type", b"").split(b";"))
    for parameter in parameters:
        name, _, text = parameter.partition(b"=")
        if name.strip() == b"charset" and text.strip(b"\"' ") not in _UTF8:
            raise UnsupportedMedia(_unsupported("charset", text, "UTF-8"))
    if kind not in claimed and kind.startswith(_OTHER_MEANING):
        like = kind.partition(b"/")[0] + b"/"
        near = [one for one in claimed if one is not None and one.startswith(like)]
        raise UnsupportedMedia(_unsupported("content type", kind, b", ".join(near or [preferred]).decode()))
    return kind


def content_coding(head: Head) -> bytes:
    """Returns `gzip`, `deflate`, or nothing for a body that is as it is. Raises UnsupportedCoding."""
    given = head.get(b"content-encoding", b"").strip().lower()
    coding = CODINGS.get(given)
    if coding is None:
        raise UnsupportedCoding(_unsupported("content encoding", given, "gzip, deflate, or the body as it is"))
    return coding


def _unsupported(what: str, seen: bytes, wanted: str) -> str:
    return f"unsupported {what} {shown(seen.decode('latin-1'))}; send {wanted}"


def too_large(most: int, whose: str = "--max-body-bytes", what: str = "body") -> TooLarge:
    """Returns what a client is told whose body has more than `most` bytes, announced or not."""
    return TooLarge(f"{what} too large: more than {most} bytes, the limit of {whose}")


def announced_length(head: Head) -> int:
    """Returns the bytes of the body, 0 if nothing is announced; of a number over 18 digits, the first ones."""
    length = head.get(b"content-length", b"0")
    if not length.isdigit():
        raise InvalidInput(f"invalid Content-Length {shown(length.decode('latin-1'))}")
    return int(length[:18])
