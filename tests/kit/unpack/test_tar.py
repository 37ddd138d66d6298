import io
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UnsafeArchive
from runtime.kit.unpack.tar import Member, TarReader
from tests.kit.archives import END, GNU, ZEROS, extension, file, folder, header, padded, pax, python_tar, records

LONG = "/".join(["long" * 20] * 6)


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data).read, "it")
    return [(member, b"".join(reader.data())) for member in reader]


MEMBERS = {"a": None, "a/b.txt": b"b", "empty": b"", "naïve ünïcode": b"12", LONG: b"x" * 1000, "block": b"y" * 512}


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_what_python_writes_is_read(style: int) -> None:
    found = read(python_tar(MEMBERS, style))
    assert {member.name: None if member.is_folder else data for member, data in found} == MEMBERS


GOOD = {
    "nothing": (END, []),
    "more-zeros": (END + ZEROS * 18, []),
    "old-type": (file("a", kind=b"\x00") + END, [("a", b"x")]),
    "v7": (file("a", magic=bytes(8)) + END, [("a", b"x")]),
    "gnu": (file("a", magic=GNU, prefix=b"not a prefix") + END, [("a", b"x")]),
    "prefix": (file("b", prefix=b"a") + END, [("a/b", b"x")]),
    "full-name": (file("n" * 100) + END, [("n" * 100, b"x")]),
    "folder-slash": (folder("a/") + END, [("a", b"")]),
    "folder-no-slash": (folder("a") + END, [("a", b"")]),
    "spaces-in-size": (header("a", b"        1 \x00\x00") + b"x".ljust(512, b"\x00") + END, [("a", b"x")]),
    "base-256": (header("a", b"\x80" + bytes(10) + b"\x01") + b"x".ljust(512, b"\x00") + END, [("a", b"x")]),
    "pax-path": (pax({"path": "é/ü"}) + file("x") + END, [("é/ü", b"x")]),
    "pax-size": (pax({"size": "3"}) + header("a", 0) + b"abc".ljust(512, b"\x00") + END, [("a", b"abc")]),
    "pax-others": (pax({"mtime": "1.5", "SCHILY.xattr.user.x": b"\xff"}) + file("a") + END, [("a", b"x")]),
    "gnu-long-name": (extension(b"L", b"n" * 300 + b"\x00") + file("n" * 100) + END, [("n" * 300, b"x")]),
}


@pytest.mark.parametrize(("data", "expected"), GOOD.values(), ids=GOOD.keys())
def test_the_forms_that_packers_write_are_read(data: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert [(member.name, content) for member, content in read(data)] == expected


def test_data_may_be_left_alone() -> None:
    data = file("a", b"1" * 3000) + file("b", b"2" * 3000) + END
    assert [member.name for member in TarReader(io.BytesIO(data).read, "it")] == ["a", "b"]


def test_data_may_come_in_pieces_of_any_size() -> None:
    stream = io.BytesIO(python_tar(MEMBERS))
    reader = TarReader(lambda size: stream.read(min(size, 7)), "it")
    assert {member.name: b"".join(reader.data()) for member in reader} == {k: v or b"" for k, v in MEMBERS.items()}


ONLY = "a kit has regular files and folders only"
REFUSED = {
    "hard-link": (header("a", kind=b"1", link=b"b") + END, f"member 'a' is a hard link; {ONLY}"),
    "symbolic-link": (header("a", kind=b"2", link=b"/etc") + END, f"member 'a' is a symbolic link; {ONLY}"),
    "character-device": (header("a", kind=b"3") + END, f"member 'a' is a character device; {ONLY}"),
    "block-device": (header("a", kind=b"4") + END, f"member 'a' is a block device; {ONLY}"),
    "fifo": (header("a", kind=b"6") + END, f"member 'a' is a FIFO; {ONLY}"),
    "contiguous": (header("a", kind=b"7") + END, f"member 'a' is a contiguous file; {ONLY}"),
    "gnu-sparse": (header("a", kind=b"S") + END, f"member 'a' is a sparse file; {ONLY}"),
    "gnu-dump": (header("a", kind=b"D") + END, f"member 'a' is a folder dump; {ONLY}"),
    "gnu-volume": (header("a", kind=b"V") + END, f"member 'a' is a volume label; {ONLY}"),
    "gnu-continued": (header("a", kind=b"M") + END, f"member 'a' is a continued file; {ONLY}"),
    "gnu-long-link": (extension(b"K", b"b\x00") + END, f"member '././@x' is a long link name; {ONLY}"),
    "pax-global": (extension(b"g", records({"path": "x"})) + END, f"member '././@x' is a global PAX header; {ONLY}"),
    "solaris": (header("a", kind=b"X") + END, f"member 'a' is of the unknown type b'X'; {ONLY}"),
    "unknown-type": (header("a", kind=b"\xff") + END, f"member 'a' is of the unknown type b'\\xff'; {ONLY}"),
    "pax-sparse": (pax({"GNU.sparse.major": "1"}) + file("a") + END, "it is a sparse file"),
    "pax-sparse-map": (pax({"GNU.sparse.map": "0,1"}) + file("a") + END, "it is a sparse file"),
    "pax-charset": (
        pax({"hdrcharset": "BINARY"}) + file("a") + END,
        "a PAX header has names in another encoding than UTF-8",
    ),
    "pax-empty-path": (pax({"path": ""}) + file("a") + END, "a PAX header has an empty path"),
    "pax-negative-size": (pax({"size": "-1"}) + file("a") + END, "a PAX header has the size '-1'"),
    "pax-text-size": (pax({"size": "1_0"}) + file("a") + END, "a PAX header has the size '1_0'"),
    "pax-other-digits": (pax({"size": "٣"}) + file("a") + END, "a PAX header has the size '٣'"),
    "pax-huge-size": (pax({"size": "9" * 19}) + file("a") + END, "a PAX header has the size '9999999999999999999'"),
    "pax-repeated": (
        extension(b"x", records({"path": "a"}) * 2) + file("a") + END,
        "the PAX record 'path' has no value or occurs twice",
    ),
    "pax-no-value": (
        extension(b"x", b"7 path\n") + file("a") + END,
        "the PAX record 'path' has no value or occurs twice",
    ),
    "pax-no-key": (extension(b"x", b"6 =ab\n") + file("a") + END, "the PAX record '' has no value or occurs twice"),
    "pax-long-length": (
        extension(b"x", b"99 path=a\n") + file("a") + END,
        "a PAX record has a length that does not fit",
    ),
    "pax-short-length": (
        extension(b"x", b"3 path=a\n") + file("a") + END,
        "a PAX record has a length that does not fit",
    ),
    "pax-zero-length": (
        extension(b"x", b"0 path=a\n") + file("a") + END,
        "a PAX record has a length that does not fit",
    ),
    "pax-negative-length": (
        extension(b"x", b"-9 path=a\n") + file("a") + END,
        "a PAX record has a length that does not fit",
    ),
    "pax-no-length": (extension(b"x", b"path=a\n") + file("a") + END, "a PAX record has a length that does not fit"),
    "pax-no-newline": (extension(b"x", b"9 path=abc") + file("a") + END, "a PAX record has a length that does not fit"),
    "pax-big": (
        extension(b"x", records({"comment": "c" * (64 << 10)})) + file("a") + END,
        "an extension header of 65551 bytes, wanted at most 65536",
    ),
    "long-name-big": (
        extension(b"L", b"n" * 65537) + file("a") + END,
        "an extension header of 65537 bytes, wanted at most 65536",
    ),
    "long-name-empty": (extension(b"L", b"\x00") + file("a") + END, "a long name that is empty"),
    "two-extensions": (pax({"path": "a"}) * 2 + file("a") + END, "two extension headers for one member"),
    "two-kinds": (
        pax({"path": "a"}) + extension(b"L", b"b\x00") + file("a") + END,
        "two extension headers for one member",
    ),
    "extension-alone": (pax({"path": "a"}) + END, "an extension header without a member"),
    "folder-with-size": (header("a", 1, b"5") + padded(b"x") + END, "folder 'a' has a size, 1 bytes"),
    "checksum": (header("a", checksum=b"000000\x00 ") + END, "a header has a wrong checksum"),
    "checksum-text": (
        header("a", checksum=b"chksum\x00 ") + END,
        "a header has b'chksum\\x00 ' where a number belongs",
    ),
    "size-negative": (header("a", b"\xff" * 12) + END, "a header has a negative number"),
    "size-minus": (header("a", b"-0000000001\x00") + END, "a header has b'-0000000001\\x00' where a number belongs"),
    "size-decimal": (header("a", b"00000000009\x00") + END, "a header has b'00000000009\\x00' where a number belongs"),
    "size-empty": (header("a", bytes(12)) + END, f"a header has {bytes(12)!r} where a number belongs"),
    "size-hidden": (
        header("a", b"1\x0000000001\x00\x00") + END,
        "a header has b'1\\x0000000001\\x00\\x00' where a number belongs",
    ),
    "size-huge": (header("a", b"\xbf" + b"\xff" * 11) + END, "a header has a number over 2^63-1"),
    "magic": (header("a", magic=b"ustar\x0099") + END, "a header has the unknown format b'ustar\\x0099'"),
    "not-utf-8": (file(b"\xff") + END, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "surrogate": (
        file(b"\xed\xa0\x80") + END,
        "'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte",
    ),
    "pax-not-utf-8": (
        pax({"path": b"\xff"}) + file("a") + END,
        "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    ),
    "empty": (b"", "it ends without an end mark"),
    "no-end": (file("a"), "it ends without an end mark"),
    "half-an-end": (file("a") + ZEROS, "it ends without an end mark"),
    "cut-header": (header("a")[:300], "it ends without an end mark"),
    "cut-data": (header("a", 5000) + b"x" * 100, "it ends in the middle of 'a'"),
    "cut-padding": (header("a", 1) + b"x", "it ends without an end mark"),
    "lying-size": (header("a", 8**11 - 1) + b"x" * 512 + END, "it ends in the middle of 'a'"),
    "after-half-an-end": (
        ZEROS + file("a") + END,
        "there is data after the first block of its end mark",
    ),
    "data-after-end": (file("a") + END + b"x", "there is data after its end mark"),
    "second-archive": (file("a") + END + file("b") + END, "there is data after its end mark"),
    "not-a-tar": (b"hello" * 200, "a header has b'lohelloh' where a number belongs"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), f"a header has {bytes(8)!r} where a number belongs"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnsafeArchive) as caught:
        read(data)
    assert str(caught.value) == f"it is not an archive that is safe to unpack: {reason}"


def test_a_refusal_says_after_which_member() -> None:
    with pytest.raises(UnsafeArchive) as caught:
        read(file("fine.txt") + header("a", checksum=b"000000\x00 ") + END)
    assert str(caught.value).endswith("a header has a wrong checksum, after 'fine.txt'")


def giant_extension(size: int) -> Callable[[int], bytes]:
    """Give an archive whose first header promises `size` bytes of extension, made while it is read."""
    first = io.BytesIO(header("x", b"\x80" + size.to_bytes(11, "big"), b"x"))
    return lambda wanted: first.read(wanted) or b"9" * wanted


@pytest.mark.parametrize("size", [(64 << 10) + 1, 1 << 30, 1 << 60], ids=["one-too-many", "1-GiB", "1-EiB"])
def test_a_giant_extension_header_costs_no_memory(size: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeArchive, match="an extension header of"):
            list(TarReader(giant_extension(size), "it"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_giant_member_is_read_in_small_pieces() -> None:
    first = io.BytesIO(header("big", b"\x80" + (1 << 40).to_bytes(11, "big")))
    reader = TarReader(lambda wanted: first.read(wanted) or bytes(wanted), "it")
    assert next(iter(reader)).size == 1 << 40
    assert max(len(chunk) for _, chunk in zip(range(8), reader.data(), strict=False)) <= 1 << 20


@pytest.mark.slow
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(python_tar(MEMBERS, data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        try:
            found = read(damaged)
        except UnsafeArchive:
            continue
        assert all(len(content) == member.size for member, content in found)


@given(st.binary(max_size=2048))
def test_bytes_that_are_no_archive_are_refused(data: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        read(data + b"x")
