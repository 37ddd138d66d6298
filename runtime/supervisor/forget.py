"""Takes passwords and tokens out of this process's memory once the kit is there; a later pull reads them again.

Python cannot wipe a text, and what it frees keeps its bytes until the memory is used again. So it is used again.
"""

import ctypes
import gc
from contextlib import suppress
from typing import Final

_SMALL: Final = (range(16, 528, 16), 400)
"""Sizes that Python's own allocator serves, and how many of each: more than a pull leaves free."""
_LARGE: Final = (range(600, 70_000, 1024), 3)
"""Headers, bodies and buffers of connections come from the C library."""


def forget() -> None:
    """Frees what is garbage, overwrites what is free, and gives memory back to the system."""
    gc.collect()
    kept = [bytes(size) for sizes, count in (_SMALL, _LARGE) for size in sizes for _ in range(count)]
    del kept
    with suppress(AttributeError):  # of another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
