"""What `requests` sends through: connections whose answers have to show their whole head in time.

`http.client` waits for each piece of a head anew, so a head of one byte a second would keep it for hours.
"""

from http.client import HTTPResponse
from socket import socket
from time import monotonic
from typing import Any, Final

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Head:
    """The lines of a head, for as many seconds."""

    def __init__(self, file: Any, seconds: float) -> None:
        self._file, self._ends = file, monotonic() + seconds

    def readline(self, most: int) -> bytes:
        """Returns the next line, at most so many bytes of it. Raises TimeoutError."""
        line = b""
        while len(line) < most and not line.endswith(b"\n"):
            if monotonic() > self._ends:
                raise TimeoutError
            came = self._file.peek(1)  # waits for one piece
            if not came:
                break
            line += self._file.read(min(came.find(b"\n") + 1 or len(came), most - len(line)))
        return line

    def close(self) -> None:
        """Closes what the lines come from."""
        self._file.close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._seconds = sock.gettimeout()

    def begin(self) -> None:
        """Reads the head."""
        if self._seconds is None:
            return super().begin()
        file = self.fp
        self.fp: Any = _Head(file, self._seconds)
        try:
            return super().begin()
        finally:
            if self.fp is not None:  # else it was closed: what came is no HTTP
                self.fp = file


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


class Adapter(HTTPAdapter):
    """The adapter of `requests`, with these connections, through proxies too (not those that speak SOCKS)."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Makes the pools of connections."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Returns the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **options)
        if type(manager) is urllib3.ProxyManager:
            manager.pool_classes_by_scheme = _POOLS
        return manager
