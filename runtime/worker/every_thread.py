"""Has each thread of this process make one system call: Landlock binds a thread, and frameworks start theirs at import.

Linux 7.0 does it by itself (LANDLOCK_RESTRICT_SELF_TSYNC). Before, it takes what glibc does for setuid(2): a signal to
each thread in turn, whose handler makes the call. A handler may run in any thread at any time, so it cannot be Python:
it is a few instructions of machine code.
"""

import ctypes
import errno
import mmap
import os
import signal
import struct
import threading
import time
from typing import Final

_SIGNAL: Final = signal.SIGRTMAX
_THREAD_SECONDS: Final = 2.0  # for one thread to run its handler; a thread that blocks the signal never does
_LOOK_SECONDS: Final = 0.0002
_PROT_READ_EXEC: Final = mmap.PROT_READ | mmap.PROT_EXEC


def call_in_others(number: int, descriptor: int) -> None:
    """Has every other thread make the call `number` with `descriptor` and 0, those too that start meanwhile.

    Raises OSError where a thread does not do it, or where no machine code is known or allowed.
    """
    done, libc = ctypes.c_int(0), ctypes.CDLL(None, use_errno=True)
    code = _machine_code(number, descriptor, ctypes.addressof(done))
    libc.mmap.restype = libc.signal.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    page = libc.mmap(
        None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    ctypes.memmove(page, code, len(code))
    if libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, _PROT_READ_EXEC):
        raise OSError(ctypes.get_errno(), "no memory can be made executable")
    libc.signal(_SIGNAL, page)
    reached = {threading.get_native_id()}
    while others := {int(name) for name in os.listdir("/proc/self/task")} - reached:  # noqa: PTH208 - names only
        for thread in others:
            _one(libc, thread, done)
        reached |= others
    libc.signal(_SIGNAL, int(signal.SIG_IGN))
    libc.munmap(ctypes.c_void_p(page), mmap.PAGESIZE)


def _one(libc: ctypes.CDLL, thread: int, done: ctypes.c_int) -> None:
    before, ends = done.value, time.monotonic() + _THREAD_SECONDS
    if libc.tgkill(os.getpid(), thread, _SIGNAL):
        return  # it has ended
    while done.value == before:
        if not os.path.exists(f"/proc/self/task/{thread}"):  # noqa: PTH110 - asked often
            return
        if time.monotonic() > ends:
            raise OSError(errno.EBUSY, f"thread {thread} takes no signals")
        time.sleep(_LOOK_SECONDS)


def _machine_code(number: int, descriptor: int, counter: int) -> bytes:
    """Returns a function: makes the call, and if that returned 0, adds 1 to the int at `counter`."""
    match os.uname().machine:
        case "x86_64":
            return (
                b"\xb8" + struct.pack("<I", number)  # mov eax, number
                + b"\xbf" + struct.pack("<I", descriptor)  # mov edi, descriptor
                + b"\x31\xf6\x0f\x05"  # xor esi, esi; syscall
                + b"\x85\xc0\x75\x0d"  # test eax, eax; jnz to the ret
                + b"\x48\xb8" + struct.pack("<Q", counter) + b"\xf0\xff\x00"  # mov rax, counter; lock inc dword [rax]
                + b"\xc3"  # ret
            )  # fmt: skip
        case "aarch64":
            words = [
                0xD2800008 | number << 5, 0xD2800000 | descriptor << 5, 0xD2800001,  # mov x8, x0, x1
                0xD4000001, 0xB5000100,  # svc 0; cbnz x0 to the ret
                *(base | (counter >> shift & 0xFFFF) << 5  # mov x1, counter
                  for base, shift in ((0xD2800001, 0), (0xF2A00001, 16), (0xF2C00001, 32), (0xF2E00001, 48))),
                0xB9400022, 0x11000442, 0xB9000022,  # ldr w2, [x1]; add w2, w2, 1; str w2, [x1]
                0xD65F03C0,  # ret
            ]  # fmt: skip
            return struct.pack(f"<{len(words)}I", *words)
    raise OSError(errno.EOPNOTSUPP, f"no machine code is known for {os.uname().machine}")
