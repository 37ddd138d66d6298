"""The functions that a pickle may call at `--trust restricted`: they make containers, dtypes and arrays.

Each replaces the function that the pickle names, and checks its arguments, which numpy's own functions do not:
https://github.com/numpy/numpy/blob/v2.3.0/numpy/_core/src/multiarray/methods.c (array_setstate).
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, Final

import numpy as np

DTYPE: Final = re.compile(r"[|<>=]?([?bBhHiIlLqQefdgFDG]|[biufcSUVOa]\d*)")


class BadPickle(ValueError):
    """The pickle does something that no pickle of a model does."""


class Compiled:
    """An extension class for a pickle: to be called with numbers and arrays, or given to functions of its module."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def __call__(self, *args: Any) -> Any:
        """Returns an instance. Raises BadPickle for unusual arguments."""
        _check_arguments(self.cls, args)
        return self.cls(*(_uncompiled(a) for a in args))


def _uncompiled(thing: Any) -> Any:
    return thing.cls if isinstance(thing, Compiled) else thing


def _check_arguments(cls: Any, args: tuple[Any, ...]) -> None:
    if not all(a is None or isinstance(a, bool | int | float | np.ndarray | np.generic) for a in args):
        raise BadPickle(f"{cls.__name__} is made with {[type(a).__name__ for a in args]}")
    if cls.__name__ == "Tree":  # its constructor reads n_outputs numbers from the array, unchecked
        ok = len(args) == 3 and isinstance(args[1], np.ndarray) and args[1].shape == (args[2],) and args[2] > 0
        if not ok or not 0 < int(args[1].min()) <= int(args[1].max()) < 1 << 24 or args[0] < 0:
            raise BadPickle("a tree is made with sizes that do not agree")


def compiled_state(maker: Any) -> Callable[..., Any]:
    """Cython's `__pyx_unpickle_X(cls, checksum, state)`, for that class alone."""

    def make(cls: Any, checksum: int, state: Any = None) -> Any:
        if not isinstance(cls, Compiled) or maker.__name__ != f"__pyx_unpickle_{cls.cls.__name__}":
            raise BadPickle(f"{maker.__name__} is called for another class")
        if not (state is None or (isinstance(state, tuple) and all(isinstance(s, int | float) for s in state))):
            raise BadPickle(f"{maker.__name__} gets a state that is not of numbers")
        return maker(cls.cls, checksum, state)

    return make


def bare_instance(cls: Any) -> Any:
    """Cython's `newObj(cls)`."""
    if not isinstance(cls, Compiled):
        raise BadPickle("newObj is called for something that is no extension class")
    return cls.cls.__new__(cls.cls)


def reconstructor(cls: Any, base: Any, state: Any) -> Any:
    """`copyreg._reconstructor`, which makes instances in protocols 0 and 1."""
    if not isinstance(cls, type) or base not in (object, dict):
        raise BadPickle("an instance is made on an unusual base")
    made: Any = object.__new__(cls) if base is object else dict.__new__(cls)
    if base is object:
        return made
    if not isinstance(made, dict) or not isinstance(state, dict):
        raise BadPickle("a dictionary is made of something else")
    dict.update(made, state)
    return made


def make_bytes(*args: Any) -> bytes:
    """`bytes()` and `bytes(list)`, as protocols below 3 write them; never `bytes(count)`."""
    if args and not isinstance(args[0], list | tuple | bytes):
        raise BadPickle("bytes are made of something else than bytes")
    return bytes(*args[:1])


def make_bytearray(*args: Any) -> bytearray:
    """The same for `bytearray`."""
    return bytearray(make_bytes(*args))


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    """`_codecs.encode`, which makes bytes in protocols below 3."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise BadPickle("text is encoded in an unusual way")
    return text.encode("latin1")


def ordered_dict(*args: Any) -> OrderedDict[Any, Any]:
    """Returns an OrderedDict, empty or of pairs."""
    return OrderedDict(*args)


def default_dict(factory: Any = None) -> defaultdict[Any, Any]:
    """Returns a defaultdict of plain containers and numbers."""
    if factory not in (None, int, float, list, dict, str, tuple):
        raise BadPickle("a defaultdict would call something else than a plain type")
    return defaultdict(factory)


def make_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    """Returns a new dtype, whose state may follow (`set_dtype_state`)."""
    if isinstance(code, type) and issubclass(code, np.generic):
        return np.dtype(code, copy=True)  # never numpy's shared one, whose state must not change
    if not isinstance(code, str | bytes):
        raise BadPickle("a dtype is made of something else than a code")
    text = code.decode("latin1") if isinstance(code, bytes) else code
    if not DTYPE.fullmatch(text):
        raise BadPickle(f"a dtype has the code {text[:40]!r}")
    return np.dtype(text, copy=True)


def set_dtype_state(dtype: np.dtype[Any], state: Any) -> None:
    """Sets byte order and fields of a dtype. Numpy's own function accepts flags that hide objects in it."""
    _version, order, subdtype, names, fields = state[:5]
    if subdtype is not None or order not in ("<", ">", "|", "="):
        raise BadPickle("a dtype has an unusual state")
    wanted = dtype.newbyteorder(order) if names is None else _structured(names, fields, state[5])
    dtype.__setstate__(wanted.__reduce__()[2])  # type: ignore[attr-defined]  # numpy's stubs do not know it


def _structured(names: Any, fields: Any, itemsize: Any) -> np.dtype[Any]:
    if not isinstance(names, tuple) or not isinstance(fields, dict) or set(names) != set(fields):
        raise BadPickle("a dtype has fields that do not agree")
    formats, offsets = [fields[n][0] for n in names], [fields[n][1] for n in names]
    if any(not isinstance(f, np.dtype) or f.hasobject for f in formats) or not isinstance(itemsize, int):
        raise BadPickle("a dtype has fields of objects")
    return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": itemsize})


def empty_array(cls: Any, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """numpy's `_reconstruct`: returns an array of no elements, whose state follows."""
    if cls is not np.ndarray or math.prod(shape) != 0:
        raise BadPickle("an array is made in an unusual way")
    return np.empty(shape, dtype="b" if dtype in ("b", b"b") else np.dtype(dtype))


def set_array_state(array: np.ndarray[Any, Any], state: Any) -> None:
    """Sets the contents of an array made by `empty_array`."""
    *_, shape, dtype, fortran, data = state
    if not isinstance(dtype, np.dtype) or not isinstance(data, list if dtype.hasobject else bytes):
        raise BadPickle("an array has contents that are not of its type")
    whole: Any = (1, tuple(shape), dtype, bool(fortran), data)
    array.__setstate__(whole)


def array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray[Any, Any]:
    """numpy's `_frombuffer`, which makes arrays in protocol 5."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(buffer, bytes | bytearray):
        raise BadPickle("an array is made of something else than bytes")
    flat = np.frombuffer(buffer, dtype=dtype)
    if order == "K" and axis_order is not None:
        return flat.reshape(shape, order="C").transpose(axis_order)
    return flat.reshape(shape, order=order)


def make_scalar(dtype: Any, data: Any = None) -> Any:
    """numpy's `scalar`: returns one number or text."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise BadPickle("a scalar is made of an object")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
        raise BadPickle("a scalar has another size than its type")
    return np.frombuffer(raw, dtype=dtype, count=1)[0] if raw else dtype.type()


def empty_masked_array(cls: Any, base: Any, shape: Any, dtype: Any) -> Any:
    """numpy.ma's `_mareconstruct`."""
    if cls is not np.ma.MaskedArray or base is not np.ndarray or math.prod(shape) != 0:
        raise BadPickle("a masked array is made in an unusual way")
    return np.ma.MaskedArray(empty_array(base, shape, dtype))


GENERATORS: Final[dict[str, Any]] = {
    name: getattr(np.random, name) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
}
"""The bit generators of numpy."""


def bit_generator(kind: Any = "MT19937", *_: Any) -> Any:
    """Returns a bit generator, by name or class."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    if name not in GENERATORS or (not isinstance(kind, str) and kind is not GENERATORS[name]):
        raise BadPickle("a random generator of an unknown kind is made")
    return GENERATORS[name]()


def random_state(kind: Any = "MT19937", *_: Any) -> Any:
    """Returns a RandomState. The function that a pickle passes along is not called."""
    return np.random.RandomState(_made(kind))


def generator(kind: Any = "MT19937", *_: Any) -> Any:
    """Returns a Generator, in the same way."""
    return np.random.Generator(_made(kind))


def _made(kind: Any) -> Any:
    return kind if isinstance(kind, tuple(GENERATORS.values())) else bit_generator(kind)


def seed_sequence(cls: Any, checksum: Any, state: Any = None) -> Any:
    """Returns a SeedSequence, empty (predictions do not depend on the seed) or with its numbers."""
    from numpy.random import bit_generator as module

    if cls is not module.SeedSequence or not isinstance(checksum, int):
        raise BadPickle("a seed sequence is made of something else")
    maker: Any = vars(module)["__pyx_unpickle_SeedSequence"]
    return maker(cls, checksum, state)
