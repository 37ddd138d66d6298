"""`runtime health`: asks a running server over HTTP. It runs every few seconds, so it imports next to nothing."""

import socket
import time
from typing import Final

from runtime.settings import Settings
from runtime.supervisor.sockets import connect, place

_TIMEOUT_SECONDS: Final = 5.0  # to connect, and again to hear the whole answer
_LONGEST_ANSWER: Final = 65_536


def run(settings: Settings, /, *_others: object) -> tuple[int, list[str]]:
    """Prints what the server says of itself, in one line; 0 if it is ready, else 1."""
    try:
        with connect(settings.host, settings.port, _TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = _received(connection)
    except OSError as error:
        return 1, [f"no server answers on {place(settings.host, settings.port)}: {error.strerror or error}"]
    head, _, body = answer.partition(b"\r\n\r\n")
    code = 0 if head.split(b" ", 2)[1:2] == [b"200"] else 1
    return code, [body.decode(errors="replace").strip() or "an empty answer"]


def _received(connection: socket.socket) -> bytes:
    """Reads until the server closes the connection; whatever listens there, for so many bytes and seconds only."""
    received, deadline = b"", time.monotonic() + _TIMEOUT_SECONDS
    while len(received) < _LONGEST_ANSWER:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (piece := connection.recv(_LONGEST_ANSWER)):
            break
        received += piece
    return received
