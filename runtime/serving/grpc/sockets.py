"""The sockets that gRPC has made, found among this process's descriptors: the library hands none of them out.

Why they are needed: docs/decisions/9-grpc.md.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final

_GOAWAY: Final = bytes.fromhex("000008 07 00 00000000 7fffffff 00000000")
"""RFC 9113, 6.8: no new streams on this connection, those that there are go on. No error."""
_BYTES_SENT_AT: Final = 200
"""Where struct tcp_info of linux/tcp.h has tcpi_bytes_sent."""


def listener(port: int) -> socket.socket:
    """Returns a copy of the socket that listens on `port`. Raises RuntimeError if there is none."""
    for found in _at(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found
    raise RuntimeError(f"gRPC does not listen on port {port}")


class Connections:
    """The connections that clients have opened to `port`."""

    def __init__(self, port: int) -> None:
        self._port, self._told = port, set[int]()

    def tell_to_leave(self) -> bool:
        """Sends GOAWAY on each connection where that is not done yet. Returns whether there are connections.

        gRPC sends it only when it shuts down, and cancels the calls that come before a client has read it. To write on
        its socket is safe between two of its frames: when it has sent its first one and nothing of it waits to be sent.
        """
        here = set[int]()
        for connection in _at(self._port):
            with connection, suppress(OSError):
                connection.getpeername()
                identity = os.fstat(connection.fileno()).st_ino
                here.add(identity)
                if identity not in self._told and _is_between_frames(connection):
                    connection.send(_GOAWAY, socket.MSG_DONTWAIT)
                    self._told.add(identity)
        return bool(here)


def _is_between_frames(connection: socket.socket) -> bool:
    sent = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_SENT_AT + 8)
    waiting = ioctl(connection, TIOCOUTQ, bytes(4))
    return len(sent) == _BYTES_SENT_AT + 8 and struct.unpack_from("Q", sent, _BYTES_SENT_AT)[0] > 0 and not any(waiting)


def _at(port: int) -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only
        with suppress(OSError):
            copy = os.dup(int(name))
            try:
                found = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                continue
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                yield found
            else:
                found.close()
