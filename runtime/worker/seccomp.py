"""System call filters: what a worker may no longer ask of the kernel (seccomp(2)), as small programs of classic BPF.

A list of what is refused, not of what is allowed: frameworks differ, and change. A refused call fails with EPERM;
no process is killed. Calls that are always allowed cost nothing: the kernel knows them by their numbers (Linux 5.11).
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

from runtime.worker.syscalls import (
    CHECKED,
    FILES,
    FIRST_UNKNOWN,
    KERNEL,
    MACHINE,
    MACHINES,
    OTHER_PROCESSES,
    SECCOMP,
    SOCKETS,
    Numbers,
)

Step = tuple[int, int, int, int]
"""An instruction: code, how many to skip if it is true, if it is false, and its constant (struct sock_filter)."""

_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, (16, 24, 32)  # offsets in struct seccomp_data, little-endian
_X32: Final = 0x40000000
_ALLOW: Final[Step] = (_RETURN, 0, 0, 0x7FFF0000)
_FAIL: Final[Step] = (_RETURN, 0, 0, 0x00050000 | errno.EPERM)
_NO_SUCH_CALL: Final[Step] = (_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)  # the caller then tries an older call
_STEERING: Final = (51, 52)  # SO_ATTACH_REUSEPORT_CBPF and _EBPF: which worker gets a connection
_FILTERING: Final = (26, 27, 44, 50)  # SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_LOCK_FILTER, SO_ATTACH_BPF
_OWNERS_AND_LEASES: Final = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
_IOCTLS: Final = (0x5412, 0x541C, 0x8901, 0x8902, 0x40086602, 0x401C5820)
"""TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP, FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR."""
_NEW_NAMESPACE: Final = 0x7E020000  # any CLONE_NEW…
_PAIR_KIND: Final = 0xF  # of a socket, without its flags
_BINDS_THREADS: Final = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def keep_to_itself() -> None:
    """Refuses what reaches into other processes, whatever the sandbox is. Raises OSError if there are no filters."""
    install([*_checked("prlimit64", _own_process()), *_checked("setsockopt", _no_option(_STEERING))])


def confine() -> None:
    """Refuses all that predicting does not need, for every thread.

    Raises OSError if there are no filters.
    """
    own, affinity = _own_process(), not any(os.environ.get(name) for name in _BINDS_THREADS)
    steps = [
        *_checked("fcntl", _argument_in(1, _OWNERS_AND_LEASES, _FAIL, _ALLOW)),
        *_checked("ioctl", _argument_in(1, _IOCTLS, _FAIL, _ALLOW)),
        *_checked("clone", [(_LOAD, 0, 0, _ARGUMENT[0]), (_IF_ANY_BIT, 0, 1, _NEW_NAMESPACE), _FAIL, _ALLOW]),
        *_checked("clone3", [_NO_SUCH_CALL]),  # its flags lie in memory, where a filter cannot look: clone is used
        *_checked("socketpair", [
            (_LOAD, 0, 0, _ARGUMENT[1]), (_AND, 0, 0, _PAIR_KIND), (_IF_EQUAL, 1, 0, socket.SOCK_STREAM),
            (_IF_EQUAL, 0, 1, socket.SOCK_SEQPACKET), _ALLOW, _FAIL,  # a datagram could be sent to any path
        ]),
    ]  # fmt: skip
    for name in ("kill", "tgkill"):  # 0 is a group of processes
        steps += _checked(name, _argument_in(0, (os.getpid(),), _ALLOW, _FAIL))
    for name in ("sched_setscheduler", "sched_setparam", "sched_setattr"):
        steps += _checked(name, own)
    if affinity:  # an operator who binds OpenMP's threads to cores names threads by their numbers
        steps += _checked("sched_setaffinity", own)
    steps += _checked("setsockopt", _no_option(_FILTERING))
    for table in (OTHER_PROCESSES, KERNEL, MACHINE, FILES, SOCKETS):
        steps += _refused(table)
    install(steps)


def install(steps: Iterable[Step]) -> None:
    """Has the kernel ask a filter before each call of any thread of this process. Raises OSError."""
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.EOPNOTSUPP, f"no system call filter is known for {os.uname().machine}")
    whole = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, machine.audit), _FAIL,  # others have other numbers
        (_LOAD, 0, 0, _NUMBER), (_IF_AT_LEAST, 0, 1, _X32), _FAIL,
        (_IF_AT_LEAST, 0, 1, FIRST_UNKNOWN), _NO_SUCH_CALL,
        *steps, _ALLOW,
    ]  # fmt: skip
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in whole))
    filter_ = ctypes.create_string_buffer(struct.pack("HP", len(whole), ctypes.addressof(program)))
    libc, number = ctypes.CDLL(None, use_errno=True), SECCOMP[machine.column] or 0
    if libc.syscall(ctypes.c_long(number), _SET_MODE_FILTER, _ALL_THREADS, filter_):
        code = ctypes.get_errno() or errno.EBUSY  # a positive result is the number of a thread with another filter
        raise OSError(code, f"no system call filter: {os.strerror(code)}")


def _refused(table: dict[str, Numbers]) -> list[Step]:
    column = _column()
    found = (numbers[column] for numbers in table.values())
    return [step for number in found if number is not None for step in ((_IF_EQUAL, 0, 1, number), _FAIL)]


def _checked(name: str, body: list[Step]) -> list[Step]:
    number = CHECKED[name][_column()]
    return [] if number is None else [(_IF_EQUAL, 0, len(body), number), *body]


def _own_process() -> list[Step]:
    return _argument_in(0, (0, os.getpid()), _ALLOW, _FAIL)


def _no_option(options: tuple[int, ...]) -> list[Step]:
    look = _argument_in(2, options, _FAIL, _ALLOW)
    return [(_LOAD, 0, 0, _ARGUMENT[1]), (_IF_EQUAL, 1, 0, socket.SOL_SOCKET), _ALLOW, *look]


def _argument_in(index: int, values: tuple[int, ...], then: Step, otherwise: Step) -> list[Step]:
    tests = [(_IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [(_LOAD, 0, 0, _ARGUMENT[index]), *tests, otherwise, then]


def _column() -> int:
    return MACHINES[os.uname().machine].column if os.uname().machine in MACHINES else 0
