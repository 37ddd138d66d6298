"""Processes that a worker left behind: they become children of the supervisor, which ends them.

A worker that a model has taken over may start processes that leave its session and their parent, and hold a copy of its
listening socket. Such a process is known by two marks that it cannot lose: it is in a session other than the
supervisor's, and under the system call filter of `runtime.worker.harden`.
"""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_LOOK_SECONDS: Final = 0.005


def adopt() -> None:
    """Makes this process the parent of its descendants' orphans, and closes its memory to others, core files too."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # it holds credentials
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def sweep(workers: Container[int]) -> bool:
    """Reaps orphans that have ended and kills those that workers left; whether there were any of these.

    Children in this process's session are no orphans: it started them, and waits for their exit codes itself.
    """
    ours, found = os.getsid(0), False
    for pid in _children():
        with suppress(OSError):  # it has just been reaped
            if pid in workers or os.getsid(pid) == ours or os.waitpid(pid, os.WNOHANG)[0]:
                continue
            if _filters(pid) > _filters(os.getpid()):
                os.kill(pid, signal.SIGKILL)
                found = True
    return found


def sweep_until_none(seconds: float) -> None:
    """Kills and reaps orphans until there are no more: each that ends may leave its own."""
    ends = time.monotonic() + seconds
    while sweep(()) and time.monotonic() < ends:
        time.sleep(_LOOK_SECONDS)


def _children() -> list[int]:
    found: list[str] = []
    with suppress(OSError):  # a thread has ended, no descriptor is left, there is no such list: the next look tells
        for task in Path("/proc/self/task").iterdir():
            found += (task / "children").read_text().split()
    return [int(pid) for pid in found]


def _filters(pid: int) -> int:
    """How many system call filters bind a process. They are inherited, and only grow (Linux 5.9)."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("Seccomp_filters:")[1].split()[0])
    return 0
