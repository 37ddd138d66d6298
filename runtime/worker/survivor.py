"""A process that outlives its worker by a moment, and answers 504 to clients whose deadline has passed.

It shares the worker's table of descriptors (clone(2), CLONE_FILES), and so has each connection without being told of
it; of the memory it has a copy from before there was a model. It sleeps until the kernel says that the worker has
ended: mostly because the supervisor replaced it, since a prediction never let the interpreter go.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.link.board import Signs

_CLONE_FILES: Final = 0x400
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
"""The system call's number by architecture: of the C library's functions none makes a copy that shares descriptors."""
_HEAD: Final = (
    "HTTP/1.1 504 Gateway Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
)


def start(signs: Signs, deadline_seconds: float) -> None:
    """Starts the survivor of this process, which has one thread yet; does nothing where the kernel does not let it.

    A client that has waited for more than `deadline_seconds` will get 504; of any other the connection just ends.
    """
    signs.waiting[:] = memoryview(bytes(signs.waiting.nbytes)).cast("d")
    worker = os.pidfd_open(os.getpid())
    number = _CLONE.get(os.uname().machine)
    survivor = ctypes.PyDLL(None).syscall(number, _CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0) if number else -1
    if survivor > 0:
        with suppress(OSError):  # something has ended it
            os.setpgid(survivor, 0)  # the worker is killed with its group
    if survivor:
        return
    try:
        _confine()
        ended = select.poll()
        ended.register(worker)
        ended.poll()
        _answer(signs.waiting, deadline_seconds)
    finally:
        os._exit(0)


def _confine() -> None:
    from runtime.worker.confinement import confine
    from runtime.worker.powers import drop_capabilities

    drop_capabilities(())
    with suppress(OSError):  # a kernel without Landlock
        confine(())


def _answer(waiting: memoryview[float], deadline_seconds: float) -> None:
    body = f'{{"error":"deadline exceeded: no answer within {deadline_seconds:g} s"}}'
    answer, latest = (_HEAD % len(body) + body).encode(), time.monotonic() - deadline_seconds
    for descriptor, since in enumerate(waiting):
        if 0 < since < latest:
            with suppress(OSError):  # the client has left; or a model wrote a number of its own
                client = socket.socket(fileno=descriptor)
                if client.type == socket.SOCK_STREAM:
                    client.send(answer, socket.MSG_DONTWAIT)
