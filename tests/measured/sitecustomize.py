"""Has every process run the code with probes. Python imports this at start where PYTHONPATH has its folder.

A worker has it too: of its environment PYTHONPATH is left. The file of lines is mapped before a worker is confined, and
after that it can open no other.
"""

from __future__ import annotations

import os
from importlib.machinery import SourceFileLoader
from types import CodeType

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_OURS = (f"{_ROOT}/runtime/", f"{_ROOT}/adapters/")
_FOLDER = f"{_ROOT}/build/coverage"
_get_code = SourceFileLoader.get_code


def _probed(loader: SourceFileLoader, name: str) -> CodeType | None:
    if not loader.path.startswith(_OURS):
        return _get_code(loader, name)
    import builtins
    import marshal

    try:
        if not hasattr(builtins, "__lines__"):
            builtins.__lines__ = _mapped()  # type: ignore[attr-defined]
        with open(_FOLDER + loader.path.removeprefix(_ROOT), "rb") as file:
            code: CodeType = marshal.loads(file.read())  # load(file) takes five times as long
            return code
    except OSError:  # a file that was not there when the code was prepared
        return _get_code(loader, name)


def _mapped() -> memoryview:
    """Returns the file of lines. Python's own mmap would keep a descriptor."""
    import ctypes

    file = os.open(f"{_FOLDER}/lines", os.O_RDWR)
    size = os.fstat(file).st_size
    mmap = ctypes.CDLL(None).mmap
    mmap.restype = ctypes.c_void_p
    address = mmap(None, ctypes.c_size_t(size), 3, 1, file, ctypes.c_long(0))  # readable and writable, shared
    os.close(file)
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


SourceFileLoader.get_code = _probed  # type: ignore[method-assign]
