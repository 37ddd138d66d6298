"""What a request's head may be, beyond what the parser checks (https://www.rfc-editor.org/rfc/rfc9112).

And which requests the connection answers itself, without ASGI: no scope, no task, no event. Whatever is unusual about
a request sends it the other way, to the application, and both ways give the same bytes.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import httptools

from runtime.link.limits import Limits
from runtime.serving.media import head_of

Headers = list[tuple[bytes, bytes]]

_CHECKED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"})
LONGEST_SHORT: Final = 65_536
"""A longer body is received into memory of its own size."""
_DIGITS: Final = b"0123456789"
_ADDRESS: Final = _DIGITS + b"abcdefABCDEF:."
_NAME: Final = _DIGITS + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._~!$&'()*+,;=%-"


class Head(NamedTuple):
    """A request's head, parsed and checked."""

    version: str
    method: bytes
    path: str  # as sent, not decoded
    query: bytes
    headers: Headers
    length: int | None  # None: no body, or one of unknown length
    continues: bool  # the client waits for a 100 before it sends the body
    keep_alive: bool


class Known(NamedTuple):
    """A head that the connection has answered itself, without ASGI, and that may simply come again.

    Clients send the same bytes with every request of a kind. A piece of data that is exactly this head and a body of
    the length it announces, or the beginning of a long one, needs no parser, which would find what it found before.
    """

    head: bytes
    whole: int  # bytes of head and body together
    path: str
    headers: Mapping[bytes, bytes]


UNKNOWN: Final = Known(b"", -1, "", {})


class Refused(Exception):
    """Ends the connection with an answer that says why. The text is logged too: no byte of the client may be in it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_head(version: str, url: bytes, headers: Headers, limits: Limits, *, upgrade: bool) -> tuple[int | None, bool]:
    """Returns `length` and `continues` of a head, which may offer an `upgrade`. Raises Refused."""
    if version not in ("1.1", "1.0"):
        raise Refused(505, "HTTP version not supported; send HTTP/1.1")
    size, hosts, length, continues = 0, 0, None, False
    for name, value in headers:
        size += len(name) + len(value)
        if name not in _CHECKED:
            continue
        if name == b"host":
            hosts += 1
            _need(_is_host(value), 400, "invalid HTTP request: invalid Host header")
        elif name == b"content-length":
            # the parser lets an empty one pass
            _need(value.strip().isdigit(), 400, "invalid HTTP request: invalid Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            is_known = value.strip().lower() == b"chunked"
            _need(is_known, 501, "transfer coding not implemented; send chunked, or a Content-Length")
            _need(not upgrade, 501, "an upgrade together with a chunked body is not implemented")
        elif name == b"upgrade":  # of a 1.0 client it is to be ignored; of others it may be, RFC 9110 section 7.8
            # a client that offers WebSocket then speaks nothing else
            is_websocket = upgrade and version == "1.1" and b"websocket" in value.lower()
            _need(not is_websocket, 501, "WebSocket is not implemented; send plain HTTP requests")
        else:
            _need(value.strip().lower() == b"100-continue", 417, "expectation failed; only 100-continue is understood")
            continues = version == "1.1"  # of a 1.0 client it is to be ignored
    if size + 4 * len(headers) + len(url) > limits.head_bytes or len(headers) > limits.headers:
        raise Refused(431, f"request head too large: at most {limits.head_bytes} bytes and {limits.headers} headers")
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refused(400, f"invalid HTTP request: expected one Host header, got {hosts}")
    return length, continues


def target(url: bytes) -> tuple[str, bytes]:
    """Returns path (not decoded) and query of a request target. Raises Refused."""
    if url.startswith(b"/") and b"?" not in url and b"#" not in url:
        return url.decode("latin-1"), b""
    if url.startswith(b"/") or url == b"*":
        path, _, query = url.partition(b"?")
        return path.partition(b"#")[0].decode("latin-1"), query
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise Refused(400, "invalid HTTP request: invalid target") from None
    return (parsed.path or b"/").decode("latin-1"), parsed.query or b""


def _is_host(value: bytes) -> bool:
    if value.startswith(b"["):
        host, closed, rest = value[1:].partition(b"]")
        fine = bool(host and closed) and not host.translate(None, _ADDRESS) and rest[:1] in (b"", b":")
        port = rest[1:]
    else:
        host, _, port = value.partition(b":")
        fine = not host.translate(None, _NAME)
    return fine and not port.translate(None, _DIGITS)


def _need(holds: bool, status: int, otherwise: str) -> None:
    if not holds:
        raise Refused(status, otherwise)


def is_plain(head: Head, limits: Limits) -> bool:
    """Returns True if nothing about the head is unusual: a POST with a body of a known length."""
    length = head.length
    return head.method == b"POST" and not head.continues and length is not None and length <= limits.body_bytes


def known(data: bytes, head: Head, received: int) -> Known:
    """Returns what to compare later data with, UNKNOWN unless `data` is `head` and `received` bytes of its body."""
    end = data.find(b"\r\n\r\n") + 4
    if end + received != len(data):
        return UNKNOWN
    return Known(data[:end], end + (head.length or 0), head.path, head_of(head.headers))
