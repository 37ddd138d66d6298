"""Measures which lines run, in every process of the runtime. Python imports it at start where PYTHONPATH has this folder.

coverage's own way into child processes ends at a worker: its environment is cleaned, all but PYTHONPATH, and once
confined it can open no file. So a process maps a file before it does anything, and writes what it saw into that at its
end. `python -m tests.measured` reads the files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_MEASURED = ("-mruntime", "runtime.worker.", "sys.stdin.readline()")
"""What is in the command line of a server or a command, of a worker, and of a process that runs tests (pytest-xdist)."""
_SIZE = 1 << 22
_OURS = ("runtime", "adapters", "tests")


def _measure() -> None:
    import atexit
    import ctypes
    import os
    import threading
    from pathlib import Path

    root = Path(__file__).parents[2]
    start, seen = _tracing((f"{root}/runtime/", f"{root}/adapters/"))
    file = os.open(root / "build/coverage" / f"{os.getpid()}-{os.urandom(4).hex()}", os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(file, _SIZE)
    c, pid, leave = ctypes.CDLL(None), os.getpid(), os._exit
    c.mmap.restype = ctypes.c_void_p
    # readable, writable, shared; Python's own mmap would keep a descriptor
    mapped = c.mmap(None, ctypes.c_size_t(_SIZE), 3, 1, file, ctypes.c_long(0))
    os.close(file)

    def save() -> None:
        if os.getpid() == pid:  # not in a fork, which shares the map
            sys.settrace(None)
            data = repr({name: sorted(lines) for name, lines in seen.copy().items()}).encode()
            ctypes.memmove(mapped, len(data).to_bytes(4, "little") + data, len(data) + 4)

    def save_and_leave(code: int) -> None:
        save()
        leave(code)

    def start_thread(frame: object, event: str, arg: object) -> Any:
        trace = start()
        return trace(frame, event, arg)

    sys.meta_path.insert(0, _Unwatched())
    atexit.register(save)
    os._exit = save_and_leave  # type: ignore[assignment]
    threading.settrace(start_thread)
    start()


def _tracing(folders: tuple[str, ...]) -> tuple[Callable[[], Any], dict[str, set[int]]]:
    """Returns what starts to watch a thread, and the lines seen in files below `folders`, by file.

    It is the tracer of coverage alone: the import of all of coverage takes 90 ms, in each of hundreds of processes.
    """
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    package = PathFinder.find_spec("coverage")
    spec = PathFinder.find_spec("tracer", package and package.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise ImportError("there is no coverage with a tracer in C")
    c: Any = module_from_spec(spec)
    spec.loader.exec_module(c)
    seen: dict[str, set[int]] = {}
    known: dict[str, object] = {}
    kept = []  # one that nobody holds any more ends the watch of the thread that notices

    def disposition(name: str, _: object) -> object:
        found = c.CFileDisposition()
        found.original_filename = found.canonical_filename = found.source_filename = name
        found.trace, found.reason, found.file_tracer = name.startswith(folders), "", None
        found.has_dynamic_filename = False
        return found

    def start() -> Any:
        tracer = c.CTracer()
        tracer.data, tracer.should_trace, tracer.should_trace_cache, tracer.warn = seen, disposition, known, print
        tracer.lock_data = tracer.unlock_data = int  # does nothing, and in C: at the recursion limit Python would fail
        tracer.concur_id_func = tracer.should_start_context = tracer.switch_context = tracer.disable_plugin = None
        tracer.file_tracers, tracer.trace_arcs = {}, False
        kept.append(tracer)
        return tracer.start()

    return start, seen


class _Unwatched:
    """Lets packages that are not ours be imported without being watched, which would take a tenth longer."""

    def find_spec(self, name: str, path: Any, _: object = None) -> Any:
        from importlib.machinery import PathFinder

        if sys.gettrace() is None or name.partition(".")[0] in _OURS:
            return None
        spec = PathFinder.find_spec(name, path)
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
