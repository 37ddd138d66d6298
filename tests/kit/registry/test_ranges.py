"""Pieces of long blobs in order, and the few buffers that all blobs of a pull have together."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.kit.registry import ranges
from runtime.kit.registry.ranges import Buffers, Ranges

PIECE = 1000
BLOB = os.urandom(20 * PIECE)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PIECE_BYTES", PIECE)


def fill(start: int, buffer: memoryview) -> None:
    buffer[:] = BLOB[start : start + len(buffer)]


def read(buffers: Buffers, start: int = 0) -> bytes:
    return b"".join(bytes(piece) for piece in Ranges(fill, start, len(BLOB), buffers))


def test_blobs_that_come_at_once_share_a_few_buffers() -> None:
    buffers, used = Buffers(), set[int]()

    def seen(start: int, buffer: memoryview) -> None:
        used.add(id(buffer.obj))
        fill(start, buffer)

    def blob(_: int) -> bytes:
        return b"".join(bytes(piece) for piece in Ranges(seen, 0, len(BLOB), buffers))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(blob, range(40))) == [BLOB] * 40
    assert 1 <= len(used) <= 9


def test_a_blob_that_is_given_up_gives_its_buffers_back() -> None:
    buffers = Buffers()
    for _ in range(10):
        for piece in Ranges(fill, 0, len(BLOB), buffers):
            assert piece == BLOB[:PIECE]
            break
    assert read(buffers, 123) == BLOB[123:]


def test_a_piece_that_fails_is_raised_in_its_place_and_gives_its_buffer_back() -> None:
    buffers = Buffers()

    def breaking(start: int, buffer: memoryview) -> None:
        if start == 3 * PIECE:
            raise TimeoutError
        fill(start, buffer)

    for _ in range(10):
        with pytest.raises(TimeoutError):
            list(Ranges(breaking, 0, len(BLOB), buffers))
    assert read(buffers) == BLOB
