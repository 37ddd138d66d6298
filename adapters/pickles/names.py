"""Which globals a pickle names, without making or calling anything: for the message of a refusal, and for inspection.

It decides nothing (a scanner is no gate): the strict unpickler does.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from adapters.pickles.file import Bounded, PurePython, open_pickle
from adapters.pickles.parts import make_dtype, set_dtype_state
from adapters.pickles.rules import canonical, permitted


class Inert:
    """Stands for anything a pickle makes."""

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
        """An inert stand-in for the global."""
        self.names.add((module, name))
        return Inert(f"{canonical(module, name)[0]}.{name}")

    def get_extension(self, code: int) -> None:
        """An inert stand-in."""
        self.append(Inert(f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        """An inert stand-in."""
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
        """BUILD without setting anything, but for the arrays that joblib put between the opcodes."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.dtype):
            set_dtype_state(target, state)
        elif isinstance(target, Inert) and target.name == "joblib.numpy_pickle.NumpyArrayWrapper":
            self._skip_array(state)

    def _skip_array(self, state: Any) -> None:
        dtype = state["dtype"]
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            Names(self._stream, self.names).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.read(self._stream.read(1)[0])
        count = dtype.itemsize
        for size in state["shape"]:
            count *= int(size)
        self._stream.read(count)

    def _ignore_one(self) -> None:
        self.stack.pop()

    def _ignore_two(self) -> None:
        del self.stack[-2:]

    def _ignore_marked(self) -> None:
        self.pop_mark()


for _opcode, _method in {
    pickle.REDUCE: Names.load_reduce,
    pickle.NEWOBJ: Names.load_reduce,
    pickle.NEWOBJ_EX: Names.load_newobj_ex,
    pickle.BUILD: Names.load_build,
    pickle.APPEND: Names._ignore_one,  # noqa: SLF001 - its own
    pickle.APPENDS: Names._ignore_marked,  # noqa: SLF001
    pickle.SETITEM: Names._ignore_two,  # noqa: SLF001
    pickle.SETITEMS: Names._ignore_marked,  # noqa: SLF001
    pickle.ADDITEMS: Names._ignore_marked,  # noqa: SLF001
}.items():
    Names.dispatch[_opcode[0]] = _method


def global_names(path: Path, name: str) -> set[tuple[str, str]]:
    """(module, name) of the globals in the file, as far as it can be read."""
    found: set[tuple[str, str]] = set()
    with open_pickle(path, name) as stream:
        try:
            Names(stream, found).load()
        except Exception:  # noqa: BLE001 - a broken or hostile pickle ends the walk, not the answer
            return found
    return found


def denied_names(path: Path, name: str, allowed: frozenset[str]) -> set[str]:
    """`module.name` of those globals in the file that the allow-list does not have."""
    return {".".join(canonical(m, n)) for m, n in global_names(path, name) if not _is_permitted(m, n, allowed)}


def _is_permitted(module: str, name: str, allowed: frozenset[str]) -> bool:
    if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
        return True
    try:
        return permitted(module, name, allowed) is not None
    except (ImportError, AttributeError):
        return True  # allowed, and not installed: another message
