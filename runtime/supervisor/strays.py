"""Processes that a worker left behind become children of the supervisor, which kills and reaps them.

A hostile model may start processes that leave the worker's session and keep a copy of its listening socket. They can
lose neither of two marks: a session other than the supervisor's, and the seccomp filter of `runtime.worker.harden`.
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
    """Makes this process the parent of its descendants' orphans (prctl(2)), and forbids to read its memory."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # it holds credentials
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def sweep(workers: Container[int]) -> bool:
    """Reaps orphans that have ended, and kills those that workers left; returns True if there were any to kill.

    Children in this process's session are no orphans: the code that started them waits for their exit codes.
    """
    ours, found = os.getsid(0), False
    for pid in _children():
        with suppress(OSError):  # it has been reaped meanwhile
            if pid in workers or os.getsid(pid) == ours or os.waitpid(pid, os.WNOHANG)[0]:
                continue
            if _filters(pid) > _filters(os.getpid()):
                os.kill(pid, signal.SIGKILL)
                found = True
    return found


def sweep_until_none(seconds: float) -> None:
    """Kills and reaps orphans for up to `seconds` until none is left: each may leave orphans of its own."""
    ends = time.monotonic() + seconds
    while sweep(()) and time.monotonic() < ends:
        time.sleep(_LOOK_SECONDS)


def _children() -> list[int]:
    found: list[str] = []
    with suppress(OSError):  # a thread ended, no file descriptor is left, or no such file: the next sweep finds them
        for task in Path("/proc/self/task").iterdir():
            found += (task / "children").read_text().split()
    return [int(pid) for pid in found]


def _filters(pid: int) -> int:
    """Returns the number of a process's seccomp filters, which are inherited and never removed (Linux 5.9)."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("Seccomp_filters:")[1].split()[0])
    return 0
