"""Header compression (https://www.rfc-editor.org/rfc/rfc7541): reads all of it, writes only what needs no table.

Clients send the same block with every call of a kind once their table is filled. A block that changes no table means
what it meant before: it is looked up, not decoded.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from runtime.serving.http2.frames import COMPRESSION_ERROR, Broken
from runtime.serving.http2.huffman import decoded

T = TypeVar("T")
Header = tuple[bytes, bytes]

TABLE_BYTES: Final = 4096
ENTRY_BYTES: Final = 32
"""What a header takes beside its name and its value (RFC 7541, 4.1)."""
_MOST_KNOWN: Final = 32
_LONGEST_KNOWN: Final = 1024
_LARGEST: Final = 2**24
_STATIC: Final[tuple[Header, ...]] = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *((name, b"") for name in (
        b"accept-language", b"accept-ranges", b"accept", b"access-control-allow-origin", b"age", b"allow",
        b"authorization", b"cache-control", b"content-disposition", b"content-encoding", b"content-language",
        b"content-length", b"content-location", b"content-range", b"content-type", b"cookie", b"date", b"etag",
        b"expect", b"expires", b"from", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
        b"if-unmodified-since", b"last-modified", b"link", b"location", b"max-forwards", b"proxy-authenticate",
        b"proxy-authorization", b"range", b"referer", b"refresh", b"retry-after", b"server", b"set-cookie",
        b"strict-transport-security", b"transfer-encoding", b"user-agent", b"vary", b"via", b"www-authenticate")),
)  # fmt: skip
_NAMES: Final = {name: place for place, (name, _) in reversed(list(enumerate(_STATIC, 1)))}


class Decoder(Generic[T]):
    """One connection's table. `understand` makes something of a block's headers, None where they are too long."""

    def __init__(self, understand: Callable[[list[Header] | None], T], most_bytes: int) -> None:
        self._understand, self._most_bytes = understand, most_bytes
        self._table: deque[Header] = deque()
        self._table_bytes, self._table_most = 0, TABLE_BYTES
        self._known: dict[bytes, T] = {}
        self._changed = False
        """Whether the block that is being read changes the table."""

    def read(self, block: bytes) -> T:
        """Returns what `understand` makes of a whole block. Raises Broken."""
        known = self._known.get(block)
        if known is not None:
            return known
        self._changed = False
        try:
            headers = self._headers(block)
        except IndexError:
            raise _wrong("a block that ends too early") from None
        made = self._understand(headers)
        if self._changed:
            self._known.clear()
        elif len(block) <= _LONGEST_KNOWN and len(self._known) < _MOST_KNOWN:
            self._known[block] = made
        return made

    def _headers(self, block: bytes) -> list[Header] | None:
        headers, size, at = list[Header](), 0, 0
        while at < len(block):
            byte = block[at]
            if byte & 0x80:
                place, at = _integer(block, at, 7)
                header = self._at(place)
            elif byte & 0xE0 == 0x20:
                if headers:
                    raise _wrong("a new size of the table amid a block")
                most, at = _integer(block, at, 5)
                self._resize(most)
                continue
            else:
                header, at = self._literal(block, at)
            size += len(header[0]) + len(header[1]) + ENTRY_BYTES
            if size <= self._most_bytes:  # to the end in any case: what follows may change the table
                headers.append(header)
        return headers if size <= self._most_bytes else None

    def _literal(self, block: bytes, at: int) -> tuple[Header, int]:
        added = block[at] & 0x40
        place, at = _integer(block, at, 6 if added else 4)
        if place:
            name = self._at(place)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if added:
            self._add((name, value))
        return (name, value), at

    def _at(self, place: int) -> Header:
        if 0 < place <= len(_STATIC):
            return _STATIC[place - 1]
        place -= len(_STATIC) + 1
        if not 0 <= place < len(self._table):
            raise _wrong("a place that the table has not")
        return self._table[place]

    def _resize(self, most: int) -> None:
        if most > TABLE_BYTES:
            raise _wrong("a table larger than it may be")
        self._table_most, self._changed = most, True
        self._shrink()

    def _add(self, header: Header) -> None:
        self._changed = True
        self._table.appendleft(header)
        self._table_bytes += len(header[0]) + len(header[1]) + ENTRY_BYTES
        self._shrink()

    def _shrink(self) -> None:
        while self._table_bytes > self._table_most:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + ENTRY_BYTES


def encoded(*headers: Header) -> bytes:
    """Returns a block that changes no table: names by their static place where they have one, values as they are."""
    block = bytearray()
    for name, value in headers:
        if (name, value) in _STATIC:
            block.append(0x80 | _STATIC.index((name, value)) + 1)
            continue
        place = _NAMES.get(name, 0)
        block += _prefixed(place, 4, 0)
        if not place:
            block += _prefixed(len(name), 7, 0) + name
        block += _prefixed(len(value), 7, 0) + value
    return bytes(block)


def _prefixed(number: int, bits: int, flags: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes((flags | number,))
    written, number = bytearray((flags | most,)), number - most
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    number, at = block[at] & most, at + 1
    if number < most:
        return number, at
    place = 0
    while True:
        byte, at = block[at], at + 1
        number += (byte & 0x7F) << place
        place += 7
        if number > _LARGEST or place > 35:
            raise _wrong("a number that is too large")
        if byte < 0x80:
            return number, at


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    length, at = _integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise _wrong("a block that ends too early")
    text = decoded(block[at:end]) if coded else block[at:end]
    if text is None:
        raise _wrong("a string that is no Huffman code")
    return text, end


def _wrong(what: str) -> Broken:
    return Broken(COMPRESSION_ERROR, f"header compression: {what}")
