"""One 512-byte block of a tar archive, and what PAX records say about the next one. Pure. Raises ValueError.

A strict subset of pax (ustar, PAX `path` and `size`) and of GNU tar (long names, base-256 sizes): what KitOps' packer,
Go's `archive/tar` and GNU tar write for regular files and folders. Everything else is refused, because archives lie by
what two readers understand differently. https://www.gnu.org/software/tar/manual/html_node/Standard.html
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06 (ustar), #tag_20_92_13_02 (pax)
"""

import re
from typing import NamedTuple

BLOCK = 512
ZEROS = bytes(BLOCK)
MAX_SIZE = 2**63 - 1

_MAGICS = {b"ustar\x0000": True, b"ustar  \x00": False, bytes(8): False}  # POSIX, GNU, V7: has it a prefix field?
_OCTAL = rb"[ ]*([0-7]+)[ \x00]*"
_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_DECIMAL = r"[0-9]{1,19}"


class Header(NamedTuple):
    """A header block: `name` as written, `type` as one byte, `size` in bytes."""

    name: bytes
    type: bytes
    size: int


def parse_header(block: bytes) -> Header:
    """Reads a header block and checks its sum."""
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("a header has a wrong checksum")
    has_prefix = _MAGICS.get(block[257:265])
    if has_prefix is None:
        raise ValueError(f"a header has the unknown format {block[257:265]!r}")
    name, prefix = block[0:100].partition(b"\x00")[0], block[345:500].partition(b"\x00")[0]
    return Header(prefix + b"/" + name if has_prefix and prefix else name, block[156:157], _number(block[124:136]))


def parse_records(data: bytes) -> dict[str, str]:
    """Reads PAX records, each `LENGTH KEY=VALUE` and a newline. A key may occur once."""
    records: dict[str, str] = {}
    end = 0
    while end < len(data):
        length = _RECORD_LENGTH.match(data, end)
        end += int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise ValueError("a PAX record has a length that does not fit")
        key, equals, value = data[length.end() : end - 1].partition(b"=")
        name = key.decode("utf-8")
        if not equals or not key or name in records:
            raise ValueError(f"the PAX record {name[:80]!r} has no value or occurs twice")
        records[name] = value.decode("utf-8") if name in ("path", "size", "hdrcharset") else ""
    if any(key.startswith("GNU.sparse.") for key in records):
        raise ValueError("it is a sparse file")
    if records.get("hdrcharset", "") not in ("", "ISO-IR 10646 2000 UTF-8"):
        raise ValueError("a PAX header has names in another encoding than UTF-8")
    if records.get("path") == "":
        raise ValueError("a PAX header has an empty path")
    return records


def record_size(records: dict[str, str], otherwise: int) -> int:
    """Returns the size that PAX records state, or `otherwise`."""
    text = records.get("size")
    if text is None:
        return otherwise
    if re.fullmatch(_DECIMAL, text) is None or int(text) > MAX_SIZE:
        raise ValueError(f"a PAX header has the size {text[:40]!r}")
    return int(text)


def _number(field: bytes) -> int:
    """Reads octal digits, or GNU's base 256 (the first bit is set, the second is the sign)."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise ValueError("a header has a negative number")
        value = int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
    else:
        match = re.fullmatch(_OCTAL, field)
        if match is None:
            raise ValueError(f"a header has {field!r} where a number belongs")
        value = int(match[1], 8)
    if value > MAX_SIZE:
        raise ValueError("a header has a number over 2^63-1")
    return value
