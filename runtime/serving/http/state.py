"""What all connections of a server share, and how many there may be."""

from __future__ import annotations

import asyncio
import resource
import select
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from runtime.log import fault

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.log import Log
    from runtime.serving.engine.limits import Limits
    from runtime.serving.health import Health
    from runtime.serving.inference import Endpoint

_RESERVED: Final = 64
"""File descriptors kept for the model's files, the log, and connections that are being turned away."""


class State:
    """The one value that every connection of a server holds."""

    def __init__(self, app: ASGIApp, served_at: Callable[[str], Endpoint | None], health: Health, limits: Limits,
                 log: Log) -> None:  # fmt: skip
        self.app, self.health, self.limits, self.log = app, health, limits, log
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
