"""The server under the application: HTTP/1.1 on listening sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.serving.base_server import BaseServer
from runtime.serving.http.connection import Connection
from runtime.serving.http.state import State

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health


class Server(BaseServer[State, Connection]):
    """Serves `app`."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], *, health: Health, limits: Limits,
                 log: Log, waiting: memoryview[float] | None = None) -> None:  # fmt: skip
        # The application's own lookup, where it has one: without it every request goes through ASGI.
        served_at = getattr(app, "served_at", lambda _path: None)
        super().__init__(State(app, served_at, health, limits, log, waiting), Connection, sockets)
