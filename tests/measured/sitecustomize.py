"""Measures which lines run, in every process of the runtime. Python imports it at start where PYTHONPATH has this folder.

coverage's own way into child processes ends at a worker: its environment is cleaned, all but PYTHONPATH, and once
confined it can open no file. So a process maps a file before it does anything, and writes what it saw into that at its
end. `python -m tests.measured` reads the files.
"""

from __future__ import annotations

import sys
from typing import Any

_MEASURED = ("-mruntime", "runtime.worker.", "sys.stdin.readline()")
"""What is in the command line of a server or a command, of a worker, and of a process that runs tests (pytest-xdist)."""
_SIZE = 1 << 22
_LARGE = {
    "catboost",
    "lightgbm",
    "numpy",
    "onnxruntime",
    "oras",
    "pandas",
    "scipy",
    "skops",
    "sklearn",
    "torch",
    "xgboost",
}
"""What takes long to import, and longer when it is watched."""


def _measure() -> None:
    import atexit
    import ctypes
    import os
    from pathlib import Path

    import coverage

    root = Path(__file__).parents[2]
    file = os.open(root / "build/coverage" / f"{os.getpid()}-{os.urandom(4).hex()}", os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(file, _SIZE)
    c, pid, leave = ctypes.CDLL(None), os.getpid(), os._exit
    c.mmap.restype = ctypes.c_void_p
    # readable, writable, shared; Python's own mmap would keep a descriptor
    mapped = c.mmap(None, ctypes.c_size_t(_SIZE), 3, 1, file, ctypes.c_long(0))
    os.close(file)
    measured = coverage.Coverage(data_file=None, config_file=False, include=[f"{root}/runtime/*", f"{root}/adapters/*"])

    def save() -> None:
        if os.getpid() == pid:  # not in a fork, which shares the map
            measured.stop()
            data = measured.get_data().dumps()
            ctypes.memmove(mapped, len(data).to_bytes(4, "little") + data, len(data) + 4)

    def save_and_leave(code: int) -> None:
        save()
        leave(code)

    sys.meta_path.insert(0, _Unwatched())
    atexit.register(save)
    os._exit = save_and_leave  # type: ignore[assignment]
    measured.start()


class _Unwatched:
    """Lets large packages be imported without being watched."""

    def find_spec(self, name: str, *_: object) -> Any:
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name) if name in _LARGE else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def unwatched(module: object) -> None:
                watch = sys.gettrace()
                sys.settrace(None)
                try:
                    execute(module)
                finally:
                    sys.settrace(watch)

            spec.loader.exec_module = unwatched  # type: ignore[method-assign]
        return spec


if any(part in "".join(sys.orig_argv) for part in _MEASURED):
    import contextlib

    with contextlib.suppress(ImportError):  # the environment of a test, without coverage
        _measure()
