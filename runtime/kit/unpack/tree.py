"""One folder on disk, written or compared through descriptors: no path is joined and no link is followed.

Every component is opened inside the descriptor of the folder above it, with O_NOFOLLOW: whatever somebody plants beside
us, a name resolves to what we made or fails (the lexical checks of oras-go did not hold: CVE-2026-50163, -85731).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from runtime.errors import StorageFailed
from runtime.kit.format.folder_names import LOST_AND_FOUND
from runtime.kit.unpack.names import Names, Parts

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not make us wait
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Tree(Protocol):
    """What is done with the members of a kit, in turn. False: it is no use to go on."""

    def folder(self, parts: Parts) -> bool:
        """Take a folder that is new; those above it came before."""

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Take a file that is new, of `size` bytes where that is known."""


class _Folders:
    """Opens folders inside one root, and keeps the last one open: members of one folder follow each other."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER)
        self._parts: Parts = ()
        self._last = self._root

    def open(self, parts: Parts) -> int:
        """Give the descriptor of a folder, valid until the next call. Raises OSError."""
        if parts != self._parts:
            self._forget()
            opened = self._descend(parts)
            self._parts, self._last = parts, opened
        return self._last

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def _descend(self, parts: Parts) -> int:
        current = self._root
        for part in parts:
            try:
                below = os.open(part, _FOLDER, dir_fd=current)
            finally:
                if current != self._root:
                    os.close(current)
            current = below
        return current

    def _forget(self) -> None:
        if self._last != self._root:
            os.close(self._last)
        self._parts, self._last = (), self._root


class _OnFolders:
    """The common part of the two trees: a root that is open from `with` to its end."""

    def __init__(self, root: Path) -> None:
        self._folders = _Folders(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folders.close()


class WrittenTree(_OnFolders):
    """Writes members into an empty folder; files end up 0444, folders 0755. Raises StorageFailed.

    `way_out` is what can be done about a full disk, beside making room.
    """

    def __init__(self, root: Path, *, way_out: str = "set --cache-dir to another disk") -> None:
        self._root, self._way_out = root, way_out
        with self._storing((), None):
            super().__init__(root)

    def folder(self, parts: Parts) -> bool:
        """Make a folder."""
        with self._storing(parts, None):
            os.mkdir(parts[-1], 0o755, dir_fd=self._folders.open(parts[:-1]))
            os.fchmod(self._folders.open(parts), 0o755)  # whatever the umask is: a worker may be another user
        return True

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Write a file."""
        with self._storing(parts, size):
            descriptor = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._folders.open(parts[:-1]))
            with os.fdopen(descriptor, "wb") as file:
                self._check_room(descriptor, parts, size)
                file.writelines(chunks)  # one at a time, as they come
                os.fchmod(descriptor, 0o444)
        return True

    def _check_room(self, descriptor: int, parts: Parts, size: int | None) -> None:
        free = _free_bytes(descriptor)
        if size is not None and free is not None and size > free:
            raise self._full(parts, size, free)

    @contextlib.contextmanager
    def _storing(self, parts: Parts, size: int | None) -> Iterator[None]:
        """Turn the disk's refusals into one line."""
        try:
            yield
        except OSError as problem:
            if problem.errno in _FULL:
                raise self._full(parts, size, _free_bytes(self._root)) from problem
            name = "/".join(parts) or "the folder"
            raise StorageFailed(f"cannot write {name!r} in {self._root}: {problem.strerror}") from problem

    def _full(self, parts: Parts, size: int | None, free: int | None) -> StorageFailed:
        needs = "more room" if size is None else f"{size} bytes"
        left = "too few" if free is None else str(free)
        return StorageFailed(
            f"the disk is full: {'/'.join(parts)!r} needs {needs} in {self._root}, {left} bytes are free; "
            f"make room, or {self._way_out}"
        )


class ComparedTree(_OnFolders):
    """Compares members with a folder byte by byte; anything else than equal, links and extra files too, is False.

    Raises FileNotFoundError and other OSErrors where there is no such folder.
    """

    def folder(self, parts: Parts) -> bool:
        """Tell whether there is this folder."""
        try:
            self._folders.open(parts)
        except OSError:
            return False
        return True

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Tell whether there is this file with these bytes, and no other name for it."""
        try:
            descriptor = os.open(parts[-1], _OLD_FILE, dir_fd=self._folders.open(parts[:-1]))
            with os.fdopen(descriptor, "rb") as file:
                return _is_single(descriptor, size) and _holds(file, chunks)
        except OSError:
            return False

    def has_only(self, names: Names) -> bool:
        """Tell whether there is nothing but what came: `names`."""
        try:
            return self._has_only(names, ())
        except OSError:
            return False

    def _has_only(self, names: Names, parts: Parts) -> bool:
        wanted = names.inside(parts)
        with os.scandir(self._folders.open(parts)) as found:
            count = 0
            for item in found:
                count += 1
                if wanted.get(item.name) is not item.is_dir(follow_symlinks=False):
                    return False
        folders = [(*parts, name) for name, is_folder in wanted.items() if is_folder]
        return count == len(wanted) and all(self._has_only(names, below) for below in folders)


class FoundTree(_OnFolders):
    """Reads a folder as it is, whoever filled it. Raises OSError."""

    def members(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything in it that is no folder, by relative path; no link is followed.

        `lost+found` of a file system that begins here is left out where it may not be read.
        """
        waiting: list[Parts] = [()]
        while waiting:
            parts = waiting.pop()
            for name, status in self._inside(parts):
                below = (*parts, name)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(below)
                else:
                    yield "/".join(below), status

    def open(self, path: str) -> BinaryIO:
        """Open a file by its relative path; what it is has to be looked at: it may have been exchanged."""
        *above, name = path.split("/")
        return os.fdopen(os.open(name, _OLD_FILE, dir_fd=self._folders.open(tuple(above))), "rb", buffering=0)

    def _inside(self, parts: Parts) -> list[tuple[str, os.stat_result]]:
        try:
            folder = self._folders.open(parts)
            names = sorted(os.listdir(folder))  # noqa: PTH208 - by descriptor
            return [(name, os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]
        except PermissionError:
            if parts == (LOST_AND_FOUND,):
                return []
            raise


def _is_single(descriptor: int, size: int | None) -> bool:
    """Tell whether this is a regular file of `size` bytes that has one name only."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and size in (None, found.st_size)


def _holds(file: BinaryIO, chunks: Iterator[bytes]) -> bool:
    """Tell whether `file` has these bytes and no more."""
    return all(file.read(len(chunk)) == chunk for chunk in chunks) and file.read(1) == b""


def _free_bytes(where: int | Path) -> int | None:
    try:
        room = os.statvfs(where)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize
