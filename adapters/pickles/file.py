"""Pickle and joblib files as streams of known length, decompressed up to a limit that depends on the file's size."""

import bz2
import gzip
import io
import lzma
import mmap
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from adapters.base import LoadFailed
from adapters.pickles.head import BZ2, GZIP, LZ4, LZMA, ZLIB

PurePython: Any = vars(pickle)["_Unpickler"]
"""The standard library's unpickler in Python: private there, and the only one whose opcodes can be overridden."""
FREE_BYTES: Final = 64 * 1024 * 1024
RATIO: Final = 200
"""A compressed file may grow to FREE_BYTES, or to RATIO times its size if that is more."""
_LONG_BYTES: Final = 1024 * 1024
"""What is shorter is not worth a mapping."""
_ALIGNMENT: Final = 16
"""Where joblib's arrays begin, since 1.3; those that begin elsewhere are slow to calculate with."""


@contextmanager
def open_pickle(path: Path, name: str, *, mapped: bool = False) -> Iterator["Bounded"]:
    """Opens the pickle stream in the file at `path`, decompressed. With `mapped`, long arrays in a file that is not
    compressed stay there, and processes share them. Raises LoadFailed."""
    with path.open("rb") as raw:
        size = path.stat().st_size
        limit = max(FREE_BYTES, RATIO * size)
        head = raw.read(6)
        raw.seek(0)
        if head.startswith(LZ4):
            raise LoadFailed(f"{name} is compressed with lz4, which is not read; save it with compress=('zlib', 3)")
        try:
            expanded = _expanded(raw, head, limit)
        except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
            raise LoadFailed(f"{name} cannot be decompressed: {error}") from error
        if expanded is None:
            whole = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY) if mapped and size > _LONG_BYTES else None
            yield Bounded(raw, size, whole)
            return
    if len(expanded) > limit:
        raise LoadFailed(f"{name} ({size} bytes) grows past {RATIO} times its size when decompressed")
    yield Bounded(io.BytesIO(expanded), len(expanded))


def _expanded(raw: IO[bytes], head: bytes, limit: int) -> bytes | None:
    if head.startswith(ZLIB):
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(raw.read(), limit + 1)
        if not unpacker.eof and len(data) <= limit:
            raise EOFError("the compressed data ends too early")
        return data
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=raw).read(limit + 1)
    if head.startswith(BZ2):
        return bz2.BZ2File(raw).read(limit + 1)
    if head.startswith(LZMA):
        return lzma.LZMAFile(raw).read(limit + 1)
    return None


class Bounded:
    """A stream that knows its length, so that a length written in the file is compared before memory is allocated."""

    def __init__(self, stream: IO[bytes], size: int, whole: mmap.mmap | None = None) -> None:
        self._stream, self._size, self._whole = stream, size, whole
        self.left = size

    def read(self, count: int) -> bytes:
        """Returns exactly `count` bytes. Raises EOFError if fewer are left."""
        if not 0 <= count <= self.left:
            raise EOFError(f"{count} bytes are wanted where {self.left} are left")
        self.left -= count
        return self._stream.read(count)

    def memory(self, count: int) -> bytearray | memoryview:
        """Returns `count` bytes that may be written to; the file never changes. Raises EOFError if fewer are left."""
        at = self._size - self.left
        if self._whole is None or at % _ALIGNMENT or not _LONG_BYTES <= count <= self.left:
            return bytearray(self.read(count))
        self.left -= count
        self._stream.seek(at + count)
        return memoryview(self._whole)[at : at + count]

    def readline(self) -> bytes:
        """Returns the rest of the line, for the text opcodes of protocol 0."""
        line = self._stream.readline(self.left)
        self.left -= len(line)
        return line

    def readinto(self, buffer: bytearray) -> int:
        """Fills `buffer`."""
        buffer[:] = self.read(len(buffer))
        return len(buffer)
