"""The listening sockets: one for each worker, all at one address, bound by the supervisor.

The kernel spreads connections over them (SO_REUSEPORT, socket(7)). What a worker does to its own socket
changes no other, and the supervisor has a copy of each: connections wait there while a lone worker is replaced.
"""

import errno
import fcntl
import os
import select
import shlex
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.errors import CannotListen

_BACKLOG: Final = 2048  # connections that wait while workers are replaced; capped at net.core.somaxconn
_UNIX: Final = "unix:"
_LONGEST_PATH: Final = 107
_MODE: Final = 0o660  # this user, and the group of the file, may connect to a Unix socket
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_SO_GET_FILTER: Final = 26
_TRY_SECONDS: Final = 0.25
_LOCK_SECONDS: Final = 2.0
_LOCK_TRY_SECONDS: Final = 0.01


class Listener(socket.socket):
    """A listening socket of the supervisor and of one worker. A Unix socket is the same for all workers."""

    file: tuple[Path, int, int] | None = None  # path, device and inode of a Unix socket's file

    def turn_away(self) -> None:
        """Lets no new client in; those in the backlog stay. To be called before the last one is accepted, or
        a client that connects between that and the close would lose a request.

        The file of a Unix socket is removed, if it is still this server's. At a TCP socket a SYN gets no
        answer; its sender tries again, and meets the closed port.
        """
        with suppress(OSError):  # a kernel without filters (gVisor) leaves a window of microseconds
            if self.file is None:
                from runtime.supervisor.syn_filter import turn_away

                turn_away(self)
            elif self.file == _identified(self.file[0]):
                self.file[0].unlink()


def listen(host: str, port: int, *, option: str = "--port") -> Listener:
    """Returns a socket that listens on `host` and `port` (0: any free one).

    `host` is a name or an address, IPv6 with or without brackets, or `unix:` and a path; `port` means nothing then.
    Raises CannotListen, which says why, and names the `option` to give.
    """
    path = _path(host)
    try:
        if path:
            return _listen_unix(path)
        found = socket.getaddrinfo(_bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return _bound(found[0], found[4], shared=False, listening=True)
    except (OSError, UnicodeError) as error:  # UnicodeError: getaddrinfo encodes names as IDNA
        reason = _reason(error, option, unix=path is not None)
        raise CannotListen(f"cannot listen on {place(host, port)}: {reason}") from error


def another(listener: Listener, *, listening: bool) -> Listener:
    """Returns one more socket at the address of `listener`; not `listening`, it gets no client yet. Raises OSError."""
    if listener.family == socket.AF_UNIX:
        other = listener.dup()
        other.file = listener.file
        return other
    return _bound(listener.family, listener.getsockname(), shared=True, listening=listening)


def afresh(listener: Listener) -> Listener:
    """Returns a new socket at the path of the Unix socket `listener`, which is spoilt for all. Raises OSError."""
    listener.turn_away()
    return _listen_unix(Path(listener.getsockname()))


def is_intact(listener: Listener) -> bool:
    """Returns True if a socket still listens and has no packet filter: a worker can change both."""
    import ctypes

    filters = ctypes.c_uint(0)  # asked for 0 instructions, the kernel says how many there are
    libc = ctypes.CDLL(None)
    libc.getsockopt(listener.fileno(), socket.SOL_SOCKET, _SO_GET_FILTER, None, ctypes.byref(filters))
    poll = select.poll()
    poll.register(listener, select.POLLRDHUP)  # a Unix socket that was shut down still listens, and refuses everybody
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return not filters.value and not poll.poll(0) and bool(listens)


def is_reachable(listener: Listener) -> bool:
    """Returns True if clients can connect to `listener`, the only socket that listens at its address."""
    if not is_intact(listener):
        return False
    listener.listen(_BACKLOG)  # a worker may have shortened the backlog
    waiting, most = queue(listener)
    if waiting >= most > 0:  # a full backlog answers no SYN; clients filled it, so they can connect
        return True
    with socket.socket(listener.family) as client:
        client.setblocking(False)
        failure = client.connect_ex(listener.getsockname())  # 0.0.0.0 and :: are this machine
        if listener.family == socket.AF_UNIX:
            return failure != errno.ECONNREFUSED
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        return bool(poll.poll(_TRY_SECONDS * 1000)) and not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def queue(listener: Listener) -> tuple[int, int]:
    """Returns the number of connections that wait to be accepted, and the most that may; 0 and 0 of a Unix socket."""
    if listener.family == socket.AF_UNIX:
        return 0, 0
    unacked, sacked = struct.unpack_from("II", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 24)
    return unacked, sacked  # what these fields of tcp_info mean for a socket that listens


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Returns a connection to the server on `host` and `port`; each step of it may take `seconds`. Raises OSError."""
    path = _path(host)
    if path is None:
        try:
            return socket.create_connection((_REACHABLE.get(_bare(host), _bare(host)), port), timeout=seconds)
        except UnicodeError:
            raise OSError("not a valid host name") from None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def place(host: str, port: int) -> str:
    """Returns `host` and `port` as they are named in a message."""
    return host if host.startswith(_UNIX) else f"{host} port {port}"


def url(listener: socket.socket) -> str:
    """Returns the address under which this machine reaches the listener; of a Unix socket, `unix:` and its path."""
    if listener.family == socket.AF_UNIX:
        return f"{_UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    reachable = _REACHABLE.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def address(listener: socket.socket) -> str:
    """Returns host and port of a TCP socket as clients of gRPC take them."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def curl_address(listener: socket.socket) -> str:
    """Returns what `curl` in a shell needs before the path of a URL."""
    if listener.family == socket.AF_UNIX:
        return f"--unix-socket {shlex.quote(listener.getsockname())} http://localhost"
    return shlex.quote(url(listener))


def _bound(family: int, address: tuple[object, ...], *, shared: bool, listening: bool) -> Listener:
    listener = Listener(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        listener.bind(address)
        if listening:
            listener.listen(_BACKLOG)
        # set before, two servers of the same user that start together would share the port, and the connections
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_unix(path: Path) -> Listener:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, str(path))
    folder, listener = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY), Listener(socket.AF_UNIX)
    try:
        _lock(folder)  # of several servers that start now, one takes the place of a dead one
        _remove_dead(path)
        os.fchmod(listener.fileno(), _MODE)  # bind gives this mode to the file, without what the umask forbids
        listener.bind(str(path))
        path.chmod(_MODE)
        listener.file = _identified(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def _lock(folder: int) -> None:
    """Locks a folder, and waits up to 2 seconds for it: others hold the lock for microseconds. Raises OSError."""
    ends = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise
            time.sleep(_LOCK_TRY_SECONDS)


def _remove_dead(path: Path) -> None:
    """Removes the file of a server that was killed: no process accepts there. If one does, `bind` raises."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # with a full backlog, a live server would keep it waiting
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            return
    if not path.is_socket():
        raise OSError(errno.EISDIR if path.is_dir() else errno.EEXIST, str(path))
    path.unlink()


def _identified(path: Path) -> tuple[Path, int, int]:
    found = path.lstat()
    return path, found.st_dev, found.st_ino


def _path(host: str) -> Path | None:
    if not host.startswith(_UNIX):
        return None
    # unlike Path.expanduser, it leaves the home of a user that does not exist as it is
    return Path(os.path.expanduser(host.removeprefix(_UNIX))).absolute()  # noqa: PTH111


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _reason(error: OSError | UnicodeError, option: str, *, unix: bool) -> str:
    if not isinstance(error, OSError):
        return "not a valid host name; give another --host"
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved; give another --host"
    reasons = {
        errno.EADDRINUSE: f"another program listens there; stop it, or give another {'path' if unix else option}",
        errno.EACCES: f"not allowed; give {'another path' if unix else f'a {option} of 1024 or above'}",
        errno.EADDRNOTAVAIL: "not an address of this machine; give another --host",
        errno.EEXIST: "what is there is no socket; remove it, or give another path",
        errno.EISDIR: "that is a folder; give the path of a socket in it",
        errno.ENAMETOOLONG: f"the path has more than {_LONGEST_PATH} bytes; give a shorter one",
        errno.EAGAIN: "another program has locked the folder; stop it, or give another path",
        errno.ENOENT: "there is no such folder; make it first",
    }
    return reasons.get(error.errno or 0) or error.strerror or str(error)
