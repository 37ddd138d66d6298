"""Which requests the connection answers itself, without ASGI: no scope, no task, no event.

Whatever is unusual about a request sends it the other way, to the application, and both ways give the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from runtime.serving.engine.limits import Limits
    from runtime.serving.http.framing import Head

_LONGEST_BODY: Final = 65_536


class Known(NamedTuple):
    """A head that has been parsed, checked and answered here, and may simply come again.

    Clients send the same bytes with every request of a kind. A piece of data that is exactly this head and a body of
    the length it announces needs no parser, which would find what it found before.
    """

    head: bytes
    whole: int  # bytes of head and body together
    path: str
    headers: dict[bytes, bytes]


NONE: Final = Known(b"", -1, "", {})


def is_plain(head: Head, limits: Limits) -> bool:
    """True if nothing about the head is unusual: a POST with a short body of a known length."""
    most = min(_LONGEST_BODY, limits.body_bytes)
    return head.method == b"POST" and not head.continues and head.length is not None and head.length <= most


def known(data: bytes, head: Head) -> Known:
    """Returns what to compare the next piece of data with, NONE unless `data` is `head` and its body alone."""
    body = head.length or 0
    if data.find(b"\r\n\r\n") + 4 + body != len(data):
        return NONE
    return Known(data[: len(data) - body], len(data), head.path, dict(head.headers))
