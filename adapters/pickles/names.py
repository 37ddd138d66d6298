"""The globals that a pickle names, read without making or calling anything: for messages and inspection.

What decides whether a pickle is loaded is the unpickler, never this scan.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from adapters.pickles.file import Bounded, PurePython, open_pickle
from adapters.pickles.parts import make_dtype, set_dtype_state
from adapters.pickles.rules import JOBLIB_ARRAY, canonical, permitted


class Inert:
    """Replaces every object that the pickle would make."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.state: Any = None


class Names(PurePython):  # type: ignore[misc]  # see PurePython: untyped
    """Walks a pickle and collects `module.name` of each global."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(PurePython.dispatch)

    def __init__(self, stream: Bounded, names: set[tuple[str, str]]) -> None:
        super().__init__(stream, encoding="latin1")
        self._stream = stream
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        """Notes the global and returns a replacement."""
        self.names.add((module, name))
        return Inert(f"{canonical(module, name)[0]}.{name}")

    def get_extension(self, code: int) -> None:
        """Replaces an object of copyreg's registry."""
        self.append(Inert(f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        """Replaces a persistent object."""
        return Inert(f"persistent {pid}"[:40])

    def _made(self, maker: Any, args: Any) -> Any:
        if isinstance(maker, Inert) and maker.name == "numpy.dtype" and args and isinstance(args[0], str | bytes):
            return make_dtype(args[0])
        return Inert(maker.name if isinstance(maker, Inert) else "")

    def load_reduce(self) -> None:
        """REDUCE without calling."""
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        """NEWOBJ_EX without calling."""
        del self.stack[-2:]
        self.stack[-1] = self._made(self.stack[-1], ())

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self._made(klass, args))

    def load_build(self) -> None:
        """BUILD: sets only the state of dtypes, and skips the arrays that joblib writes between the opcodes."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.dtype):
            set_dtype_state(target, state)
        elif isinstance(target, Inert) and target.name == ".".join(JOBLIB_ARRAY):
            self._skip_array(state)

    def _skip_array(self, state: Any) -> None:
        dtype = state["dtype"]
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            Names(self._stream, self.names).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.read(self._stream.read(1)[0])
        self._stream.read(dtype.itemsize * math.prod(int(size) for size in state["shape"]))

    def _ignore_one(self) -> None:
        self.stack.pop()

    def _ignore_two(self) -> None:
        del self.stack[-2:]

    dispatch.update({
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: _ignore_one,
        pickle.APPENDS[0]: PurePython.pop_mark,
        pickle.SETITEM[0]: _ignore_two,
        pickle.SETITEMS[0]: PurePython.pop_mark,
        pickle.ADDITEMS[0]: PurePython.pop_mark,
    })  # fmt: skip


def global_names(path: Path, name: str) -> set[tuple[str, str]]:
    """Returns (module, name) of the globals in the file, as far as it can be read."""
    found: set[tuple[str, str]] = set()
    with open_pickle(path, name) as stream:
        try:
            Names(stream, found).load()
        except Exception:  # noqa: BLE001 - a broken or hostile pickle ends the scan; the names before count
            return found
    return found


def denied_names(path: Path, name: str, allowed: frozenset[str]) -> set[str]:
    """Returns `module.name` of those globals in the file that are not on the allow-list."""
    found = global_names(path, name) - {JOBLIB_ARRAY}
    return {".".join(canonical(m, n)) for m, n in found if not _is_permitted(m, n, allowed)}


def _is_permitted(module: str, name: str, allowed: frozenset[str]) -> bool:
    try:
        return permitted(module, name, allowed) is not None
    except (ImportError, AttributeError):
        return True  # allowed, but not installed: the unpickler says that
