"""What a worker gives up before it imports anything large, and the sandbox that it enters with its first order.

docs/sandbox.md says what each level keeps from a hostile model.
"""

import ctypes
import io
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_IOLBF: Final = 1  # line by line, in the C library's stdio.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
FULL: Final = re.compile(r"landlock-\d+\+seccomp")
"""How `shut_in` says that a process is confined in every way."""


def harden(supervisor: int, control: int) -> None:
    """Binds this process to its parent `supervisor`, closes all descriptors behind `control`, writes line by line.

    SIGTERM and SIGINT are ignored: a service manager may send them to every process at once, but when a worker
    stops is decided by its supervisor, which drains first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = libc.prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != supervisor:  # it ended before the line above could bind us to it
        os._exit(1)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only
        if int(name) > control:  # what a thread of the supervisor opened while this process was started
            with suppress(OSError):  # the descriptor of the list itself
                os.close(int(name))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the model and requests
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    for stream in (sys.stdout, sys.stderr):  # pipes are buffered, and a worker ends without a flush
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)


def flush() -> None:
    """Writes what was printed without the end of a line, before this process ends without Python's own clean-up."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads any more, or the kit has closed it
            stream.flush()  # type: ignore[union-attr]


def shut_in(mode: str, readable: str, *, memory_bytes: int = 0, files: Iterable[int] = ()) -> str:
    """Confines this process to predicting, and to reading below `readable` and what its imports need; says how far.

    `landlock-7+seccomp` is all; `seccomp (no Landlock: why)`, `landlock-7 (no seccomp: why)` and `none: why` are less.
    `files` are what it inherited to write to.
    It has to come before anything that starts a thread is imported; numpy is such a thing. `mode` may be `off`.
    """
    from runtime.worker import seccomp

    with suppress(OSError):  # a kernel without filters
        seccomp.keep_to_itself()
    if mode == "off":
        return "off"
    from runtime.worker.confinement import confine, interpreter_paths
    from runtime.worker.powers import drop_capabilities, limit_resources

    paths = (*interpreter_paths(), Path(readable))
    drop_capabilities(paths)
    landlock = filtered = ""
    try:
        landlock = f"landlock-{confine(paths)}"
    except OSError as error:
        without = f"no Landlock: {error.strerror}"
    limit_resources(memory_bytes, files)
    try:
        seccomp.confine()
        filtered = "seccomp"
    except OSError as error:
        without = f"no seccomp: {error.strerror}" if landlock else f"{without}; no seccomp: {error.strerror}"
    level = "+".join(filter(None, (landlock, filtered)))
    if FULL.fullmatch(level):
        return level
    return f"{level} ({without})" if level else f"none: {without}"


def narrow(level: str, readable: str) -> str:
    """Leaves, of what this process may read below a folder, only `readable`; returns the level, less if it cannot."""
    if not level.startswith("landlock"):
        return level
    from runtime.worker.confinement import interpreter_paths, narrow

    try:
        narrow((*interpreter_paths(), Path(readable)))
    except OSError as error:
        return f"{level} (reads all kits of the cache: {error.strerror})"
    return level
