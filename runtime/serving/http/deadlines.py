"""How long a connection may wait for what. The server looks at each once a second: no request has a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from runtime.serving.http.framing import Refused

if TYPE_CHECKING:
    from runtime.serving.engine.limits import Limits

HEAD, BODY, ANSWER, IDLE, LINGER, CLOSED = range(6)
"""What a connection waits for: the rest of a head, of a body, the answer, the next request, the end of what a client
still sends after the last answer, the end of what it has yet to read."""

_BODY_GRACE_SECONDS: Final = 5


class Waiting(NamedTuple):
    """What a connection waits for. Times are ticks of the server's clock, one a second."""

    what: int
    since: int
    received_bytes: int  # of the head or body that is being read
    reading: bool  # False while the connection itself does not read on
    unread_bytes: int  # of the answers
    read_at: int  # when the client last read some of them, or had read all


def look(waiting: Waiting, limits: Limits, tick: int) -> Refused | Literal["close", "abort"] | None:
    """Returns what has to be done with a connection that waits so at `tick`, None for nothing."""
    what, seconds = waiting.what, tick - waiting.since
    if waiting.unread_bytes and tick - waiting.read_at > limits.unread_seconds:
        return "abort"
    if what == HEAD and seconds > limits.head_seconds:
        if not waiting.received_bytes:  # a client that never said anything needs no answer
            return "close"
        return Refused(408, f"request timeout: the request head was not whole within {limits.head_seconds:g} s")
    wanted_bytes = (seconds - _BODY_GRACE_SECONDS) * limits.body_bytes_per_second
    if what == BODY and waiting.reading and (seconds > limits.body_seconds or waiting.received_bytes < wanted_bytes):
        return Refused(408, "request timeout: the request body came too slowly")
    if what == IDLE and seconds > limits.keep_alive_seconds and not waiting.unread_bytes:
        return "close"
    if what == LINGER and seconds > limits.linger_seconds:
        return "abort"
    return None
