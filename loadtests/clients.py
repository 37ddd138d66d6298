"""Sends one request again and again and times its answers: closed loop, or open loop at a fixed rate.

Closed: each client sends its next request when it has its answer. Open: requests are due at fixed moments, whatever the
answers do; the clients are the most that wait at once, and a request that finds none free waits for one. Its time
counts from the moment when it was due, so a slow server is seen as slow and not as a smaller load.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field
from math import inf
from time import perf_counter as now

_PIECE = 262_144
"""What is read of a socket at once."""
_PATIENCE_SECONDS = 30.0
_BUSY_SECONDS = 0.002
"""A request that is due sooner than this is awaited awake: epoll counts in milliseconds."""


@dataclass
class Sent:
    """What a load came to."""

    seconds: float = 0.0
    answered: list[float] = field(default_factory=list)
    """Seconds of each answer 200."""
    refused: list[float] = field(default_factory=list)
    """Seconds of each answer 503."""
    failed: int = 0
    """Other answers, and connections that ended without one."""
    late: int = 0
    """Good answers after the end, to requests that were under way."""
    unsent: int = 0
    """Requests of an open loop that were due and found no client free until the end."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.answered) / self.seconds

    def note(self, status: int, seconds: float) -> None:
        """Notes an answer."""
        if status == 200:
            self.answered.append(seconds)
        elif status == 503:
            self.refused.append(seconds)
        else:
            self.failed += 1


class _Client:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("_answer", "_unsent", "due", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._answer, self._unsent, self.due = b"", memoryview(b""), 0.0

    def send(self, request: bytes, due: float) -> bool:
        """Begins a request; returns False if some of it has still to go."""
        self.due, self._unsent = due, memoryview(request)
        return self.go_on()

    def go_on(self) -> bool:
        """Sends more of the request; returns True once all of it is gone."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:  # reading tells the same
            self._unsent = memoryview(b"")
        return True

    def receive(self) -> int:
        """Reads what has come. Returns the status of a whole answer, 0 before that, -1 if the connection has ended."""
        try:
            piece = self.socket.recv(_PIECE)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        answer = self._answer + piece
        end = answer.find(b"\r\n\r\n") + 4
        if end > 3 and len(answer) - end >= length(answer[:end]):
            self._answer = b""
            return int(answer[9:12])
        self._answer = answer
        return 0 if piece else -1


def percentile(seconds: list[float], part: float) -> float:
    """Returns what `part` of the times are below; inf if there are none."""
    return sorted(seconds)[int(len(seconds) * part)] if seconds else inf


def length(head: bytes) -> int:
    """Returns what a head says of the length of its body."""
    return int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])


def drive(port: int, request: bytes, clients: int, seconds: float, rate: float = 0.0) -> Sent:
    """Sends `request` for some seconds; `rate` a second, or closed loop if that is 0. Waits for the last answers."""
    load = _Load(port, request)
    try:
        load.run(clients, seconds, rate)
    finally:
        load.close()
    return load.sent


class _Load:
    """The connections of one load."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request, self.sent = port, request, Sent()
        self._poll, self._clients = select.epoll(), dict[int, _Client]()

    def run(self, clients: int, seconds: float, rate: float) -> None:
        """Sends for some seconds."""
        free = [self._connect() for _ in range(clients)]
        began = due = now()
        ends, pause = began + seconds, 1 / rate if rate else 0.0
        while (moment := now()) < ends:
            while free and due <= moment:
                self._send(free.pop(), due if rate else moment)
                due += pause
            until = due if free else ends
            free += self._answers(0.0 if until - moment < _BUSY_SECONDS else min(until, ends) - moment)
        self.sent.seconds = moment - began
        self.sent.unsent = int((moment - due) * rate)
        counted, self.sent = self.sent, Sent()  # what is answered later took none of this time
        patience = now() + _PATIENCE_SECONDS
        while len(free) < clients and now() < patience:
            free += self._answers(0.1)
        counted.late = len(self.sent.answered)
        counted.failed += clients - len(free)
        self.sent = counted

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.socket.close()
        self._poll.close()

    def _connect(self) -> _Client:
        client = _Client(self._port)
        self._clients[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)
        return client

    def _send(self, client: _Client, due: float) -> None:
        if not client.send(self._request, due):
            self._poll.modify(client.socket, select.EPOLLIN | select.EPOLLOUT)

    def _answers(self, seconds: float) -> list[_Client]:
        """Waits at most so many seconds for answers, and returns the clients that have theirs."""
        free = []
        for number, events in self._poll.poll(seconds):
            client = self._clients[number]
            if events & select.EPOLLOUT and client.go_on():
                self._poll.modify(number, select.EPOLLIN)
            if events & ~select.EPOLLOUT and (status := client.receive()):
                self.sent.note(status, now() - client.due)
                if status < 0:
                    del self._clients[number]
                    client.socket.close()
                    client = self._connect()
                free.append(client)
        return free
