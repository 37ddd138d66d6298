"""What a worker gives up beside files and calls: capabilities, and resources beyond its limits.

https://man7.org/linux/man-pages/man7/capabilities.7.html, getrlimit(2).
"""

import ctypes
import os
import resource
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 4, 24, 47, 4
_CAPABILITIES: Final = 64
_VERSION_3: Final = 0x20080522
_DAC_READ_SEARCH: Final = 2
_PROCESSES: Final = 4096  # threads are counted, too, and those of all processes of this user
_DESCRIPTORS: Final = 8192
_FILE_BYTES: Final = 2**30
_ROOM_BYTES: Final = 64 * 2**30
"""Address space beyond the machine's memory: what allocators and thread stacks reserve, and never use."""
_GPUS: Final = ("/dev/nvidiactl", "/dev/kfd")


def drop_capabilities(needed: Iterable[Path]) -> None:
    """Gives up every capability, for good, and closes this process's memory to others of its user.

    Root keeps the one that reads any file where something `needed` belongs to another user.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for capability in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    held = _held()
    _set_capabilities(libc, effective=0, permitted=held)
    kept = 0 if all(map(_is_own, needed)) else held & 1 << _DAC_READ_SEARCH
    _set_capabilities(libc, effective=kept, permitted=kept)


def limit_resources(memory_bytes: int, files: Iterable[int]) -> None:
    """Bounds processes, descriptors, memory (0: only addresses), and the size of files if none of `files` is one."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _DESCRIPTORS)
    _lower(resource.RLIMIT_NPROC, _PROCESSES)
    _lower(resource.RLIMIT_MSGQUEUE, 0)
    if not any(stat.S_ISREG(os.fstat(file).st_mode) for file in files):  # a log in a file has no last byte
        _lower(resource.RLIMIT_FSIZE, _FILE_BYTES)
    if memory_bytes:
        _lower(resource.RLIMIT_DATA, memory_bytes)
    if not any(map(os.path.exists, _GPUS)):  # CUDA reserves addresses for the memory of all devices
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        _lower(resource.RLIMIT_AS, (memory_bytes or machine) + _ROOM_BYTES)


def _lower(limit: int, most: int) -> None:
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        soft = resource.getrlimit(limit)[0]
        resource.setrlimit(limit, (most if soft == resource.RLIM_INFINITY else min(soft, most), most))


def _held() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/status").read_text().split("CapPrm:")[1].split()[0], 16)
    return 0


def _set_capabilities(libc: ctypes.CDLL, *, effective: int, permitted: int) -> None:
    words = [part >> shift & 0xFFFFFFFF for shift in (0, 32) for part in (effective, permitted, 0)]
    libc.capset(struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", *words))


def _is_own(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False
