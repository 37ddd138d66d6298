"""One folder on disk, written, compared or read through descriptors: no path is joined and no link is followed.

Every component is opened inside the descriptor of the folder above it, with O_NOFOLLOW: whatever is put there
meanwhile, a name is what we made or cannot be opened (checks of the text alone failed in oras-go: CVE-2026-50163,
CVE-2026-85731).
"""

import contextlib
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from runtime.errors import StorageFailed
from runtime.kit.files import CHUNK_BYTES, NO_SPACE, free_bytes, open_plain, volume_group, who_else_writes
from runtime.kit.format.paths import LOST_AND_FOUND, Parts

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PACKED_BYTES = 16 << 10
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree(Protocol):
    """Receives a kit's files and folders in order. Returning False stops the walk."""

    def folder(self, parts: Parts) -> bool:
        """Receives a new folder, after those above it."""

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Receives a new file, with its size if that is known."""


class _Folders:
    """A root folder, open inside a `with`, and the folder used last, since members of one folder follow each other."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER)
        self._parts: Parts = ()
        self._last = self._root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_last()
        os.close(self._root)

    def _open(self, parts: Parts) -> int:
        """Returns the descriptor of a folder, valid until the next call. Raises OSError."""
        if parts != self._parts:
            above = self._parts
            if parts[: len(above)] != above:
                self._close_last()
                above = ()
            current, self._parts, self._last = self._last, (), self._root
            for part in parts[len(above) :]:
                try:
                    below = os.open(part, _FOLDER, dir_fd=current)
                finally:
                    if current != self._root:
                        os.close(current)
                current = below
            self._parts, self._last = parts, current
        return self._last

    def _close_last(self) -> None:
        if self._last != self._root:
            os.close(self._last)
        self._parts, self._last = (), self._root


class WrittenTree(_Folders):
    """Writes members into an empty folder; files end up 0444, folders 0755. Raises StorageFailed with `way_out`."""

    def __init__(self, root: Path, *, way_out: str = "set --cache-dir to another disk") -> None:
        self._path, self._way_out = root, way_out
        with self._storing((), None):
            super().__init__(root)

    def folder(self, parts: Parts) -> bool:
        """Makes a folder."""
        with self._storing(parts, None):
            os.mkdir(parts[-1], 0o755, dir_fd=self._open(parts[:-1]))
            os.fchmod(self._open(parts), 0o755)  # whatever the umask is: a worker may be another user
        return True

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Writes a file."""
        with self._storing(parts, size):
            descriptor = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._open(parts[:-1]))
            with os.fdopen(descriptor, "wb") as file:
                if size is not None and size > free_bytes(self._path):
                    raise self._full(parts, size)
                file.writelines(chunks)  # one at a time, as they come
                os.fchmod(descriptor, 0o444)
        return True

    @contextlib.contextmanager
    def _storing(self, parts: Parts, size: int | None) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if problem.errno in NO_SPACE:
                raise self._full(parts, size) from problem
            name = "/".join(parts) or "the folder"
            raise StorageFailed(f"cannot write {name!r} in {self._path}: {problem.strerror}") from problem

    def _full(self, parts: Parts, size: int | None) -> StorageFailed:
        needs = "more room" if size is None else f"{size} bytes"
        seen = f"{'/'.join(parts)!r} needs {needs} in {self._path}, {free_bytes(self._path)} bytes are free"
        return StorageFailed(f"the disk is full: {seen}; make room, or {self._way_out}")


class ComparedTree(_Folders):
    """Compares members with a folder, byte by byte. Raises OSError if there is none.

    A link counts as different, and so does what others could change after it was compared.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._path, self._group = root, volume_group(os.fstat(self._root))

    def folder(self, parts: Parts) -> bool:
        """Tells whether there is this folder."""
        with contextlib.suppress(OSError):
            self._open(parts)
            return True
        return False

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Tells whether there is this file, with these bytes and no second name."""
        with contextlib.suppress(OSError), open_plain(parts[-1], dir_fd=self._open(parts[:-1])) as file:
            found = os.fstat(file.fileno())
            if not self._is_exposed(parts, found) and found.st_nlink == 1 and size in (None, found.st_size):
                return self._has(file, chunks) and file.read(1) == b""
        return False

    def _has(self, file: BinaryIO, chunks: Iterator[bytes]) -> bool:
        return all(file.read(len(chunk)) == chunk for chunk in chunks)

    def has_only(self, folders: Mapping[Parts, bool]) -> bool:
        """Tells whether the folder holds just these names; the value says whether one is a folder."""
        with contextlib.suppress(OSError):
            found = [item for parts in ((), *folders) if folders.get(parts, True) for item in self._inside(parts)]
            return len(found) == len(folders) and all(folders.get(parts) is is_folder for parts, is_folder in found)
        return False

    def _inside(self, parts: Parts) -> list[tuple[Parts, bool]]:
        folder = self._open(parts)
        if self._is_exposed(parts, os.fstat(folder)):
            raise PermissionError
        with os.scandir(folder) as found:
            return [((*parts, item.name), item.is_dir(follow_symlinks=False)) for item in found]

    def _is_exposed(self, parts: Parts, status: os.stat_result) -> bool:
        return who_else_writes(self._path.joinpath(*parts), status, self._group) is not None


class RejoinedTree(ComparedTree):
    """Joins the files of one tar layer with its skeleton, the deflated bytes between them: `take` gets the layer again.

    Its digest says whether folder and skeleton are right. Neither is believed.
    """

    def __init__(self, root: Path, skeleton: bytes, take: Callable[[bytes], object]) -> None:
        super().__init__(root)
        self._pieces, self._piece, self._position = _inflated(skeleton), b"", 0
        self._take = take
        self._file: BinaryIO

    def structure(self, most: int) -> bytes:
        """Returns the next bytes of the skeleton."""
        if self._position == len(self._piece):
            self._piece, self._position = next(self._pieces, b""), 0
        data = self._piece[self._position : self._position + most]
        self._position += len(data)
        self._take(data)
        return data

    def content(self, most: int) -> bytes:
        """Returns the next bytes of the file that was received last."""
        data = self._file.read(most)
        self._take(data)
        return data

    def _has(self, file: BinaryIO, chunks: Iterator[bytes]) -> bool:
        self._file = file
        return all(chunks)  # none is empty


def _inflated(packed: bytes) -> Iterator[bytes]:
    """Yields what is inside, as far as it is right, a little at a time."""
    inflater = zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        for start in range(0, len(packed), _PACKED_BYTES):
            data = packed[start : start + _PACKED_BYTES]
            while data:
                if piece := inflater.decompress(data, CHUNK_BYTES):
                    yield piece
                data = inflater.unconsumed_tail


class FoundTree(_Folders):
    """Reads a folder as it is. Raises OSError."""

    def members(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yields everything in it, by relative path, itself first, as ".". No link is followed."""
        yield ".", os.fstat(self._root)
        waiting: list[Parts] = [()]
        while waiting:
            parts = waiting.pop()
            for name, status in self._inside(parts):
                below = (*parts, name)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(below)
                yield "/".join(below), status

    def stamp(self) -> str:
        """Returns what stays the same while nothing is written: of names, sizes, times, owners, modes and inodes."""
        hasher = hashlib.sha256()
        for path, status in sorted(self.members()):
            facts = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_uid, status.st_mode, status.st_ino
            hasher.update(f"{path!r} {facts}\n".encode())
        return hasher.hexdigest()

    def open(self, path: str) -> BinaryIO:
        """Opens a regular file by its relative path. Raises NotPlain."""
        *above, name = path.split("/")
        return open_plain(name, dir_fd=self._open(tuple(above)))

    def _inside(self, parts: Parts) -> list[tuple[str, os.stat_result]]:
        try:
            folder = self._open(parts)
            names = sorted(os.listdir(folder))  # noqa: PTH208 - by descriptor
            return [(name, os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]
        except PermissionError:
            if parts != (LOST_AND_FOUND,):  # where a file system begins here
                raise
            return []
