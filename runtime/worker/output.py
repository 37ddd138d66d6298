"""The standard streams of a worker: pipes, read by its supervisor (`runtime.supervisor.output`)."""

from __future__ import annotations

import ctypes
import io
import sys
from typing import Final

_IOLBF: Final = 1
"""Line by line, in the C library's stdio.h."""


def write_lines_at_once() -> None:
    """Makes Python and C write each line when it ends: pipes are buffered, and a worker ends without a flush."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")
    libc = ctypes.CDLL(None)
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)
