"""Small JSON messages, one a line, between the supervisor and one worker. Never a tensor, never a pickle."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any, Final

_LONGEST_MESSAGE_BYTES: Final = 16 * 2**20
_SEND_SECONDS: Final = 1.0

Message = dict[str, Any]


class Channel:
    """One end of a socket pair. `receive` never blocks once `unblock` was called.

    `most_files`: descriptors that one message may bring; the kernel closes all others.
    """

    def __init__(self, end: socket.socket, *, most_files: int = 0) -> None:
        self._socket, self._waiting, self._most_files = end, bytearray(), most_files
        self.files: list[int] = []
        """Descriptors that came with messages."""

    def fileno(self) -> int:
        """The descriptor, for event loops."""
        return self._socket.fileno()

    def unblock(self) -> None:
        """From now on `receive` returns what is there."""
        self._socket.setblocking(False)

    def send(self, message: Message, *, files: Sequence[int] = ()) -> None:
        """Sends a message, and descriptors with it. A peer that is gone is no error here: its end is seen elsewhere."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        blocking = self._socket.getblocking()
        try:
            self._socket.settimeout(_SEND_SECONDS)  # a Kitfile may be larger than the socket's buffer
            sent = socket.send_fds(self._socket, [line], files) if files else 0
            self._socket.sendall(line[sent:])
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        finally:
            self._socket.setblocking(blocking)

    def receive(self) -> list[Message]:
        """The messages that have arrived whole.

        Raises:
            EOFError: the peer is gone, or sends what is no message.
        """
        try:
            received, files, _, _ = socket.recv_fds(self._socket, 65_536, self._most_files)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            received, files = b"", []
        if not received or len(self._waiting) > _LONGEST_MESSAGE_BYTES:
            raise EOFError
        self.files += files
        *lines, rest = (bytes(self._waiting) + received).split(b"\n")
        self._waiting[:] = rest
        try:
            return [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError, RecursionError) as error:
            raise EOFError from error

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()
