"""Takes passwords and tokens out of this process's memory once a kit is in use; a later pull reads them again.

Python cannot wipe a text, and freed memory keeps its bytes until it is used again. So `forget` uses it again.
"""

import ctypes
import gc
from contextlib import suppress
from typing import Final

_SMALL: Final = (range(16, 528, 16), 400)
"""Sizes that Python's own allocator serves, and how many of each: more than a pull leaves free."""
_LARGE: Final = (range(600, 70_000, 1024), 3)
"""The same for sizes that the C library serves: headers, bodies and buffers of connections."""


def forget() -> None:
    """Collects garbage, overwrites free memory, and gives it back to the system."""
    gc.collect()
    kept = [bytes(size) for sizes, count in (_SMALL, _LARGE) for size in sizes for _ in range(count)]
    del kept
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
