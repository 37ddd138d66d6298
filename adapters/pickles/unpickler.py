"""Loads pickle and joblib files through the allow-list of `rules`: an unpickler, not a scanner.

The pure-Python unpickler, with its opcodes narrowed to what models need (all of them, described:
https://github.com/python/cpython/blob/3.11/Lib/pickletools.py). It calls only the functions in `parts`, makes instances
with `cls.__new__(cls)` and sets their state, and reads joblib's arrays, and the pickles nested in them, without joblib.
"""

import math
import pickle
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain
from typing import Any, ClassVar, Final

import numpy as np

from adapters.base import AdapterError, LoadFailed, ModelFiles
from adapters.checks import Damaged
from adapters.imports import missing
from adapters.pickles.file import Bounded, PurePython, open_pickle
from adapters.pickles.foreign import granted
from adapters.pickles.pandas import Extension
from adapters.pickles.parts import (
    Compiled,
    Partial,
    check_state,
    is_named_tuple,
    own_dtype,
    set_array_state,
    set_dtype_state,
    set_masked_state,
)
from adapters.pickles.rules import CALL, CLASS, JOBLIB_ARRAY, Permitted, canonical
from adapters.trust import names_refused
from adapters.wording import failing

PACKAGES: Final = ("xgboost", "lightgbm", "catboost")
"""Packages beside scikit-learn whose classes a pickle may hold; the extras that install them have the same names."""
MAX_MEMO: Final = 10_000_000
MAX_DEPTH: Final = 1000
MAPPINGS: Final = (dict, OrderedDict, defaultdict)


class Denied(AdapterError):
    """The pickle names something that is not on the allow-list; `str()` is that name."""


class Absent(AdapterError):
    """The pickle names something of a package that is not installed."""


def _is_absent(module: str) -> bool:
    package = module.partition(".")[0]
    return package in PACKAGES and find_spec(package) is None


class ArrayOnDisk:
    """joblib's NumpyArrayWrapper: the bytes of an array follow in the stream.
    https://github.com/joblib/joblib/blob/1.5.2/joblib/numpy_pickle.py"""

    subclass: object
    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]
    numpy_array_alignment_bytes: int | None = None


def _filling(opcode: bytes, target: Callable[["Strict"], Any], *kinds: type) -> Callable[["Strict"], None]:
    """Returns the standard library's method of an opcode that fills a container, behind a check of its `target`."""
    fill = PurePython.dispatch[opcode[0]]

    def load(strict: "Strict") -> None:
        if not strict.takes(thing := target(strict), kinds):
            raise Damaged(f"elements are put into a {type(thing).__name__}")
        fill(strict)

    return load


class Strict(PurePython):  # type: ignore[misc]  # see PurePython: untyped
    """Reads one pickle stream under the rules. `versions`: those of scikit-learn that estimators in it state."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(PurePython.dispatch)

    def __init__(self, stream: Bounded, file: str, allowed: frozenset[str], depth: int = 0) -> None:
        super().__init__(stream, encoding="latin1")
        self._stream, self._file = stream, file
        self._allowed, self._depth = allowed, depth
        self._known: dict[int, Permitted] = {}
        self.versions: set[str] = set()

    # -- names

    def find_class(self, module: str, name: str) -> Any:
        """Returns what the pickle gets for a global. Raises Denied, Absent, LoadFailed."""
        found: Permitted | None = Permitted(CLASS, ArrayOnDisk)
        if (module, name) != JOBLIB_ARRAY:
            try:
                found = granted(module, name, self._allowed)
            except (ImportError, AttributeError) as error:
                if _is_absent(module):
                    raise Absent from error
                said = f"{self._file}: {module}.{name} is not in the installed version: {error}"
                raise LoadFailed(said) from error
        if found is None:
            raise Denied(".".join(canonical(module, name)))
        self._known[id(found.thing)] = found
        return found.thing

    def get_extension(self, code: int) -> Any:
        """Raises Damaged: no model uses the registry of copyreg."""
        raise Damaged(f"extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        """Raises Damaged: no model has persistent objects."""
        raise Damaged(f"persistent object {str(pid)[:40]!r}")

    # -- what may be called and made

    def _known_as(self, thing: Any, use: str) -> Permitted:
        found = self._known.get(id(thing))
        if found is None or found.thing is not thing or not (found.any or found.use == use):
            raise Damaged(f"{str(thing)[:80]} is used as a {use}")
        return found

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._known_as(self.stack[-1], CALL).thing(*args)

    def _newobj(self) -> None:
        self.stack[-2:] = [self._instance(*self.stack[-2:])]

    def _newobj_ex(self) -> None:
        self.stack[-3:] = [self._instance(*self.stack[-3:])]

    def _instance(self, cls: Any, args: Any, keywords: Any = None) -> Any:
        found = self._known_as(cls, CLASS)
        if is_named_tuple(cls) and len(args) == len(cls._fields) and not keywords:
            return tuple.__new__(cls, args)
        if (args or keywords) and not found.any:
            raise Damaged(f"{cls.__name__} is made with arguments")
        return cls.__new__(cls, *args, **(keywords or {}))

    def _instantiate(self, klass: Any, args: Any) -> None:
        """INST and OBJ of protocols 0 and 1."""
        self.append(self._instance(klass, args))

    # -- state

    def load_build(self) -> None:
        """BUILD: sets the state of an instance that this pickle made, never of a class, function or module."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ArrayOnDisk):
            self.stack[-1] = self._array(target, state)
        elif isinstance(target, np.dtype):
            set_dtype_state(target, state)
        elif type(target) is np.ndarray:
            set_array_state(target, state)
        elif type(target) is np.ma.MaskedArray:
            set_masked_state(target, state)
        else:
            self._set_state(target, state)

    def _set_state(self, target: Any, state: Any) -> None:
        cls = type(target)
        if isinstance(target, type) or not self._is_ours(cls):
            raise Damaged(f"state is given to a {cls.__name__}")
        if (own := self._own_setter(cls)) is not None:
            own(target, state)
            return
        if isinstance(state, dict):
            self._check_names(state)
            if isinstance(version := state.get("_sklearn_version"), str):
                self.versions.add(version)
        # taken from the class: an attribute that the pickle has set is never called
        if (setter := getattr(cls, "__setstate__", None)) is not None:
            check_state(cls, state)
            setter(target, state)
        elif isinstance(state, dict):
            target.__dict__.update(state)
        elif state:
            raise Damaged(f"a {cls.__name__} has a state of an unusual form")

    def _own_setter(self, cls: type) -> Callable[[Any, Any], None] | None:
        return next((found.set_state for found in self._known.values() if found.thing is cls), None)

    def _is_ours(self, cls: type) -> bool:
        made = (
            Partial,
            Extension,
            np.random.RandomState,
            np.random.Generator,
            np.random.BitGenerator,
        )
        known = self._known.values()
        plain = (found.thing for found in known if found.use == CLASS or found.any)
        compiled = (found.thing.cls for found in known if isinstance(found.thing, Compiled))
        return issubclass(cls, made) or any(cls is mine for mine in chain(plain, compiled))

    def _check_names(self, state: dict[Any, Any]) -> None:
        for name in state:
            if not isinstance(name, str) or (name.startswith("__") and name.endswith("__")):
                raise Damaged(f"an attribute is called {str(name)[:40]!r}")

    def _array(self, wrapper: ArrayOnDisk, state: Any) -> Any:
        self._check_names(state)
        wrapper.__dict__.update(state)
        if wrapper.dtype.hasobject:
            return self._nested()
        if wrapper.numpy_array_alignment_bytes is not None:
            self._stream.read(self._stream.read(1)[0])
        count = math.prod(int(size) for size in wrapper.shape)
        memory = self._stream.memory(count * wrapper.dtype.itemsize)
        flat = np.frombuffer(memory, dtype=own_dtype(wrapper.dtype), count=count)
        array = flat.reshape(wrapper.shape[::-1]).transpose() if wrapper.order == "F" else flat.reshape(wrapper.shape)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _nested(self) -> Any:
        if self._depth > 50:
            raise Damaged("pickles are nested deeper than 50")
        inner = Strict(self._stream, self._file, self._allowed, self._depth + 1)
        made = inner.load()
        self.versions |= inner.versions
        return made

    def takes(self, thing: Any, kinds: tuple[type, ...]) -> bool:
        """True if elements may be put into `thing`, of one of `kinds`: no method of any other object is called."""
        is_bunch = dict in kinds and isinstance(thing, dict) and type(thing).__name__ == "Bunch"
        return type(thing) in kinds or (is_bunch and self._is_ours(type(thing)))

    # -- budgets

    def _mark(self) -> None:
        if len(self.metastack) > MAX_DEPTH:
            raise Damaged(f"objects nest deeper than {MAX_DEPTH}")
        super().load_mark()

    def _memoize(self) -> None:
        if len(self.memo) > MAX_MEMO:
            raise Damaged(f"more than {MAX_MEMO} objects")
        super().load_memoize()

    def load_bytearray8(self) -> None:
        """BYTEARRAY8: what is there, and not first an empty one of the length that the pickle says."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch.update({
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: _filling(pickle.APPEND, lambda strict: strict.stack[-2], list),
        pickle.APPENDS[0]: _filling(pickle.APPENDS, lambda strict: strict.metastack[-1][-1], list),
        pickle.SETITEM[0]: _filling(pickle.SETITEM, lambda strict: strict.stack[-3], *MAPPINGS),
        pickle.SETITEMS[0]: _filling(pickle.SETITEMS, lambda strict: strict.metastack[-1][-1], *MAPPINGS),
        pickle.ADDITEMS[0]: _filling(pickle.ADDITEMS, lambda strict: strict.metastack[-1][-1], set),
        pickle.MARK[0]: _mark,
        pickle.MEMOIZE[0]: _memoize,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    })  # fmt: skip


def load_pickle(files: ModelFiles, *, trust: str, allowed: frozenset[str] = frozenset(),
                mapped: bool = False) -> tuple[Any, frozenset[str]]:  # fmt: skip
    """Returns the object in the file `files.path`, and the versions of scikit-learn that it states. `mapped` is as in
    `open_pickle`.

    Raises Refused with every global that is not allowed, MissingFramework with every package that is not installed,
    LoadFailed for a broken file."""
    path = files.root / files.path
    # a warning about another version is left out: the model's properties say it
    with open_pickle(path, files.path, mapped=mapped) as stream, warnings.catch_warnings(action="ignore"):
        strict = Strict(stream, files.path, allowed)
        try:
            with failing(f"{files.path} is not a whole pickle of a model"):
                return strict.load(), frozenset(strict.versions)
        except Denied as denied:
            from adapters.pickles.names import denied_names

            names = {str(denied)} | denied_names(path, files.path, allowed)
            raise names_refused(files.path, "a pickle", names, trust) from denied
        except Absent as absent:
            from adapters.pickles.names import names_in

            modules = [module for module, _ in names_in(path, files.path) if _is_absent(module)]
            raise missing({name: name for name in PACKAGES if any(m.startswith(name) for m in modules)}) from absent
