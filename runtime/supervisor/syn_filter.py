"""A listening socket that lets no new client in, while those who wait to be accepted stay."""

import ctypes
import socket
import struct
from typing import Final

_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = (  # classic BPF over the TCP header: a segment with SYN and without ACK opens a connection
    (0x30, 0, 0, 13),  # A = flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # A == SYN ?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)


def turn_away(listener: socket.socket) -> None:
    """Has a TCP socket give no answer to a SYN; its sender tries again, and meets the closed port. Raises OSError where
    the kernel has no filters (gVisor)."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    filter_ = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
