"""What a request's head may be before anything is made of it (RFC 9110, RFC 9112), beyond what the parser checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.serving.engine.limits import Limits

Headers = list[tuple[bytes, bytes]]

_CHECKED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_DIGITS: Final = b"0123456789"
_ADDRESS: Final = _DIGITS + b"abcdefABCDEF:."
_NAME: Final = _DIGITS + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._~!$&'()*+,;=%-"


class Refused(Exception):
    """The request cannot be accepted, and the connection ends with the answer that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_head(
    version: str, url: bytes, headers: Headers, limits: Limits, upgrades: Callable[[], bool]
) -> tuple[int | None, bool]:
    """Content-Length (None: no body, or one of unknown length) and whether the client waits for a 100.

    `upgrades` says whether the head offers an upgrade. Raises Refused.
    """
    if version not in ("1.1", "1.0"):
        raise Refused(505, f"HTTP version not supported: {version}; send HTTP/1.1")
    size, hosts, length, continues = 0, 0, None, False
    for name, value in headers:
        size += len(name) + len(value)
        if name not in _CHECKED:
            continue
        if name == b"host":
            hosts += 1
            _check_host(value)
        elif name == b"content-length":
            length = _length(value)
        elif name == b"transfer-encoding":
            _check_coding(value, upgrades)
        else:
            continues = _check_expectation(value) and version == "1.1"  # of a 1.0 client it is to be ignored
    if size + 4 * len(headers) + len(url) > limits.head_bytes or len(headers) > limits.headers:
        raise Refused(431, f"request head too large: at most {limits.head_bytes} bytes and {limits.headers} headers")
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refused(400, f"invalid HTTP request: expected one Host header, got {hosts}")
    return length, continues


def target(url: bytes) -> tuple[str, bytes]:
    """Path (not decoded) and query of a request target. Raises Refused."""
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


def _length(value: bytes) -> int:
    digits = value.strip()
    if not digits.isdigit():  # the parser lets an empty one pass
        raise Refused(400, "invalid HTTP request: invalid Content-Length")
    return int(digits)


def _check_host(value: bytes) -> None:
    if value.startswith(b"["):
        host, closed, rest = value[1:].partition(b"]")
        fine = bool(host and closed) and not host.translate(None, _ADDRESS) and rest[:1] in (b"", b":")
        port = rest[1:]
    else:
        host, _, port = value.partition(b":")
        fine = not host.translate(None, _NAME)
    if not fine or port.translate(None, _DIGITS):
        raise Refused(400, "invalid HTTP request: invalid Host header")


def _check_coding(value: bytes, upgrades: Callable[[], bool]) -> None:
    if value.strip().lower() != b"chunked":
        raise Refused(501, "transfer coding not implemented; send chunked, or a Content-Length")
    if upgrades():
        raise Refused(501, "an upgrade together with a chunked body is not implemented")


def _check_expectation(value: bytes) -> bool:
    if value.strip().lower() != b"100-continue":
        raise Refused(417, "expectation failed; only 100-continue is understood")
    return True
