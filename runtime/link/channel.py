"""One end of the socket pair between the supervisor and a worker. Never a tensor, never a pickle.

The sockets keep messages apart (SOCK_SEQPACKET, unix(7)): there is no half message, and what is not read waits in the
kernel, in a buffer with a bound. A message that is too long for the socket travels as a file in memory.
"""

import os
import socket
from collections.abc import Sequence
from typing import Final, TypeVar

from runtime.link.messages import Message, read, write

_PACKET_BYTES: Final = 64 * 2**10  # the most that a worker may send: LONGEST_TEXT fits, however it is escaped
_IN_A_FILE: Final = b"@"  # the packet that says: the message is in the last file that comes with it
_MOST_FILES: Final = 8

M = TypeVar("M")


class Channel:
    """One end. Only a worker's end takes files: of those that a worker sends, the kernel closes every one."""

    def __init__(self, end: socket.socket, *, takes_files: bool = False) -> None:
        self._socket, self._takes_files = end, takes_files
        self.files: list[int] = []  # descriptors that came with messages

    def fileno(self) -> int:
        """Returns the descriptor, for event loops."""
        return self._socket.fileno()

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Sends a message, and descriptors. Raises OSError if the peer is gone, or has not read the ones before."""
        data = write(message)
        if len(data) <= _PACKET_BYTES:
            socket.send_fds(self._socket, [data], files)
            return
        with os.fdopen(os.memfd_create("runtime-message"), "wb") as file:
            file.write(data)
            file.flush()
            socket.send_fds(self._socket, [_IN_A_FILE], [*files, file.fileno()])

    def receive(self, *accepted: type[M]) -> M | None:
        """Returns the next message, which must be one of those accepted; None if there is none now.

        Raises EOFError if the peer is gone, ValueError if the message is not understood.
        """
        try:
            data = self._receive()
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        return read(data, *accepted)

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()

    def _receive(self) -> bytes:
        if not self._takes_files:
            return self._socket.recv(_PACKET_BYTES + 1)
        data, files, _, _ = socket.recv_fds(self._socket, _PACKET_BYTES, _MOST_FILES)
        if data == _IN_A_FILE:
            with os.fdopen(files.pop(), "rb") as whole:
                whole.seek(0)
                data = whole.read()
        for file in files:
            os.set_inheritable(file, False)
        self.files += files
        return data
