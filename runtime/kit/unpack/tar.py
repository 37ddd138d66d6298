"""Reads a tar stream member by member: regular files and folders, nothing else, in bounded memory.

Python's `tarfile` is not used: its filters were bypassed again and again (CVE-2024-12718, CVE-2025-4138, -4330, -4435,
-4517), and it reads extension headers of any size into memory. KitOps packs nothing but files and folders either.
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from runtime.errors import UnsafeArchive
from runtime.kit.files import CHUNK_BYTES
from runtime.kit.unpack.tar_header import BLOCK, ZEROS, Header, parse_header, parse_records, record_size

MAX_EXTENSION_BYTES = 64 << 10

_FILE, _FOLDER = (b"0", b"\x00"), b"5"
_REFUSED = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device", b"6": "a FIFO",
    b"7": "a contiguous file", b"D": "a folder dump", b"K": "a long link name", b"M": "a continued file",
    b"S": "a sparse file", b"V": "a volume label", b"g": "a global PAX header",
}  # fmt: skip


class Member(NamedTuple):
    """A regular file or folder. `name` is as written, without the slash that ends a folder's; `size` is in bytes."""

    name: str
    is_folder: bool
    size: int


class TarReader:
    """Iterates over the members of one tar stream; `data()` yields the bytes of the member just yielded.

    `read(n)` returns at most n bytes, and none only at the end. `skip(n)`, if given, passes over n bytes at less cost.
    `content(n)`, if given, is read for the bytes of members in place of `read`.
    Raises UnsafeArchive, whose message begins with `subject`.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        subject: str,
        skip: Callable[[int], object] | None = None,
        content: Callable[[int], bytes] | None = None,
    ) -> None:
        self._read, self._skip, self._subject = read, skip, subject
        self._content = content or read
        self.offset = 0  # bytes from the stream's beginning to the next one that will be read
        self._left = 0  # bytes of the current member that were not read yet
        self._name = ""

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            self._name, self._left = member.name, member.size
            yield member
            self._pass(self._left + -member.size % BLOCK)
            self._left = 0

    def data(self) -> Iterator[bytes]:
        """Yields the current member's bytes, at most CHUNK_BYTES at a time."""
        while self._left:
            chunk = self._content(min(self._left, CHUNK_BYTES))
            if not chunk:
                raise self._refused(f"it ends in the middle of {self._name[:200]!r}")
            self._left -= len(chunk)
            self.offset += len(chunk)
            yield chunk

    def _next(self) -> Member | None:
        try:
            return self._read_member()
        except ValueError as problem:
            where = f", after {self._name[:200]!r}" if self._name else ""
            raise self._refused(f"{problem}{where}") from problem

    def _read_member(self) -> Member | None:
        records: dict[str, str] | None = None
        while (block := self._exactly(BLOCK)) != ZEROS:
            header = parse_header(block)
            if header.type not in (b"x", b"L"):
                return self._member(header, records or {})
            if records is not None:
                raise ValueError("two extension headers for one member")
            records = self._extension(header)
        if records is not None:
            raise ValueError("an extension header without a member")
        self._check_end()
        return None

    def _extension(self, header: Header) -> dict[str, str]:
        """Reads a PAX header or a GNU long name into records."""
        if header.size > MAX_EXTENSION_BYTES:
            raise ValueError(f"an extension header of {header.size} bytes, wanted at most {MAX_EXTENSION_BYTES}")
        data = self._exactly(header.size)
        self._pass(-header.size % BLOCK)
        if header.type == b"x":
            return parse_records(data)
        name = data.rstrip(b"\x00").decode("utf-8")
        if not name:
            raise ValueError("a long name that is empty")
        return {"path": name}

    def _member(self, header: Header, records: dict[str, str]) -> Member:
        name = records["path"] if "path" in records else header.name.decode("utf-8")
        size, is_folder = record_size(records, header.size), header.type == _FOLDER
        if not is_folder and header.type not in _FILE:
            what = _REFUSED.get(header.type, f"of the unknown type {header.type!r}")
            raise self._refused(f"member {name[:200]!r} is {what}; a kit has regular files and folders only")
        if is_folder and size:
            raise self._refused(f"folder {name[:200]!r} has a size, {size} bytes")
        return Member(name.removesuffix("/") if is_folder else name, is_folder, size)

    def _check_end(self) -> None:
        """Requires the second block of zeros, and nothing but zeros after it."""
        if self._exactly(BLOCK) != ZEROS:
            raise self._refused("there is data after the first block of its end mark")
        while chunk := self._read(CHUNK_BYTES):
            if chunk.count(0) != len(chunk):
                raise self._refused("there is data after its end mark")

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._read(size)
            if not piece:
                raise self._refused("it ends without an end mark")
            pieces.append(piece)
            size -= len(piece)
            self.offset += len(piece)
        return b"".join(pieces)

    def _pass(self, size: int) -> None:
        if self._skip is not None and size:
            self.offset += size
            self._skip(size)
            return
        while size:
            size -= len(self._exactly(min(size, CHUNK_BYTES)))

    def _refused(self, reason: str) -> UnsafeArchive:
        return UnsafeArchive(f"{self._subject} is not an archive that is safe to unpack: {reason}")
