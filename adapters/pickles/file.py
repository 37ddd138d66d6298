"""Pickle and joblib files as bounded streams: decompressed, never past what a file of that size may hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zlib
from pathlib import Path
from typing import IO, Any, Final

from adapters.base import LoadFailed

PurePython: Any = vars(pickle)["_Unpickler"]
"""The standard library's unpickler in Python: private there, and the only one whose every opcode can be narrowed."""
PROTOCOLS: Final = tuple(bytes([0x80, version]) for version in range(2, 6))
TORCH_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch.save wrote before 1.6: also a pickle, and not ours."""
ZLIB: Final = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
FREE_BYTES: Final = 64 * 1024 * 1024
RATIO: Final = 200
"""A compressed file may grow to FREE_BYTES, and past that to RATIO times its size."""


def looks_like_pickle(head: bytes) -> bool:
    """Whether `head` begins a pickle of protocol 2 or later, compressed as joblib does it or not at all."""
    if head.startswith(TORCH_MAGIC):
        return False
    return head.startswith(PROTOCOLS) or _begins(head).startswith(PROTOCOLS)


def looks_like_skops(head: bytes) -> bool:
    """Whether `head` begins a zip whose first member is one that skops writes: an array or the schema."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name == b"schema.json" or (name.endswith((b".npy", b".npz", b".bin")) and b"/" not in name)


def _begins(head: bytes) -> bytes:
    try:
        if head.startswith(ZLIB):
            return zlib.decompressobj().decompress(head, 2)
        if head.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(31).decompress(head, 2)
        if head.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(head, 2)
        if head.startswith((b"\xfd7zXZ\x00", b"]\x00\x00")):
            return lzma.LZMADecompressor().decompress(head, 2)
    except (zlib.error, OSError, lzma.LZMAError):
        return b""
    return b""


def open_pickle(path: Path, name: str) -> Bounded:
    """The pickle stream in the file at `path`, decompressed. Raises LoadFailed."""
    size = path.stat().st_size
    raw = path.open("rb")
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x04\x22\x4d\x18"):
        raw.close()
        raise LoadFailed(f"{name} is compressed with lz4, which is not read here; save it with compress=('zlib', 3)")
    try:
        expanded = _expanded(raw, head, max(FREE_BYTES, RATIO * size))
    except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
        raw.close()
        raise LoadFailed(f"{name} cannot be decompressed: {error}") from error
    if expanded is None:
        return Bounded(raw, size)
    raw.close()
    if len(expanded) > max(FREE_BYTES, RATIO * size):
        raise LoadFailed(f"{name} ({size} bytes) grows past {RATIO} times its size when decompressed")
    return Bounded(io.BytesIO(expanded), len(expanded))


def _expanded(raw: IO[bytes], head: bytes, limit: int) -> bytes | None:
    if head.startswith(ZLIB):
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(raw.read(), limit + 1)
        if not unpacker.eof and len(data) <= limit:
            raise EOFError("the compressed data ends too early")
        return data
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw).read(limit + 1)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw).read(limit + 1)
    if head.startswith((b"\xfd7zXZ\x00", b"]\x00\x00")):
        return lzma.LZMAFile(raw).read(limit + 1)
    return None


class Bounded:
    """A stream that knows how much it holds, so that a length written in a file is compared before memory is taken."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises EOFError when fewer are left."""
        if count > self.left:
            raise EOFError(f"{count} bytes are wanted where {self.left} are left")
        self.left -= count
        return self._stream.read(count)

    def readline(self) -> bytes:
        """The rest of the line, as the text opcodes of protocol 0 need it."""
        line = self._stream.readline(self.left)
        self.left -= len(line)
        return line

    def readinto(self, buffer: bytearray) -> int:
        """Fills `buffer`."""
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def close(self) -> None:
        """Closes the stream below."""
        self._stream.close()

    def __enter__(self) -> Bounded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
