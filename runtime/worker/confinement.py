"""Confines this process with Landlock: which files it may read and write, no TCP, no signals to other processes.

https://docs.kernel.org/userspace-api/landlock.html; numbers from linux/landlock.h. Landlock binds the calling thread
and those that it starts later, so it is applied before anything starts a thread (importing numpy does). Later,
`narrow` leaves one kit of all those in the cache, and reaches the threads that run.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION_FLAG, PATH_BENEATH, NO_NEW_PRIVS, O_PATH = 1, 1, 38, os.O_PATH
ALL_THREADS, FIRST_WITH_ALL_THREADS = 1 << 3, 8  # LANDLOCK_RESTRICT_SELF_TSYNC, and the ABI that knows it
READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
FILE_RIGHTS_OF: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""ABI version -> the file rights that the kernel knows from there on."""
SYSTEM: Final = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/null", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices", "/sys/bus/pci", "/sys/fs/cgroup",
)  # fmt: skip
"""What interpreters and numeric libraries read from the system."""
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """Returns the Landlock ABI of the running kernel; 0 if there is none or the process may not use it."""
    return max(0, _syscall(CREATE_RULESET, None, 0, VERSION_FLAG))


def interpreter_paths() -> tuple[Path, ...]:
    """Returns this interpreter, its libraries and the system's: what an import may need to read."""
    own = {sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)}
    return tuple(path for path in map(Path, (*SYSTEM, *sorted(own))) if path.exists())


def confine(read: Iterable[Path], write: Iterable[Path] = (Path("/dev/null"),)) -> int:
    """Applies Landlock, for good, and returns its ABI. Only files below `read` can be read, only `write` written.

    Newer kernels also refuse TCP connect and bind (ABI 4), and signals and abstract sockets to other processes (ABI 6).
    Raises OSError if there is no Landlock, or if another thread is running.
    """
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - names only
        raise OSError(errno.EBUSY, "Landlock would not bind the threads that run already")
    abi = landlock_abi()
    if not abi:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock, or the container engine forbids it")
    handled = FILE_RIGHTS_OF[max(version for version in FILE_RIGHTS_OF if version <= abi)]
    network = scopes = 0b11
    ruleset = _ruleset(read, *(handled, network, scopes)[: 3 if abi >= 6 else 2 if abi >= 4 else 1])
    try:
        for path in write:
            _allow(ruleset, path, handled & (READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE))
        _checked(_LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
        _checked(_syscall(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return abi


def narrow(read: Iterable[Path]) -> None:
    """Leaves, of the files that can be read, those below `read`, for every thread. Raises OSError if it cannot."""
    ruleset = _ruleset(read, READ_FILE | READ_DIR)
    try:
        if landlock_abi() >= FIRST_WITH_ALL_THREADS and not _syscall(RESTRICT_SELF, ruleset, ALL_THREADS):
            return
        _checked(_syscall(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
        from runtime.worker.every_thread import call_in_others

        call_in_others(RESTRICT_SELF, ruleset)
    finally:
        os.close(ruleset)


def _ruleset(read: Iterable[Path], *handled: int) -> int:
    """Returns a new ruleset that refuses what is `handled`, files, network and scopes, except reading below `read`."""
    attributes = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = _checked(_syscall(CREATE_RULESET, attributes, len(attributes), 0), "landlock_create_ruleset")
    for path in read:
        _allow(ruleset, path, READ_FILE | READ_DIR)
    return ruleset


def _allow(ruleset: int, path: Path, rights: int) -> None:
    opened = os.open(path, O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= ~READ_DIR
        rule = struct.pack("=Qi", rights, opened)
        _checked(_syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
    finally:
        os.close(opened)


def _syscall(number: int, *arguments: object) -> int:
    return int(_LIBC.syscall(ctypes.c_long(number), *arguments))


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result
