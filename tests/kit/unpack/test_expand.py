import gzip
import io
import sys
import zlib
from contextlib import AbstractContextManager
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.imports import how_to_install
from runtime.errors import UnsafeArchive, Unsupported
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.limits import UnpackLimits
from runtime.kit.unpack.expand import Budget, Expanded, expanded

DATA = b"".join(b"%d," % number for number in range(200_000))  # 1.3 MB


def content_of(
    stored: bytes, compression: str, budget: Budget, digest: DigestCheck | None = None
) -> AbstractContextManager[Expanded]:
    return expanded(io.BytesIO(stored).read, compression, budget, "it", lambda: None, digest)


def expand(stored: bytes, compression: str = "gzip", step: int = 1 << 20, **limits: int) -> bytes:
    pieces = []
    with content_of(stored, compression, Budget(UnpackLimits(**limits))) as content:
        while piece := content.read(step):
            assert len(piece) <= step
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1, 512, 4096, 1 << 20])
def test_what_was_compressed_comes_back(step: int) -> None:
    data = DATA if step > 1 else DATA[:3000]
    assert expand(data, "", step) == data
    assert expand(gzip.compress(data), step=step) == data


def test_several_gzip_members_are_one_stream() -> None:
    assert expand(gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(DATA)) == b"a" + DATA


def test_many_small_gzip_members_are_one_stream() -> None:
    assert expand(gzip.compress(b"ab") * 10_000) == b"ab" * 10_000


@given(st.binary(max_size=300), st.integers(0, 9), st.integers(1, 64))
def test_any_bytes_come_back(data: bytes, level: int, step: int) -> None:
    assert expand(gzip.compress(data, level), step=step) == data


GOOD = gzip.compress(DATA, 1)
DAMAGED = {
    "empty": (b"", "it has gzip data that is cut off"),
    "cut-header": (GOOD[:5], "it has gzip data that is cut off"),
    "cut-data": (GOOD[: len(GOOD) // 2], "it has gzip data that is cut off"),
    "cut-trailer": (GOOD[:-1], "it has gzip data that is cut off"),
    "not-gzip": (b"hello", "it has damaged gzip data: Error -3 while decompressing data: incorrect header check"),
    "zlib": (
        zlib.compress(b"data"),
        "it has damaged gzip data: Error -3 while decompressing data: incorrect header check",
    ),
    "junk": (GOOD + b"junk", "it has damaged gzip data: Error -3 while decompressing data: incorrect header check"),
    "zeros": (GOOD + bytes(512), "it has damaged gzip data: Error -3 while decompressing data: incorrect header check"),
    "cut-second": (GOOD + GOOD[:20], "it has gzip data that is cut off"),
    "checksum": (
        GOOD[:-8] + bytes(4) + GOOD[-4:],
        "it has damaged gzip data: Error -3 while decompressing data: incorrect data check",
    ),
    "length": (
        GOOD[:-4] + bytes(4),
        "it has damaged gzip data: Error -3 while decompressing data: incorrect length check",
    ),
}


@pytest.mark.parametrize(("stored", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_gzip_is_refused(stored: bytes, message: str) -> None:
    with pytest.raises(UnsafeArchive) as caught:
        expand(stored)
    assert str(caught.value) == message


def test_45_a_gzip_bomb_is_stopped_by_its_ratio() -> None:
    stored = gzip.compress(bytes(10 << 20))
    assert len(expand(stored)) == 10 << 20  # under 64 MiB nobody minds
    with pytest.raises(UnsafeArchive) as caught:
        expand(stored, ratio_from_bytes=1 << 20)
    assert str(caught.value) == "it expands to more than 200 times its size: a gzip bomb"


def test_expanded_bytes_are_limited_over_all_layers() -> None:
    budget = Budget(UnpackLimits(expanded_bytes=100))
    with content_of(bytes(60), "", budget) as first:
        first.read(1000)
    with content_of(bytes(60), "", budget) as second, pytest.raises(UnsafeArchive) as caught:
        second.read(1000)
    assert str(caught.value) == "it expands the kit to more than 100 bytes, the limit for what is unpacked"


def test_gzip_members_are_limited() -> None:
    with pytest.raises(UnsafeArchive, match="it has more than 50 gzip members"):
        expand(gzip.compress(b"") * 60, gzip_members=50)


def test_without_its_package_zstd_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("runtime.kit.unpack.expand.import_module", missing)
    with pytest.raises(Unsupported) as caught:
        expand(b"", "zstd")
    assert str(caught.value) == (
        "it is compressed with zstd, which needs a package before Python 3.14: "
        f"{how_to_install('zstd')}, or pack the kit again with --compression gzip or none"
    )


def test_zstd_frames_are_read_one_after_another_and_damage_is_refused() -> None:
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    frames = zstd.compress(DATA[:1000]) + zstd.compress(
        DATA[1000:], options={zstd.CompressionParameter.checksum_flag: 1}
    )
    assert expand(frames, "zstd") == DATA
    assert expand(frames, "zstd", step=100) == DATA
    for damaged, reason in (
        (frames[:-5], "it has zstd data that is cut off"),
        (frames[:-1] + bytes([frames[-1] ^ 1]), "it has damaged zstd data: "),
        (b"junk", "it has damaged zstd data: "),
        (b"", "it has zstd data that is cut off"),
    ):
        with pytest.raises(UnsafeArchive, match=reason):
            expand(damaged, "zstd")
    with pytest.raises(UnsafeArchive, match="expands to more than 200 times its size: a zstd bomb"):
        expand(zstd.compress(bytes(10 << 20)), "zstd", ratio_from_bytes=1 << 20)


@pytest.mark.parametrize("compression", ["br", "xz"])
def test_another_compression_is_named(compression: str) -> None:
    with pytest.raises(Unsupported) as caught:
        expand(b"", compression)
    assert str(caught.value) == (
        f"it is compressed with {compression}, which this version cannot read; "
        "pack the kit again with --compression gzip or none"
    )


def test_what_is_inside_is_hashed() -> None:
    digest = DigestCheck(Digest.of(DATA), len(DATA), "it")
    with content_of(gzip.compress(DATA), "gzip", Budget(UnpackLimits()), digest) as content:
        while content.read(700):
            pass
    digest.finish()
