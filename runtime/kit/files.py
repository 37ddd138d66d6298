"""Files on this machine: open, check, write, lock, measure, and who else may write them.

Whatever is at a path, opening it is safe: no link is followed, and a FIFO is not waited for.
"""

import errno
import fcntl
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, Self

from runtime.errors import Failure, StorageFailed
from runtime.kit.format.digest import DigestCheck

Check = Callable[[], None]  # called at every step of what takes long; may raise to give up
Read = Callable[[int], bytes]  # returns at most so many bytes, and none only at the end
CHUNK_BYTES: Final = 512 << 10
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PLAIN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOBODY: Final = "-"  # in place of the pid of a writer
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCK_PAUSE_SECONDS: Final = 0.05
_ABANDONED_SECONDS: Final = 3600.0
_SENT_BYTES: Final = 16 << 20  # of a new file, on their way to the disk while the next ones come


class NotPlain(OSError):
    """What is at a path is not a regular file. `strerror` is what it is: "is a symbolic link"."""


def open_plain(path: str | Path, *, dir_fd: int | None = None, follow: bool = False) -> BinaryIO:
    """Opens a regular file for reading, unbuffered; a symbolic link only with `follow`. Raises NotPlain, OSError."""
    try:
        fd = os.open(path, _PLAIN | (0 if follow else os.O_NOFOLLOW), dir_fd=dir_fd)
    except OSError as problem:
        kinds = {errno.ELOOP: "a symbolic link", errno.ENXIO: "not a regular file"}  # ENXIO: a socket
        if problem.errno in kinds:
            raise NotPlain(problem.errno, f"is {kinds[problem.errno]}") from problem
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotPlain(errno.EINVAL, "is not a regular file")
    return open(fd, "rb", buffering=0)  # noqa: PTH123 - by descriptor


@contextmanager
def reading(subject: str, not_plain: type[Failure] = StorageFailed, advice: str = "") -> Iterator[None]:
    """Turns NotPlain inside the block into `not_plain`, with `advice` at the end, and OSError into StorageFailed."""
    try:
        yield
    except NotPlain as problem:
        raise not_plain(f"{subject} {problem.strerror}{advice}") from problem
    except OSError as problem:
        raise StorageFailed(f"cannot read {subject}: {problem.strerror}") from problem


def read_checked(file: BinaryIO, check: DigestCheck, reached: Callable[[int], None]) -> BinaryIO:
    """Reads a file to its end through `check`; returns it at its beginning. `reached` gets each position.

    Raises SizeMismatch, DigestMismatch, OSError, and what `reached` raises; the file is closed then.
    """
    try:
        check.check_size(file.seek(0, os.SEEK_END))
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            check.update(chunk)
            reached(check.taken_bytes)
        check.finish()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


class NewFile:
    """A file that gets its name when it is whole, by one rename. Until then it is `beside`; unpublished, it is removed.

    Not if it is `resumable` then: the next one may begin with its bytes. Its temporary name says whose it is, and it is
    locked, so that `is_abandoned` can tell. Raises OSError.
    """

    resumable = False

    def __init__(self, target: Path, beside: Path) -> None:
        self._target, self._path = target, beside / temporary_name(target.name)
        self._fd = os.open(self._path, _NEW, 0o600)
        self._unsent_bytes = 0
        _try_lock(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            if self.resumable:
                self._path.rename(self._path.with_name(temporary_name(self._target.name, pid=_NOBODY)))
            else:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)

    def fileno(self) -> int:
        """Returns the descriptor of the open file, for those that write without `write`."""
        return self._fd

    def write(self, data: bytes | bytearray) -> None:
        """Appends `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._unsent_bytes += len(data)
        if self._unsent_bytes >= _SENT_BYTES:  # so that `publish` waits for the last ones only
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            os.posix_fadvise(self._fd, end - self._unsent_bytes, self._unsent_bytes, os.POSIX_FADV_DONTNEED)
            self._unsent_bytes = 0

    def publish(self, mode: int = 0o444) -> BinaryIO:
        """Gives the file its name; returns it, open at its beginning. A crash leaves the whole file or none."""
        os.fchmod(self._fd, mode)
        os.fsync(self._fd)
        self._path.rename(self._target)
        sync(self._target.parent)
        os.lseek(self._fd, 0, os.SEEK_SET)
        fd, self._fd = self._fd, -1
        return open(fd, "rb", buffering=0)  # noqa: PTH123 - by descriptor


def write_whole(target: Path, data: bytes | bytearray, *, beside: Path, mode: int = 0o444) -> None:
    """Writes a small file, or replaces it, as a whole. Raises OSError."""
    with NewFile(target, beside) as file:
        file.write(data)
        file.publish(mode).close()


def temporary_name(name: str, pid: object = None) -> str:
    """Returns a new name for something unfinished, with the pid of its writer, this process, and where pids count."""
    return f"{name}.{pid_space()}.{pid or os.getpid()}.{os.urandom(4).hex()}"


@cache
def pid_space() -> str:
    """Returns what differs between machines, boots and containers (pid namespaces), in all of which pids start anew.

    Where the kernel says neither, it differs between processes.
    """
    try:
        space = (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text()} {Path('/proc/self/ns/pid').stat().st_ino}".encode()
        )
    except OSError:
        space = os.urandom(16)
    return f"{zlib.crc32(space):08x}"


def is_abandoned(path: Path) -> bool:
    """Tells whether no process writes this file or folder any more: its lock is free, and its writer's pid unused.

    A pid of another container says nothing, and some file systems have no locks. Then it is abandoned an hour after it
    was last written, by the clock of its file system.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _try_lock(fd):
            return False
        *_, space, pid, _ = ("", "", *path.name.split("."))
        if space == pid_space() and not _is_running(pid):
            return True
        return _now(path.parent) - os.fstat(fd).st_mtime > _ABANDONED_SECONDS
    finally:
        os.close(fd)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:  # another user's
        pass
    return True


def _now(folder: Path) -> float:
    """Returns the time that a file gets which is written in this folder now: on a network disk, its server's."""
    path = folder / temporary_name("now")
    with open(path, "xb") as file:  # noqa: PTH123 - as a context
        path.unlink()
        return os.fstat(file.fileno()).st_mtime


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # 4 ms, which a start without leftovers need not spend

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: str | Path, *, dir_fd: int | None = None) -> None:
    """Makes the bytes of a file, or the names in a folder, survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """Opens a file for `locked`, and makes it if need be, or a folder. Raises OSError."""
    return os.open(path, _FOLDER) if path.is_dir() else os.open(path, _NEW & ~os.O_EXCL | os.O_NONBLOCK, 0o600)


@contextmanager
def locked(fd: int, check: Check, waits: Callable[[float], bool] = lambda seconds: True) -> Iterator[None]:
    """Holds the lock on an open file or folder, and closes it at the end. While it waits, `check` may raise to give up.

    `waits` gets the seconds of the wait so far, and returns whether to wait on; if not, the block runs without the
    lock. On a file system without locks there is no wait. https://man7.org/linux/man-pages/man2/flock.2.html
    """
    began = time.monotonic()
    try:
        while not _try_lock(fd) and waits(time.monotonic() - began):
            check()
            time.sleep(_LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    with suppress(OSError):  # some network file systems have no locks
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def free_bytes(path: Path) -> int:
    """Returns how many bytes may still be written at `path`, which need not exist yet. Raises OSError."""
    system = os.statvfs(next(folder for folder in (path, *path.parents) if folder.exists()))
    return system.f_bavail * system.f_frsize


def require_room(path: Path, wanted_bytes: int, needs: str, advice: str) -> None:
    """Refuses what cannot fit, before it is written. Raises StorageFailed, OSError."""
    if wanted_bytes > (free := free_bytes(path)):
        raise StorageFailed(f"folder {str(path)!r} has {free} bytes free, {needs} needs {wanted_bytes}; {advice}")


def volume_group(folder: os.stat_result) -> int | None:
    """Returns the group that may write everywhere on this setgid folder's volume, if this process is in it: fsGroup.

    https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
    """
    ours = folder.st_mode & stat.S_ISGID and folder.st_gid in {os.getegid(), *os.getgroups()}
    return folder.st_gid if ours else None


def who_else_writes(path: Path, status: os.stat_result, group: int | None) -> str | None:
    """Says who beside this process, root and the volume's `group` may change a file or folder, and what to do; or None.

    In a sticky folder (like /tmp) others can change only what is theirs. A volume of root's may be writable for
    everybody, as an emptyDir of Kubernetes is: who can write there is decided by who mounts it.
    """
    mode, us = stat.S_IMODE(status.st_mode), os.geteuid()
    if status.st_uid not in (us, 0):
        return f"belongs to user {status.st_uid}, wanted user {us} (this process) or root"
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder and mode & stat.S_ISVTX:
        return None
    if mode & stat.S_IWOTH and not (is_folder and status.st_uid == 0 and _is_volume(path)):
        return f"can be written by everybody (mode {mode:04o}): chmod go-w {path}"
    if mode & stat.S_IWGRP and not mode & stat.S_IWOTH and status.st_gid != group:
        return f"can be written by group {status.st_gid} (mode {mode:04o}): chmod g-w {path}"
    return None


def who_else_renames(folder: Path) -> str | None:
    """Says which folder above this one everybody may write into, and so exchange this one as a whole; or None."""
    with suppress(OSError):
        for above in folder.resolve().parents:
            status = above.stat()
            exposed = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
            if exposed and (why := who_else_writes(above, status, None)):
                return f"is in {above}, which {why}"
    return None


def _is_volume(path: Path) -> bool:
    """Tells whether something is mounted at `path`; `os.path.ismount` overlooks another folder of the same disk."""
    return _mount_id(path) != _mount_id(path / "..") or os.path.ismount(path)


def _mount_id(folder: Path) -> str:
    """Returns the line `mnt_id:`, "" if there is none. https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html"""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # also if this process may not list it
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return ""
    finally:
        os.close(fd)
    return next((line for line in lines if line.startswith("mnt_id:")), "")
