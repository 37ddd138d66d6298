"""What all connections of a server share, how many there may be, and how long each may wait for what."""

from __future__ import annotations

import asyncio
import resource
import select
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from runtime.log import fault
from runtime.serving.http.framing import Head, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health
    from runtime.serving.inference import Endpoint

HEAD, BODY, ANSWER, IDLE, LINGER, CLOSED = range(6)
"""What a connection waits for: the rest of a head, of a body, the answer, the next request, the end of what a client
still sends after the last answer, the end of what it has yet to read."""

_BODY_GRACE_SECONDS: Final = 5
_RESERVED: Final = 64
"""File descriptors kept for the model's files, the log, and connections that are being turned away."""


class State:
    """The one value that every connection of a server holds."""

    def __init__(self, app: ASGIApp, served_at: Callable[[str], Endpoint | None], health: Health, limits: Limits,
                 log: Log) -> None:  # fmt: skip
        self.app, self.health, self.limits, self.log = app, health, limits, log
        self._app_headers: frozenset[bytes] = getattr(app, "own_headers", frozenset())
        self.served_at = served_at
        """What a POST to a path asks, where the connection may ask it itself."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.most_connections = limits.connections
        self.most_told = _RESERVED // 4
        """How many more there may be that are only told that there are too many."""
        self.turned_away = 0
        """Connections that were dropped without a word since the last sweep."""
        self.tick = 0
        """Seconds since the start, coarse: counted by the sweep, so that no request needs a timer of its own."""
        self.date = b""
        self.closing = False

    def is_for_app(self, head: Head) -> bool:
        """True if a header says that the application itself wants to see the request."""
        return bool(self._app_headers) and any(name in self._app_headers for name, _ in head.headers)

    def failed(self, error: BaseException) -> None:
        """Logs a fault of ours, without its text, which may hold values of a request."""
        self.log.error("request.failed", **fault(error, texts=self.limits.log_inputs))


def affordable(connections: int) -> int:
    """Returns `connections`, or as many as the process has file descriptors for; raises its soft limit if it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(connections, max(soft - _RESERVED, soft // 3))
    return connections


def readable(sockets: Iterable[Any]) -> bool:
    """Returns True if something waits to be read, or accepted, on any of them."""
    poll = select.poll()
    for sock in sockets:
        if sock is not None and sock.fileno() >= 0:
            poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def look(limits: Limits, tick: int, *, what: int, since: int, received_bytes: int, reading: bool, unread_bytes: int,
         read_at: int) -> Refused | Literal["close", "abort"] | None:  # fmt: skip
    """Returns what has to be done with a connection at `tick`, None for nothing.

    Ticks are seconds of the server's clock, which asks once in each: no request has a timer. The connection has waited
    for `what` since `since`; `received_bytes` of the head or body have come; `reading` is False while the connection
    itself does not read on. `unread_bytes` of the answers are left to the client, which last read some, or all, at
    `read_at`.
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
