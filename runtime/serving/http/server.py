"""The server under the application: sockets, the clock of the connections, and the order in which it stops.

Everything that knows uvicorn's insides is here and in `http.py`. The order of a stop: keep answering what waits in the
listen backlog, close the listener, finish what is under way, close what is idle, break off the rest at the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from uvicorn.config import Config

from runtime.serving.http.connection import Connection
from runtime.serving.http.deadlines import look
from runtime.serving.http.state import State, affordable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.serving.engine.limits import Limits
    from runtime.serving.health import Health
    from runtime.serving.journal import Log

_BACKLOG: Final = 2048
_SETTLE_SECONDS: Final = 0.05
"""Handshakes that were under way when new ones are turned away may end within this."""
_IDLE_GRACE_SECONDS: Final = 0.25
"""An idle client's next request may be on its way when the listener closes."""
_FRESH_GRACE_SECONDS: Final = 1.0
"""So may the first request of a connection that was accepted last."""
_LOOK_SECONDS: Final = 0.01

_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = (  # classic BPF over the TCP header: a segment with SYN and without ACK opens a connection
    (0x30, 0, 0, 13),  # A = flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # A == SYN ?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)


class Server:
    """Serves `app` on listening sockets that somebody else made. Runs on the loop that calls it; touches no signals."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], *, health: Health, limits: Limits,
                 log: Log) -> None:  # fmt: skip
        self._sockets = list(sockets)
        # The application's own lookup, where it has one: without it every request goes through ASGI.
        door = getattr(app, "predictor_at", lambda _path: None)
        self._state = State(health, limits, log, door)
        # proxy_headers would wrap the application and believe X-Forwarded-For; nothing here depends on the peer.
        self._config = Config(app, http=Connection, lifespan="off", ws="none", access_log=False, log_config=None,
                              proxy_headers=False, server_header=False)  # fmt: skip
        self._listeners: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._state.connections)

    async def start(self) -> None:
        """Makes everything ready; accepts nothing yet."""
        self._config.load()
        self._limit_connections()
        self._sweep_once()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def accept(self) -> None:
        """Begins to accept connections."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._listeners.append(await loop.create_server(self._connection, sock=sock, backlog=_BACKLOG))

    async def drain(self, deadline_seconds: float, *, retire: bool = False) -> None:
        """Stops without losing a request: within `deadline_seconds` everything accepted is answered, or broken off.

        With `retire` other processes go on accepting from the same sockets; without, new connections are turned away
        before the last ones are taken from the backlog, so that none is caught between the two.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_seconds
        self._state.closing = True
        if self._listeners and not retire:
            await self._empty_backlog(min(ends, loop.time() + deadline_seconds / 2))
        self._close_listeners()
        await self._finish(ends, loop)
        await self._break_off()

    def _connection(self) -> Connection:
        return Connection(self._config, self._state, {})

    def _limit_connections(self) -> None:
        state, wanted = self._state, self._state.limits.connections
        state.most_connections = affordable(wanted)
        if state.most_connections < wanted:
            state.log.warning("connections.limited", connections=state.most_connections, wanted=wanted,
                              reason="too few file descriptors: raise RLIMIT_NOFILE (ulimit -n)")  # fmt: skip

    # stopping

    async def _empty_backlog(self, ends: float) -> None:
        for sock in self._sockets:
            self._turn_away(sock)
        loop = asyncio.get_running_loop()
        settled = min(ends, loop.time() + _SETTLE_SECONDS)
        while loop.time() < settled or (_readable(self._sockets) and loop.time() < ends):  # noqa: ASYNC110 - the kernel's queue has no event
            await asyncio.sleep(_LOOK_SECONDS / 10)

    def _turn_away(self, sock: socket.socket) -> None:
        """Has the kernel ignore new connections; their clients try again and meet the closed port."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
        with contextlib.suppress(OSError):  # a kernel that cannot (gVisor) leaves a window of microseconds
            sock.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
            )

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for sock in self._sockets:
            sock.close()

    async def _finish(self, ends: float, loop: asyncio.AbstractEventLoop) -> None:
        began = loop.time()
        while self._state.connections and (now := loop.time()) < ends:
            for connection in self._open():
                grace = _IDLE_GRACE_SECONDS if connection.served else _FRESH_GRACE_SECONDS
                if now - began >= grace and not _readable([connection.transport.get_extra_info("socket")]):
                    connection.shutdown()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _break_off(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in self._open():
            connection.transport.abort()
        tasks = [task for task in self._state.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self) -> list[Connection]:
        return [connection for connection in self._state.connections if isinstance(connection, Connection)]

    # the clock

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._state.tick += 1
            self._sweep_once()

    def _sweep_once(self) -> None:
        state = self._state
        state.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in self._open():
            look(connection)
        if state.turned_away:
            state.log.warning("connections.dropped", count=state.turned_away, most=state.most_open)
            state.turned_away = 0


def _readable(sockets: Sequence[Any]) -> bool:
    """Whether something waits to be read, or accepted, on any of them."""
    poll = select.poll()
    for sock in sockets:
        if sock is not None and sock.fileno() >= 0:
            poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
