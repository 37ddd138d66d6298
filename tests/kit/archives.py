"""Tar archives built byte by byte, so that they can be wrong in any way."""

import io
import tarfile
from collections.abc import Mapping

ZEROS = bytes(512)
END = ZEROS * 2
POSIX = b"ustar\x0000"
GNU = b"ustar  \x00"


def header(
    name: bytes | str = b"a",
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    magic: bytes = POSIX,
    prefix: bytes = b"",
    link: bytes = b"",
    mode: bytes = b"0000644\x00",
    checksum: bytes | None = None,
) -> bytes:
    """Make a header block; `size` may be the field itself, and so may `checksum`."""
    raw_name = name.encode() if isinstance(name, str) else name
    raw_size = size if isinstance(size, bytes) else b"%011o\x00" % size
    fields = [
        raw_name.ljust(100, b"\x00"), mode, b"0001750\x00", b"0000000\x00", raw_size, b"00000000000\x00", b" " * 8,
        kind, link.ljust(100, b"\x00"), magic, bytes(64), b"0000000\x00" * 2, prefix.ljust(155, b"\x00"), bytes(12),
    ]  # fmt: skip
    block = b"".join(fields)
    assert len(block) == 512
    total = b"%06o\x00 " % sum(block) if checksum is None else checksum
    return block[:148] + total + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes | str, data: bytes = b"x", **more: object) -> bytes:
    return header(name, len(data), **more) + padded(data)


def folder(name: bytes | str, **more: object) -> bytes:
    return header(name, 0, b"5", **more)


def records(values: Mapping[str, str | bytes]) -> bytes:
    """Encode PAX records."""
    return b"".join(
        record(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in values.items()
    )


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def pax(values: Mapping[str, str | bytes]) -> bytes:
    return extension(b"x", records(values))


def extension(kind: bytes, data: bytes) -> bytes:
    return header(b"././@x", len(data), kind) + padded(data)


def python_tar(members: Mapping[str, bytes | None], style: int = tarfile.PAX_FORMAT) -> bytes:
    """Make an archive as Python does; None is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for name, data in members.items():
            item = tarfile.TarInfo(name)
            if data is None:
                item.type = tarfile.DIRTYPE
            item.size = len(data or b"")
            archive.addfile(item, io.BytesIO(data or b""))
    return out.getvalue()


def with_checksums(data: bytes) -> bytes:
    """Mend the sums of all blocks that look like headers, so that changes get past that check."""
    blocks = [data[place : place + 512] for place in range(0, len(data), 512)]
    return b"".join(summed(block) if b"ustar" in block[250:270] and len(block) == 512 else block for block in blocks)


def summed(block: bytes) -> bytes:
    total = sum(block) - sum(block[148:156]) + 8 * 32
    return block[:148] + b"%06o\x00 " % total + block[156:]
