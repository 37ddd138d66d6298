"""The file descriptors of this process, to see that something leaves none behind."""

from __future__ import annotations

import gc
import os
from contextlib import suppress


def open_descriptors() -> set[tuple[str, str]]:
    """Numbers and targets. Compare with `<=`: what earlier tests in this process left may be closed at any time."""
    gc.collect()
    gc.freeze()  # or each look would take half a second, with all that the tests of this process have imported
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only
        with suppress(FileNotFoundError):  # the one of this look
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))  # noqa: PTH115 - as above
    return found
