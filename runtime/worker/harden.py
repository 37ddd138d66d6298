"""What a worker gives up before it imports anything large: new privileges, core dumps, life beyond its supervisor's."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden(supervisor: int) -> None:
    """Confines this process, a child of the process `supervisor`. Linux; see prctl(2).

    SIGTERM and SIGINT are ignored: a service manager may send them to every process at once, but when a worker
    stops is decided by its supervisor, which drains first.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != supervisor:  # it ended before the line above could bind us to it
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the model and requests
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


def shut_in(mode: str, readable: Iterable[str]) -> str:
    """Confines this process to reading below `readable` and what its imports need; says how: `landlock-6`, `none: why`.

    It has to come before anything that starts a thread is imported; numpy is such a thing. `mode` may be `off`.
    """
    if mode == "off":
        return "off"
    from adapters.confinement import confine, interpreter_paths

    try:
        abi = confine((*interpreter_paths(), *map(Path, readable)))
    except OSError as error:
        return f"none: {error.strerror}"
    return f"landlock-{abi}"
