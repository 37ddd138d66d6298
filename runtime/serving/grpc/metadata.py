"""A call's headers and trailers: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from runtime.serving.http2.hpack import Header, encoded
from runtime.serving.media import CODINGS
from runtime.serving.trail import REQUEST_ID, TRACE

CODES: Final = {
    "OK": 0, "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14,
}  # fmt: skip
"""https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""
BEGIN: Final = encoded((b":status", b"200"), (b"content-type", b"application/grpc"))
"""The headers of every answer."""
_CODINGS: Final = (b"grpc-accept-encoding", b"identity,deflate,gzip")
"""What a client has to hear that sends another: https://github.com/grpc/grpc/blob/master/doc/compression.md."""
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_TO_PROTOCOLS: Final = (REQUEST_ID, TRACE)
_PLAIN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_ONCE: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_HTTP1: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Refusal(NamedTuple):
    """Why a request is no call: a status of HTTP, 200 where a gRPC client asks; a gRPC code; one line."""

    http: int
    code: str
    text: str
    more: tuple[Header, ...] = ()


class Asked(NamedTuple):
    """What the headers of a request say. Calls of one kind have the same value: nothing in it changes."""

    path: bytes
    head: Mapping[bytes, bytes]
    """What of it is a header to a protocol: the client's own id, and its trace."""
    seconds: float | None
    """How long the client waits."""
    coding: bytes
    """Of compressed messages: gzip, deflate, or nothing."""
    metadata: Mapping[bytes, bytes]
    refusal: Refusal | None = None


def refused(http: int, code: str, text: str, *more: Header) -> Asked:
    """Returns the headers of a request that is no call."""
    return Asked(b"", {}, None, b"", {}, Refusal(http, code, text, more))


def asked(headers: list[Header] | None, most_bytes: int) -> Asked:
    """Returns what headers say; None: they had more than `most_bytes`."""
    if headers is None:
        return refused(200, "RESOURCE_EXHAUSTED", f"metadata too large: more than {most_bytes} bytes")
    given = dict(headers)
    if wrong := _malformed(headers, given):
        return refused(400, "INTERNAL", f"invalid request: {wrong}")
    if given[b":method"] != b"POST":
        return refused(405, "UNIMPLEMENTED", "a gRPC call is a POST")
    kind = given.get(b"content-type", b"")
    if kind not in (b"application/grpc", b"application/grpc+proto") and not kind.startswith(b"application/grpc;"):
        return refused(415, "UNIMPLEMENTED", "unsupported content type; send application/grpc")
    timeout = given.get(b"grpc-timeout")
    found = timeout and _TIMEOUT(timeout)
    if timeout is not None and not found:
        return refused(200, "INTERNAL", "invalid grpc-timeout")
    coding = CODINGS.get(given.get(b"grpc-encoding", b"identity"))
    if coding is None:
        return refused(200, "UNIMPLEMENTED", "unsupported grpc-encoding; send gzip, deflate, or identity", _CODINGS)
    seconds = int(found[1]) * _UNITS[found[2]] if found else None
    head: dict[bytes, bytes] = {name: given[name] for name in _TO_PROTOCOLS if name in given}
    return Asked(given[b":path"], head, seconds, coding, given)


def _malformed(headers: list[Header], given: Mapping[bytes, bytes]) -> str:
    """Returns what RFC 9113, 8.2 and 8.3 forbid about the headers of a request, nothing where they are as they must."""
    ended, seen = False, set[bytes]()
    for name, value in headers:
        if name.startswith(b":"):
            if ended or name in seen or name not in _ONCE:
                return "a pseudo-header that is unknown, comes twice, or comes late"
            seen.add(name)
        else:
            ended = True
            if name in _OF_HTTP1 or name != name.lower() or not name:
                return "a header that HTTP/2 has not"
            if b"\n" in value or b"\r" in value or b"\0" in value:
                return "a header that is not one line"
    missing = [name for name in (b":method", b":scheme", b":path") if not given.get(name)]
    return f"no {missing[0].decode()}" if missing else ""


def status(code: str, text: str = "", more: tuple[Header, ...] = ()) -> bytes:
    """Returns the trailers that end a call."""
    message = ((b"grpc-message", quote_from_bytes(text.encode(), safe=_PLAIN).encode()),) if text else ()
    return encoded((b"grpc-status", b"%d" % CODES[code]), *message, *more)
