"""When a connection reads and writes, and between which addresses."""

import asyncio
import socket
from contextlib import suppress


class Flow:
    """Pauses and resumes a transport, which must not be told either twice
    (https://docs.python.org/3/library/asyncio-protocol.html#asyncio.ReadTransport.pause_reading)."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._writable = transport, asyncio.Event()
        self.read_paused = self.write_paused = False
        self._writable.set()

    def pause_reading(self) -> None:
        """Receives nothing more for now."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receives again."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Notes that what was written waits for the client."""
        self.write_paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """Notes that the client has read, or is gone."""
        self.write_paused = False
        self._writable.set()

    async def drain(self) -> None:
        """Waits until more may be written."""
        await self._writable.wait()


Address = tuple[str, int | None]


def addresses(transport: asyncio.BaseTransport) -> tuple[Address | None, Address | None]:
    """Returns the server's address and the client's, as ASGI has them: of a Unix socket its path and None.
    https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope"""
    end: socket.socket = transport.get_extra_info("socket")
    client = None
    with suppress(OSError):  # it has left already
        client = end.getpeername()
    server = end.getsockname()
    return (server, None) if isinstance(server, str) else server[:2], client[:2] if isinstance(client, tuple) else None
