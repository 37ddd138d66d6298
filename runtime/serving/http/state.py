"""What all connections of a server share, and how many there may be."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

from uvicorn.server import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.serving.engine.limits import Limits
    from runtime.serving.engine.predictor import Predictor
    from runtime.serving.health import Health
    from runtime.serving.journal import Log

_RESERVED: Final = 64
"""Descriptors kept for the model's files, the log, and connections that are being turned away."""


class State(ServerState):
    """The one value that every connection of a server holds."""

    def __init__(self, health: Health, limits: Limits, log: Log, door: Callable[[str], Predictor | None]) -> None:
        super().__init__()
        self.health, self.limits, self.log = health, limits, log
        self.door = door
        """The predictor that a POST to a path means, where the connection may ask it itself."""
        self.most_connections = limits.connections
        self.turned_away = 0
        """Connections that were dropped without a word since the last sweep."""
        self.tick = 0
        """Seconds since the start, coarse: counted by the sweep, so that no request needs a timer of its own."""
        self.date = b""
        self.closing = False

    @property
    def most_open(self) -> int:
        """How many connections there may be with those that are only told that there are too many."""
        return self.most_connections + _RESERVED // 4


def affordable(connections: int) -> int:
    """`connections`, or as many as the process has file descriptors for; raises its soft limit where that helps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(connections, max(soft - _RESERVED, soft // 3))
    return connections
