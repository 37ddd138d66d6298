"""Pickle and joblib files as streams of known length, decompressed up to a limit that depends on the file's size."""

import bz2
import gzip
import io
import lzma
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from adapters.base import LoadFailed

PurePython: Any = vars(pickle)["_Unpickler"]
"""The standard library's unpickler in Python: private there, and the only one whose opcodes can be overridden."""
PROTOCOLS: Final = tuple(bytes([0x80, version]) for version in range(2, 6))
"""The opcode PROTO and a version: https://peps.python.org/pep-0307/, pep-3154 (version 4), pep-0574 (version 5)."""
TORCH_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginning of a file of torch.save before 1.6: also a pickle, but of the pytorch adapter."""
ZLIB: Final = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
GZIP: Final = b"\x1f\x8b"
BZ2: Final = b"BZh"
LZMA: Final = (b"\xfd7zXZ\x00", b"]\x00\x00")
LZ4: Final = b"\x04\x22\x4d\x18"
"""Compressed as joblib does it: https://github.com/joblib/joblib/blob/1.5.2/joblib/compressor.py"""
FREE_BYTES: Final = 64 * 1024 * 1024
RATIO: Final = 200
"""A compressed file may grow to FREE_BYTES, or to RATIO times its size if that is more."""


def looks_like_pickle(head: bytes) -> bool:
    """True if `head` begins a pickle of protocol 2 or later, compressed as joblib does it or not at all."""
    if head.startswith(TORCH_MAGIC):
        return False
    return head.startswith(PROTOCOLS) or _begins(head).startswith(PROTOCOLS)


def looks_like_skops(head: bytes) -> bool:
    """True if `head` begins a zip whose first member is one that skops writes: an array or the schema."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name == b"schema.json" or (name.endswith((b".npy", b".npz", b".bin")) and b"/" not in name)


def _begins(head: bytes) -> bytes:
    try:
        if head.startswith(ZLIB):
            return zlib.decompressobj().decompress(head, 2)
        if head.startswith(GZIP):
            return zlib.decompressobj(31).decompress(head, 2)
        if head.startswith(BZ2):
            return bz2.BZ2Decompressor().decompress(head, 2)
        if head.startswith(LZMA):
            return lzma.LZMADecompressor().decompress(head, 2)
    except (zlib.error, OSError, lzma.LZMAError):
        return b""
    return b""


@contextmanager
def open_pickle(path: Path, name: str) -> Iterator["Bounded"]:
    """Opens the pickle stream in the file at `path`, decompressed. Raises LoadFailed."""
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
            yield Bounded(raw, size)
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

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, count: int) -> bytes:
        """Returns exactly `count` bytes. Raises EOFError if fewer are left."""
        if not 0 <= count <= self.left:
            raise EOFError(f"{count} bytes are wanted where {self.left} are left")
        self.left -= count
        return self._stream.read(count)

    def readline(self) -> bytes:
        """Returns the rest of the line, for the text opcodes of protocol 0."""
        line = self._stream.readline(self.left)
        self.left -= len(line)
        return line

    def readinto(self, buffer: bytearray) -> int:
        """Fills `buffer`."""
        buffer[:] = self.read(len(buffer))
        return len(buffer)
