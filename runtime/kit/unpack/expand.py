"""The bytes inside a stored layer: as they are, or through gzip or zstd, counted against limits while they come.

https://www.rfc-editor.org/rfc/rfc1952, https://www.rfc-editor.org/rfc/rfc8878. zlib inflates gzip, since `kit pack`
does not compress by default: ISA-L, twice as fast, would be one more compiled dependency for few kits.
"""

import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

from runtime.errors import MissingPackage, UnsafeArchive, Unsupported
from runtime.kit.files import Check, Read
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.limits import UnpackLimits
from runtime.kit.lane import ahead

_INPUT_BYTES = 64 << 10
_BUFFER_BYTES = 256 << 10  # so that 512-byte headers do not each cost a call into zlib
_GZIP = 31  # zlib's name for "gzip header and trailer, checked"


class Budget:
    """Counts the expanded bytes and the archive members of all layers of one kit."""

    def __init__(self, limits: UnpackLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()  # layers are unpacked side by side
        self.left_bytes = limits.expanded_bytes
        self._left_members = limits.members

    def take_member(self, subject: str) -> None:
        """Counts one archive member. Raises UnsafeArchive if there are too many."""
        with self._lock:
            self._left_members -= 1
        if self._left_members < 0:
            raise UnsafeArchive(f"{subject} brings the kit to more than {self.limits.members} archive members")

    def take(self, size: int, subject: str) -> None:
        """Counts `size` bytes. Raises UnsafeArchive if there are too many."""
        with self._lock:
            self.left_bytes -= size
        self.check(0, subject)

    def check(self, size: int, subject: str) -> None:
        """Raises UnsafeArchive if `size` bytes more would be too many."""
        if size > self.left_bytes:
            limit = self.limits.expanded_bytes
            raise UnsafeArchive(f"{subject} expands the kit to more than {limit} bytes, the limit for what is unpacked")


def check_compression(compression: str, subject: str) -> None:
    """Raises Unsupported for a compression that cannot be read."""
    if compression in ("", "gzip"):
        return
    fix = "pack the kit again with --compression gzip or none"
    if compression != "zstd":
        raise Unsupported(f"{subject} is compressed with {compression}, which this version cannot read; {fix}")
    try:
        _zstd()
    except ImportError:
        needs = f"{subject} is compressed with zstd, which needs a package before Python 3.14"
        raise MissingPackage.of("zstd", needs, f", or {fix}") from None


@contextmanager
def expanded(
    read: Read, compression: str, budget: Budget, subject: str, check: Check, digest: DigestCheck | None
) -> Iterator["Expanded"]:
    """Yields what is inside a layer; what is compressed is inflated in a thread. Raises Unsupported."""
    check_compression(compression, subject)
    inflated = ahead(_Inflated(read, budget.limits, subject, compression).read) if compression else nullcontext(read)
    with inflated as source:
        yield Expanded(source, budget, subject, check, digest)


class Expanded:
    """Reads what is inside a layer, counts it and hands it to `digest`. `check` is called before each piece."""

    def __init__(self, source: Read, budget: Budget, subject: str, check: Check, digest: DigestCheck | None) -> None:
        self._source, self._budget, self._subject, self._check, self._digest = source, budget, subject, check, digest
        self._buffer, self._position = b"", 0

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, and none only at the end. Raises UnsafeArchive."""
        is_empty = self._position == len(self._buffer)
        if size >= _BUFFER_BYTES and is_empty:
            data = self._more(size)
        else:
            if is_empty:
                self._buffer, self._position = self._more(_BUFFER_BYTES), 0
            data = self._buffer[self._position : self._position + size]
            self._position += len(data)
        self._budget.take(len(data), self._subject)
        return data

    def _more(self, size: int) -> bytes:
        self._check()
        data = self._source(size)
        if self._digest is not None:
            self._digest.update(data)
        return data


class _Inflated:
    """A stream of gzip members or zstd frames, one after another, each with its checksum checked."""

    def __init__(self, read: Read, limits: UnpackLimits, subject: str, compression: str) -> None:
        self._read, self._limits, self._subject, self._kind = read, limits, subject, compression
        self._new = _Gzip if compression == "gzip" else _zstd().ZstdDecompressor
        self._damage = (zlib.error,) if compression == "gzip" else (_zstd().ZstdError,)
        self._inflate = self._new()
        self._input = b""
        self._taken_bytes = self._given_bytes = 0
        self._members = 1

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, and none only after the last member."""
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            if not self._input and self._inflate.needs_input:
                self._fill()
            if data := self._inflated(size):
                self._given_bytes += len(data)
                if self._given_bytes > max(self._limits.ratio_from_bytes, self._limits.ratio * self._taken_bytes):
                    most = f"{self._limits.ratio} times its size"
                    raise UnsafeArchive(f"{self._subject} expands to more than {most}: a {self._kind} bomb")
                return data

    def _inflated(self, size: int) -> bytes:
        has_ended = not self._input and self._inflate.needs_input
        try:
            data: bytes = self._inflate.decompress(self._input, size)
        except self._damage as problem:
            raise UnsafeArchive(f"{self._subject} has damaged {self._kind} data: {problem}") from problem
        self._input = b""
        if not data and has_ended and not self._inflate.eof:
            raise UnsafeArchive(f"{self._subject} has {self._kind} data that is cut off")
        return data

    def _next_member(self) -> bool:
        self._input = self._inflate.unused_data
        if not self._input:
            self._fill()
        if not self._input:
            return False
        self._inflate = self._new()
        self._members += 1
        if self._members > self._limits.gzip_members:
            raise UnsafeArchive(f"{self._subject} has more than {self._limits.gzip_members} {self._kind} members")
        return True

    def _fill(self) -> None:
        self._input = self._read(_INPUT_BYTES)
        self._taken_bytes += len(self._input)


class _Gzip:
    """zlib's decompressor, which keeps input that it has not used yet, as zstd's does."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP)

    @property
    def eof(self) -> bool:
        """Whether the member is at its end."""
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without input."""
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""
        return self._inner.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        """Returns at most `size` bytes."""
        return self._inner.decompress(self._inner.unconsumed_tail + data, size)


def _zstd() -> Any:
    """Returns the module for zstd: of Python 3.14, or of the package that brings it to others. Raises ImportError.

    https://peps.python.org/pep-0784/
    """
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
