"""Ports for programs that cannot be asked which one they took."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_FIRST = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives away: until it is used, no other gets it."""
    while True:
        port = random.randrange(10_000, _FIRST)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
