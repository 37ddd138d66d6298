"""Which of many tags to show first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

SHOWN: Final = 5
_VERSION: Final = re.compile(r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)([-._+]?[0-9A-Za-z].*)?")


def newest(tags: Iterable[str], limit: int = SHOWN) -> list[str]:
    """At most `limit` tags: what looks like a version first, the newest before all (1.0 before 1.0-rc1), then names."""
    return sorted(tags, key=_rank, reverse=True)[:limit]


def _rank(tag: str) -> tuple[int, tuple[int, ...], int, str]:
    match = _VERSION.fullmatch(tag)
    if match is None:
        return (0, (), 0, tag)
    numbers = tuple(int(number) for number in match[1].split("."))
    return (1, numbers, 0 if match[2] else 1, tag)
