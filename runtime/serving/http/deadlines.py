"""How long a connection may wait for what. The server looks at each once a second: no request has a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from runtime.serving.http.framing import Refused

if TYPE_CHECKING:
    from runtime.serving.engine.limits import Limits

HEAD, BODY, ANSWER, IDLE, LINGER, CLOSED = range(6)
"""What a connection waits for: the rest of a head, of a body, the answer, the next request, the end of what a client
still sends after the last answer, the end of what it has yet to read."""

_BODY_GRACE_SECONDS: Final = 5


def look(limits: Limits, tick: int, *, what: int, since: int, received_bytes: int, reading: bool, unread_bytes: int,
         read_at: int) -> Refused | Literal["close", "abort"] | None:  # fmt: skip
    """Returns what has to be done with a connection at `tick`, a second of the server's clock, None for nothing.

    It has waited for `what` since `since`; `received_bytes` of the head or body have come; `reading` is False while the
    connection itself does not read on. The client has not read `unread_bytes` of the answers, and last read at
    `read_at` some of them, or all.
    """
    seconds = tick - since
    if unread_bytes and tick - read_at > limits.unread_seconds:
        return "abort"
    if what == HEAD and seconds > limits.head_seconds:
        if not received_bytes:  # a client that never said anything needs no answer
            return "close"
        return Refused(408, f"request timeout: the request head was not whole within {limits.head_seconds:g} s")
    wanted_bytes = (seconds - _BODY_GRACE_SECONDS) * limits.body_bytes_per_second
    if what == BODY and reading and (seconds > limits.body_seconds or received_bytes < wanted_bytes):
        return Refused(408, "request timeout: the request body came too slowly")
    if what == IDLE and seconds > limits.keep_alive_seconds and not unread_bytes:
        return "close"
    if what == LINGER and seconds > limits.linger_seconds:
        return "abort"
    return None
