"""The listening socket: bound once, by the supervisor, before anything else is done; workers inherit it."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from runtime.errors import CannotListen

_BACKLOG: Final = 2048
"""Connections that wait while workers are replaced; the kernel caps it at net.core.somaxconn."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` (a name or address, IPv4 or IPv6) and `port` (0: any free one).

    Raises:
        CannotListen: the port is taken or privileged, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CannotListen(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    return listener


def url(listener: socket.socket) -> str:
    """The address under which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{reachable}:{port}"


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; stop it, or give another --port"
    if error.errno == errno.EACCES:
        return "not allowed; give a --port of 1024 or above"
    if error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this machine; give another --host"
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved; give another --host"
    return os.strerror(error.errno) if error.errno else str(error)
