"""What a worker gives up before it imports anything large: new privileges, core dumps, life beyond its supervisor's.

And, by a filter of system calls (seccomp(2)), what reaches into other processes of the same user, and Landlock lets be:
their resource limits, and the choice of which worker gets a connection.
"""

import ctypes
import errno
import io
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_IOLBF: Final = 1  # line by line, in the C library's stdio.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 302, 54), "aarch64": (0xC00000B7, 261, 208)}
"""For each machine: AUDIT_ARCH_…, and the numbers of prlimit64 and setsockopt."""
_BINDING: Final = {"x86_64": (317, 49), "aarch64": (277, 200)}
"""For each machine: the numbers of seccomp and bind."""
_IO_URING_SETUP: Final = 425
_SET_MODE_FILTER, _TSYNC = 1, 1
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of classic BPF
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, (16, 24, 32)  # offsets in struct seccomp_data, little-endian
_SO_ATTACH_REUSEPORT_CBPF, _SO_ATTACH_REUSEPORT_EBPF = 51, 52
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM


def harden(supervisor: int) -> None:
    """Confines this process, a child of the process `supervisor`, and has it write each line when it ends: prctl(2).

    SIGTERM and SIGINT are ignored: a service manager may send them to every process at once, but when a worker
    stops is decided by its supervisor, which drains first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = libc.prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != supervisor:  # it ended before the line above could bind us to it
        os._exit(1)
    _filter_calls(prctl)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the model and requests
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    for stream in (sys.stdout, sys.stderr):  # pipes are buffered, and a worker ends without a flush
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)


def shut_in(mode: str, readable: str) -> str:
    """Confines this process to reading below `readable` and what its imports need; says how: `landlock-6`, `none: why`.

    It has to come before anything that starts a thread is imported; numpy is such a thing. `mode` may be `off`.
    """
    if mode == "off":
        return "off"
    from runtime.worker.confinement import confine, interpreter_paths

    try:
        abi = confine((*interpreter_paths(), Path(readable)))
    except OSError as error:
        return f"none: {error.strerror}"
    _forbid_binding()
    return f"landlock-{abi}"


def _forbid_binding() -> None:
    """Has this process bind no socket from now on, of whatever kind; io_uring could do it, too.

    A kernel without filters leaves it allowed. The filter of `harden` refuses calls of other architectures already."""
    if (machine := os.uname().machine) not in _BINDING:
        return
    seccomp, bind = _BINDING[machine]
    steps = (
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 2, 0, bind),
        (_IF_EQUAL, 1, 0, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL),
    )
    program, filter_ = _compiled(steps)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(seccomp), _SET_MODE_FILTER, _TSYNC, filter_)
    del program


def _compiled(steps: Sequence[tuple[int, int, int, int]]) -> tuple[object, ctypes.Array[ctypes.c_char]]:
    """Returns the program, to be kept until it is installed, and the struct sock_fprog that names it."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    return program, ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))


def _filter_calls(prctl: Callable[..., int]) -> None:
    """Refuses two calls for good, in this process and all it starts. A kernel without filters leaves them allowed."""
    if (machine := os.uname().machine) not in _ARCHITECTURES:
        return
    audit, prlimit64, setsockopt = _ARCHITECTURES[machine]
    steps = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 0, 13, audit),  # calls of another architecture have other numbers: FAIL
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 11, 0, 0x40000000),  # and those of the x32 ABI
        (_IF_EQUAL, 0, 3, prlimit64),
        (_LOAD, 0, 0, _ARGUMENT[0]),
        (_IF_EQUAL, 7, 0, 0),  # prlimit64(0, …) and its own number: ALLOW
        (_IF_EQUAL, 6, 7, os.getpid()),
        (_IF_EQUAL, 0, 5, setsockopt),
        (_LOAD, 0, 0, _ARGUMENT[1]),
        (_IF_EQUAL, 0, 3, socket.SOL_SOCKET),
        (_LOAD, 0, 0, _ARGUMENT[2]),
        (_IF_EQUAL, 2, 0, _SO_ATTACH_REUSEPORT_CBPF),
        (_IF_EQUAL, 1, 0, _SO_ATTACH_REUSEPORT_EBPF),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL),
    )
    program, filter_ = _compiled(steps)
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0)
    del program
