"""A tar as a set of files that are read where they lie, without unpacking it."""

import io
import os
from typing import TYPE_CHECKING, BinaryIO

from runtime.errors import NotAModelKit, UnsafeArchive
from runtime.kit.unpack.tar import TarReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MAX_MEMBERS = 100_000
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz"}

Place = tuple[int, int]  # offset and size in bytes


def index_members(file: BinaryIO, subject: str) -> dict[str, Place]:
    """Returns where each regular file of a tar lies, by name without a leading "./".

    Raises UnsafeArchive if it holds anything else than files and folders, NotAModelKit if it is compressed.
    """
    if compression := _COMPRESSED.get(file.read(2)):
        raise NotAModelKit(f"{subject} is compressed with {compression}; decompress it first")
    file.seek(0)
    reader = TarReader(file.read, subject, skip=lambda size: file.seek(size, os.SEEK_CUR))
    members: dict[str, Place] = {}
    for number, member in enumerate(reader):
        if number >= _MAX_MEMBERS:
            raise UnsafeArchive(f"{subject} has more than {_MAX_MEMBERS} members")
        name = member.name.removeprefix("./")
        if name in members:
            raise UnsafeArchive(f"{subject} has the member {name[:200]!r} twice")
        if not member.is_folder:
            members[name] = (reader.offset, member.size)
    return members


def open_window(file: BinaryIO, offset: int, size: int) -> BinaryIO:
    """Returns `size` bytes of `file` from `offset` on as a file of their own, which closes `file` when it is closed."""
    return io.BufferedReader(_Window(file, offset, size), 64 << 10)


class _Window(io.RawIOBase):
    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._position = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        wanted = max(0, min(len(view), self._size - self._position))
        data = os.pread(self._file.fileno(), wanted, self._offset + self._position)  # whatever the file's own position
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
