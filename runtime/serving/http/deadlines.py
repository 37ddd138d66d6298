"""What may take how long on a connection. One look a second at each of them: no request needs a timer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.serving.http.connection import Connection

HEAD, BODY, ANSWER, IDLE, LINGER = range(5)
"""What a connection waits for: the rest of a head, of a body, the answer, the next request, the client's end."""

_BODY_GRACE_SECONDS: Final = 5


def look(connection: Connection) -> None:
    """Ends what takes too long."""
    waits_for, seconds, limits = connection.waits_for, connection.state.tick - connection.since, connection.limits
    if _unread(connection):
        return
    if waits_for == IDLE and seconds > limits.keep_alive_seconds:
        connection.transport.close()
    elif waits_for == LINGER and seconds > limits.linger_seconds:
        connection.transport.abort()
    elif waits_for == HEAD and seconds > limits.head_seconds:
        _late_head(connection)
    elif waits_for == BODY and not connection.flow.read_paused and _is_slow(connection, seconds):
        connection.refuse(408, "request timeout: the request body came too slowly")


def _unread(connection: Connection) -> bool:
    """Whether the client has yet to read what was sent; one that reads nothing of it for too long is broken off."""
    left, now = connection.transport.get_write_buffer_size(), connection.state.tick
    if not left or left < connection.unread_bytes:
        connection.read_at = now
        if left and connection.waits_for == IDLE:
            connection.since = now
    elif now - connection.read_at > connection.limits.unread_seconds:
        connection.transport.abort()
    connection.unread_bytes = left
    return left > 0 and (connection.waits_for == IDLE or connection.transport.is_closing())


def _late_head(connection: Connection) -> None:
    if connection.received_bytes:
        seconds = connection.limits.head_seconds
        connection.refuse(408, f"request timeout: the request head was not whole within {seconds:g} s")
    else:
        connection.transport.close()  # a client that never said anything needs no answer


def _is_slow(connection: Connection, seconds: int) -> bool:
    limits, late = connection.limits, seconds - _BODY_GRACE_SECONDS
    too_little = late > 0 and connection.received_bytes < late * limits.body_bytes_per_second
    return too_little or seconds > limits.body_seconds
