"""A process that enters the sandbox, narrows itself to one kit, and tries what a hostile model would.

Prints the level, and a JSON object: what each attempt met, from a thread that ran before the kit was known.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from runtime.worker.harden import narrow, shut_in
from runtime.worker.syscalls import CHECKED, KERNEL, MACHINES, OTHER_PROCESSES

kits, kit, other, outside = (Path(name) for name in sys.argv[1:5])
LIBC = ctypes.CDLL(None, use_errno=True)
COLUMN = MACHINES[os.uname().machine].column
PARENT = os.getppid()
OPEN = socket.socket(fileno=int(sys.argv[5]))  # a listener that it inherited


def call(table: dict[str, tuple[int | None, int | None]], name: str, *arguments: object) -> None:
    number = table[name][COLUMN]
    assert number is not None
    if LIBC.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def run_from_memory() -> None:
    file = os.memfd_create("program")
    os.write(file, Path(sys.executable).read_bytes()[:4096])
    os.execve(file, ["x"], {})


def send_to_a_path() -> None:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", str(outside / "socket"))


def signal_io() -> None:
    import fcntl

    fcntl.fcntl(OPEN, fcntl.F_SETOWN, PARENT)


def capabilities() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split()[1] for line in lines if line.startswith(("CapEff", "CapPrm", "CapBnd"))}
    if all(int(word, 16) == 0 for word in held) or os.getuid():
        raise PermissionError(errno.EPERM, "none")


def bounded(limit: int, most: int) -> Callable[[], None]:
    def look() -> None:
        if resource.getrlimit(limit)[1] != resource.RLIM_INFINITY and resource.getrlimit(limit)[1] <= most:
            raise PermissionError(errno.EPERM, "bounded")

    return look


ATTEMPTS: dict[str, Callable[[], object]] = {
    "another kit": lambda: (other / "model").read_bytes(),
    "list the cache": lambda: list(kits.iterdir()),
    "a file outside": lambda: (outside / "secret").read_bytes(),
    "/etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
    "the supervisor's environment": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    "change the kit": lambda: (kit / "model").open("r+b"),
    "write to the kit's folder": lambda: (kit / "new").write_bytes(b""),
    "write to /tmp": lambda: Path("/tmp/modelkit-sandboxed").write_bytes(b""),
    "mode": lambda: (outside / "secret").chmod(0o600),
    "owner": lambda: os.chown(outside / "secret", os.getuid(), os.getgid()),
    "times": lambda: os.utime(outside / "secret"),
    "attributes": lambda: os.setxattr(outside / "secret", "user.x", b"1"),
    "delete": lambda: (outside / "secret").unlink(),
    "rename": lambda: (outside / "secret").rename(outside / "other"),
    "truncate": lambda: os.truncate(outside / "secret", 0),
    "a program": lambda: os.execv(sys.executable, [sys.executable, "-c", "0"]),
    "a program in memory": run_from_memory,
    "TCP socket": lambda: socket.socket(),
    "UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "vsock": lambda: socket.socket(socket.AF_VSOCK),
    "datagram to a path": send_to_a_path,
    "connect an inherited socket": lambda: OPEN.connect(("127.0.0.1", 9)),
    "bind an inherited socket": lambda: OPEN.bind(("127.0.0.1", 0)),
    "filter an inherited socket": lambda: OPEN.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 0, 0)),
    "steer connections": lambda: OPEN.setsockopt(socket.SOL_SOCKET, 51, struct.pack("HP", 0, 0)),
    "own the signals of a socket": signal_io,
    "signal the supervisor": lambda: os.kill(PARENT, 0),
    "signal a group": lambda: os.kill(0, 0),
    "its limits": lambda: resource.prlimit(PARENT, resource.RLIMIT_CORE, (0, 0)),
    "its priority": lambda: os.setpriority(os.PRIO_PROCESS, PARENT, 0),
    "its cores": lambda: os.sched_setaffinity(PARENT, os.sched_getaffinity(0)),
    "its scheduler": lambda: os.sched_setscheduler(PARENT, os.SCHED_OTHER, os.sched_param(0)),
    "ptrace": lambda: call(OTHER_PROCESSES, "ptrace", 16, PARENT, 0, 0),
    "its memory": lambda: call(OTHER_PROCESSES, "process_vm_readv", PARENT, None, 0, None, 0, 0),
    "its descriptors": lambda: call(OTHER_PROCESSES, "pidfd_open", PARENT, 0),
    "shared memory": lambda: call(OTHER_PROCESSES, "shmget", 0, 4096, 0o1600),
    "new namespaces": lambda: call(CHECKED, "clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    **{name: lambda name=name: call(KERNEL, name, 0, 0, 0, 0, 0) for name, numbers in KERNEL.items() if numbers[COLUMN]},
    "capabilities": capabilities,
    "core dumps": bounded(resource.RLIMIT_CORE, 0),
    "processes": bounded(resource.RLIMIT_NPROC, 4096),
    "descriptors": bounded(resource.RLIMIT_NOFILE, 8192),
    "size of files": bounded(resource.RLIMIT_FSIZE, 2**30),
    "memory": bounded(resource.RLIMIT_DATA, 2**30),
    "a larger limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
}  # fmt: skip
"""What must fail, by what it is."""
ALLOWED: dict[str, Callable[[], object]] = {
    "the kit": lambda: (kit / "model").read_bytes(),
    "libraries": lambda: Path(os.__file__).read_bytes(),
    "/dev/null": lambda: Path(os.devnull).write_bytes(b"x"),
    "a thread": lambda: threading.Thread(target=int).start(),
    "a pair of sockets": lambda: socket.socketpair(),
    "listen": lambda: OPEN.listen(1),
    "its own cores": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "memory by a descriptor": lambda: os.close(os.memfd_create("x")),
}  # fmt: skip


def met(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except ValueError as error:  # of setrlimit
        return str(error)
    return "done"


begun, told = threading.Event(), threading.Event()
found: dict[str, str] = {}


def early() -> None:
    """Runs before the kit is known, in a thread that Landlock has to be told of."""
    begun.set()
    told.wait()
    found.update({name: met(attempt) for name, attempt in (ATTEMPTS | ALLOWED).items()})


level = shut_in("auto", str(kits), memory_bytes=2**30)
thread = threading.Thread(target=early)
thread.start()
begun.wait()
level = narrow(level, str(kit))
told.set()
thread.join()
sys.stdout.write(json.dumps({"level": level, "must": list(ATTEMPTS), "may": list(ALLOWED), "met": found}))
