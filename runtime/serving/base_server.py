"""Listening sockets and the connections behind them, whatever is spoken: how many, their clock, the order of a stop."""

from __future__ import annotations

import asyncio
import resource
import select
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from runtime.log import fault

if TYPE_CHECKING:
    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health

_BACKLOG: Final = 2048
_SETTLE_SECONDS: Final = 0.05
"""Handshakes that were under way when new ones were turned away may end within this."""
_LOOK_SECONDS: Final = 0.01
_FEW: Final = 2
"""Up to this many connections may wait without a request."""
_SPARE: Final = 2
"""File descriptors kept even where there are hardly any."""
_RESERVED: Final = 64
"""File descriptors kept for the model's files, the log, and connections that are being turned away."""


class Accounts:
    """What all connections of a server share."""

    def __init__(self, health: Health, limits: Limits, log: Log) -> None:
        self.health, self.limits, self.log = health, limits, log
        self.pending: set[asyncio.Future[Any]] = set()
        """Answers that are under way."""
        self.most_connections = limits.connections
        self.most_told = _RESERVED // 4
        """How many more there may be that are only told that there are too many."""
        self.turned_away = 0
        """Connections that were dropped without a word since the last sweep."""
        self.tick = 0
        """Seconds since the start, coarse: counted by the sweep, so that no request needs a timer of its own."""
        self.closing = False
        self.unasked: OrderedDict[Open, None] = OrderedDict()
        """Connections that have not asked for anything yet, oldest first."""
        self.spare: list[Open] = []
        """What `make_room` saw in this second, the one that has waited for longest last."""

    def make_room(self, peers: Iterable[Open]) -> bool:
        """Has the connection give way that is missed least. Returns False if there is none.

        First the oldest that has not asked for anything: at once where many have not, else once it has had time to.
        Then the one that has waited for its client for longest.
        """
        eldest = next(iter(self.unasked), None)
        crowd = max(_FEW, self.most_connections // 4)
        if eldest is not None and (len(self.unasked) > crowd or eldest.spare_since is not None):
            del self.unasked[eldest]
            eldest.give_way()
            return True
        if not self.spare:  # one look at all of them serves for many
            spare = [(since, peer) for peer in peers if (since := peer.spare_since) is not None]
            self.spare = [peer for _, peer in sorted(spare, key=lambda one: -one[0])]
        while self.spare:
            peer = self.spare.pop()
            if peer.spare_since is not None:
                peer.give_way()
                return True
        return False

    def failed(self, error: BaseException) -> None:
        """Logs a fault of ours, without its text, which may hold values of a request."""
        self.log.error("request.failed", **fault(error, texts=self.limits.log_inputs))

    def swept(self) -> None:
        """Is called once in each second."""


class Open(Protocol):
    """A connection, as far as its server needs to know it."""

    transport: asyncio.Transport

    @property
    def spare_since(self) -> int | None:
        """Since when it has waited for its client so that little would be lost if it ended; None if much would."""

    def give_way(self) -> None:
        """Ends, because there are too many connections."""

    def look(self) -> None:
        """Ends what takes too long."""

    def retire(self, seconds: float) -> None:
        """Closes, `seconds` after the server began to drain, unless something is under way or may be."""


A = TypeVar("A", bound=Accounts)
C = TypeVar("C", bound=Open)


class BaseServer(Generic[A, C]):
    """Serves a `protocol` on sockets that the supervisor made. Runs on the loop that calls it; touches no signals."""

    def __init__(self, state: A, protocol: Callable[[A, set[C]], Any], sockets: Sequence[socket.socket]) -> None:
        self._state, self._protocol, self._sockets = state, protocol, list(sockets)
        self.connections: set[C] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, servers: int = 1) -> None:
        """Makes everything ready, as one of `servers` in this process; accepts nothing yet."""
        state, wanted = self._state, self._state.limits.connections
        state.most_connections = max(1, affordable(wanted * servers) // servers)
        if state.most_connections < wanted:
            state.most_told = min(state.most_told, state.most_connections)
            state.log.warning("connections.limited", connections=state.most_connections, wanted=wanted,
                              reason="too few file descriptors: raise RLIMIT_NOFILE (ulimit -n)")  # fmt: skip
        self._sweep_once()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def accept(self) -> None:
        """Begins to accept connections."""
        loop, connection = asyncio.get_running_loop(), partial(self._protocol, self._state, self.connections)
        # the supervisor removes the file of a Unix socket
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                listener = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG, **keep)
            else:
                listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
            self._listeners.append(listener)

    @property
    def missed(self) -> bool:
        """Whether clients wait to be accepted, which a process before this one did: it accepts nothing yet."""
        return not self._listeners and readable(self._sockets)

    async def drain(self, deadline_seconds: float) -> None:
        """Stops without losing a request: answers what waits in the backlog, closes the listeners, finishes what is
        under way, closes what is idle; what is left after `deadline_seconds` is broken off.

        The supervisor has turned new clients away before (`Listener.turn_away`).
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
        await asyncio.sleep(0)  # a task that has not begun closes no account
        pending = [answer for answer in self._state.pending if not answer.done()]
        for answer in pending:
            answer.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._state.tick += 1
            self._sweep_once()

    def _sweep_once(self) -> None:
        state = self._state
        state.swept()
        state.spare.clear()
        for connection in list(self.connections):
            connection.look()
        if state.turned_away:
            most = state.most_connections + state.most_told
            state.log.warning("connections.dropped", count=state.turned_away, most=most)
            state.turned_away = 0


def affordable(connections: int) -> int:
    """Returns `connections`, or as many as the process has file descriptors for; raises its soft limit if it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        free = soft - len(list(Path("/proc/self/fd").iterdir())) - _SPARE
        return min(connections, max(soft - _RESERVED, soft // 3), free)
    return connections


def readable(sockets: Iterable[Any]) -> bool:
    """Returns True if something waits to be read, or accepted, on any of them."""
    poll = select.poll()
    for sock in sockets:
        if sock is not None and sock.fileno() >= 0:
            poll.register(sock.fileno(), select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))  # of what does not listen yet there is POLLHUP
