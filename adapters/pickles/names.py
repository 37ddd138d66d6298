"""The globals that a pickle names, read without making or calling anything: for messages and inspection.

What decides whether a pickle is loaded is the unpickler, never this scan.
"""

import math
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.pickles.file import Bounded, PurePython, open_pickle
from adapters.pickles.foreign import granted
from adapters.pickles.parts import make_dtype, set_dtype_state
from adapters.pickles.rules import JOBLIB_ARRAY, canonical

ARRAY_STATE: Final = frozenset({"dtype", "shape", "numpy_array_alignment_bytes"})
"""Keys in the state of joblib's stand-in for an array."""

DATA: Final = ("DataFrame", "Series")
"""Classes of pandas and polars that people pickle beside models."""


class Inert:
    """Replaces every object that the pickle would make."""

    def __init__(self, name: str = "") -> None:
        self.name = name


class Names(PurePython):  # type: ignore[misc]  # see PurePython: untyped
    """Walks a pickle and collects `module.name` of each global."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(PurePython.dispatch)

    def __init__(self, stream: Bounded, names: set[tuple[str, str]]) -> None:
        super().__init__(stream, encoding="latin1")
        self._stream, self.names = stream, names

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

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], args)

    def _newobj_ex(self) -> None:
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

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._keep([key, value])

    def _setitems(self) -> None:
        self._keep(self.pop_mark())

    def _keep(self, items: list[Any]) -> None:
        """Keeps of a dict what says where an array ends."""
        target = self.stack[-1]
        if isinstance(target, dict):
            pairs = zip(items[::2], items[1::2], strict=False)
            target.update((key, value) for key, value in pairs if isinstance(key, str) and key in ARRAY_STATE)

    dispatch.update({
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: PurePython.load_pop,
        pickle.APPENDS[0]: PurePython.pop_mark,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.ADDITEMS[0]: PurePython.pop_mark,
    })  # fmt: skip


def denied_names(path: Path, name: str, allowed: frozenset[str]) -> set[str]:
    """Returns `module.name` of the globals in the file that are not on the allow-list, as far as it can be read.
    Raises LoadFailed if it holds a table of data."""
    found, held = _scanned(path, name)
    if held.rpartition(".")[2] in DATA:
        raise LoadFailed(f"{name} holds a {held}, which is data and no model: save the fitted estimator itself")
    return {".".join(canonical(m, n)) for m, n in found if not _is_permitted(m, n, allowed)}


def names_in(path: Path, name: str) -> set[tuple[str, str]]:
    """Returns module and name of the globals in the file, as far as it can be read; not those that joblib adds."""
    return _scanned(path, name)[0]


def _scanned(path: Path, name: str) -> tuple[set[tuple[str, str]], str]:
    """Returns the `names_in` the file, and `module.name` of what makes its whole object, "" if it is not known."""
    found, held = set[tuple[str, str]](), None
    # a broken or hostile pickle ends the scan; the names before count
    with open_pickle(path, name) as stream, suppress(Exception):
        held = Names(stream, found).load()
    return found - {JOBLIB_ARRAY}, held.name if isinstance(held, Inert) else ""


def _is_permitted(module: str, name: str, allowed: frozenset[str]) -> bool:
    try:
        return granted(module, name, allowed) is not None
    except (ImportError, AttributeError):
        return True  # allowed, but not installed: the unpickler says that
