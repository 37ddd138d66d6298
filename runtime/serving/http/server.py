"""The server under the application: listening sockets, the clock of the connections, and the order of a stop."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from runtime.serving.http.connection import Connection
from runtime.serving.http.state import State, affordable, readable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health

_BACKLOG: Final = 2048
_SETTLE_SECONDS: Final = 0.05
"""Handshakes that were under way when new ones were turned away may end within this."""
_LOOK_SECONDS: Final = 0.01


class Server:
    """Serves `app` on listening sockets that somebody else made. Runs on the loop that calls it; touches no signals."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], *, health: Health, limits: Limits,
                 log: Log) -> None:  # fmt: skip
        self._sockets = list(sockets)
        # The application's own lookup, where it has one: without it every request goes through ASGI.
        served_at = getattr(app, "served_at", lambda _path: None)
        self._state = State(app, served_at, health, limits, log)
        self.connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Makes everything ready; accepts nothing yet."""
        state, wanted = self._state, self._state.limits.connections
        state.most_connections = affordable(wanted)
        if state.most_connections < wanted:
            state.log.warning("connections.limited", connections=state.most_connections, wanted=wanted,
                              reason="too few file descriptors: raise RLIMIT_NOFILE (ulimit -n)")  # fmt: skip
        self._sweep_once()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def accept(self) -> None:
        """Begins to accept connections."""
        loop, connection = asyncio.get_running_loop(), partial(Connection, self._state, self.connections)
        # whoever bound a Unix socket removes its file: not each of the processes that listen on it
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                listener = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG, **keep)
            else:
                listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
            self._listeners.append(listener)

    async def drain(self, deadline_seconds: float) -> None:
        """Stops without losing a request: answers what waits in the backlog, closes the listeners, finishes what is
        under way, closes what is idle; what is left after `deadline_seconds` is broken off.

        Whoever bound the sockets has turned new clients away before (`Listener.turn_away`).
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._state.closing = True
        if self._listeners:
            settled, ends = began + min(_SETTLE_SECONDS, deadline_seconds / 2), began + deadline_seconds / 2
            while (now := loop.time()) < settled or (now < ends and readable(self._sockets)):  # noqa: ASYNC110 - the kernel's queue has no event
                await asyncio.sleep(_LOOK_SECONDS / 10)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for sock in self._sockets:
            sock.close()
        closed = loop.time()
        while self.connections and (now := loop.time()) < began + deadline_seconds:
            for connection in list(self.connections):
                connection.retire(now - closed)
            await asyncio.sleep(_LOOK_SECONDS)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self.connections):
            connection.transport.abort()
        tasks = [task for task in self._state.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._state.tick += 1
            self._sweep_once()

    def _sweep_once(self) -> None:
        state = self._state
        state.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in list(self.connections):
            connection.look()
        if state.turned_away:
            most = state.most_connections + state.most_told
            state.log.warning("connections.dropped", count=state.turned_away, most=most)
            state.turned_away = 0
