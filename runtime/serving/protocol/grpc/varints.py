"""Packed fields of varints ↔ numpy arrays, in blocks: no object for a number, and never long without the GIL's release.

https://protobuf.dev/programming-guides/encoding/#packed
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from adapters.values import Array
from runtime.errors import InvalidInput
from runtime.serving.media import Body

_BLOCK: Final = 2**17
_LONGEST: Final = 10
_MORE: Final = 0x80
"""The bit of a byte that says that its number goes on."""


def count(packed: Body) -> int:
    """Returns how many numbers end in `packed`."""
    data = np.frombuffer(packed, np.uint8)
    return sum(int(np.count_nonzero(data[at : at + _BLOCK] < _MORE)) for at in range(0, len(data), _BLOCK))


def read(packed: Body) -> Iterator[Array]:
    """Yields the numbers in `packed` modulo 2^64, block by block. Raises InvalidInput."""
    data, at = np.frombuffer(packed, np.uint8), 0
    while at < len(data):
        block = data[at : at + _BLOCK]
        ends = np.flatnonzero(block < _MORE)
        starts = np.append(0, ends[:-1] + 1)[: len(ends)]
        sizes = ends - starts + 1
        if not len(ends) or sizes.max() > _LONGEST:
            raise InvalidInput("not a valid message: a number in it does not end")
        numbers = np.zeros(len(ends), np.uint64)
        for place in range(int(sizes.max())):
            longer = np.flatnonzero(sizes > place)
            digits = block[starts[longer] + place] & (_MORE - 1)
            numbers[longer] |= digits.astype(np.uint64) << np.uint64(7 * place)
        yield numbers
        at += int(ends[-1]) + 1


def packed_from(single: Body, tag: int) -> memoryview | None:
    """Returns numbers that are in fields of their own as a packed field's content; None if anything else is there, or
    a tag that is not this one, of one byte."""
    data, at = np.frombuffer(single, np.uint8), 0
    made, filled = np.empty(len(data), np.uint8), 0
    while at < len(data):
        block = data[at : at + _BLOCK]
        ends = np.flatnonzero(block < _MORE)
        ends = ends[: len(ends) // 2 * 2]
        tags = np.append(0, ends[1:-1:2] + 1)
        if not len(ends) or (block[tags] != tag).any():
            return None
        numbers = np.delete(block[: ends[-1] + 1], tags)
        made[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        at += int(ends[-1]) + 1
    return made[:filled].data


def written(numbers: Array) -> bytes:
    """Returns flat integers as a packed field's content."""
    pieces = []
    for at in range(0, len(numbers), _BLOCK):
        block = numbers[at : at + _BLOCK]
        left = (block if block.dtype.kind == "u" else block.astype(np.int64)).astype(np.uint64)
        sizes = np.ones(len(left), np.intp)
        for place in range(1, _LONGEST):
            sizes += left >= 1 << 7 * place
        starts = np.cumsum(sizes) - sizes
        made = np.empty(int(starts[-1] + sizes[-1]), np.uint8)
        for place in range(int(sizes.max())):
            longer = np.flatnonzero(sizes > place)
            digits = (left[longer] >> np.uint64(7 * place)).astype(np.uint8) & (_MORE - 1)
            made[starts[longer] + place] = digits | np.where(sizes[longer] > place + 1, _MORE, 0).astype(np.uint8)
        pieces.append(made.tobytes())
    return b"".join(pieces)
