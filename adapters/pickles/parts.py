"""The functions that a pickle may call at `--trust restricted`: they make containers, dtypes and arrays.

Each replaces the function that the pickle names, and checks its arguments, which numpy's own functions do not:
https://github.com/numpy/numpy/blob/v2.3.0/numpy/_core/src/multiarray/methods.c (array_setstate).
"""

import functools
import math
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

import numpy as np

from adapters.checks import need

DTYPE: Final = re.compile(r"[|<>=]?([?bBhHiIlLqQefdgFDG]|[biufcSUVOa]\d*|[Mm]8)")

STATES: Final = {
    "sklearn.metrics._dist_metrics": 3,
    "sklearn.neighbors._kd_tree": 13,
    "sklearn.neighbors._ball_tree": 13,
}
"""How many elements the classes of a module take from a state without looking how many it has."""


class Compiled:
    """An extension class for a pickle: to be called with numbers and arrays, or given to functions of its module."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def __call__(self, *args: Any) -> Any:
        """Returns an instance. Raises Damaged for unusual arguments."""
        plain = all(a is None or isinstance(a, bool | int | float | np.ndarray | np.generic) for a in args)
        need(plain, f"{self.cls.__name__} is made with {[type(a).__name__ for a in args]}")
        if self.cls.__name__ == "Tree":  # its constructor reads n_outputs numbers from the array, unchecked
            ok = len(args) == 3 and isinstance(args[1], np.ndarray) and args[1].shape == (args[2],) and args[2] > 0
            sized = ok and 0 < int(args[1].min()) <= int(args[1].max()) < 1 << 24 and args[0] >= 0
            need(sized, "a tree is made with sizes that do not agree")
        return self.cls(*args)


def check_state(cls: type, state: Any) -> None:
    """Raises Damaged if the `__setstate__` of an extension class would read past the end of a tuple."""
    least = STATES.get(cls.__module__, 0)
    whole = not least or (isinstance(state, tuple) and len(state) >= least)
    need(whole, f"the state of a {cls.__name__} is not of {least} parts")


def compiled_state(name: str, maker: Any) -> Callable[..., Any]:
    """Cython's `__pyx_unpickle_X(cls, checksum, state)`, for that class alone; without a `maker` it is called with the
    numbers of its state."""

    def make(cls: Any, checksum: int, state: Any = None) -> Any:
        its_own = isinstance(cls, Compiled) and name == f"__pyx_unpickle_{cls.cls.__name__}"
        need(its_own, f"{name} is called for another class")
        numbers = state is None or (isinstance(state, tuple) and all(isinstance(s, int | float) for s in state))
        need(numbers, f"{name} gets a state that is not of numbers")
        return cls(*(state or ())) if maker is None else maker(cls.cls, checksum, state)

    return make


def bare_instance(cls: Any) -> Any:
    """Cython's `newObj(cls)`."""
    need(isinstance(cls, Compiled), "newObj is called for something that is no extension class")
    return cls.cls.__new__(cls.cls)


def reconstructor(cls: Any, base: Any, state: Any) -> Any:
    """`copyreg._reconstructor`, which makes instances in protocols 0 and 1."""
    need(isinstance(cls, type) and base in (object, dict), "an instance is made on an unusual base")
    if base is object:
        return object.__new__(cls)
    made = dict.__new__(cls)
    need(isinstance(made, dict) and isinstance(state, dict), "a dictionary is made of something else")
    dict.update(made, state)
    return made


class Partial(functools.partial):  # type: ignore[type-arg]  # of any function that it accepts
    """`functools.partial` of a function that a pickle may hold, with plain arguments."""

    @classmethod
    def of(cls, function: Any) -> "Partial":
        """Returns what `functools.partial(function)` is; its arguments come as its state. Raises Damaged."""
        own = getattr(function, "__module__", None) or "numpy"  # numpy's ufuncs say none
        is_function = isinstance(function, FunctionType | np.ufunc | type(np.mean))  # the last is a kind of numpy's own
        pure = is_function and own.partition(".")[0] in ("sklearn", "numpy")
        made_of = "a partial is made of something else than a function of scikit-learn or numpy"
        need(pure, f"{made_of}; if you trust who made it, run it all with --trust unsafe")
        return cls(function)

    def __setstate__(self, state: Any) -> None:
        function, args, keywords, _attributes = state
        need(function is self.func and not args and isinstance(keywords, dict), "a partial has an unusual state")
        if "force_all_finite" in keywords:  # its name before scikit-learn 1.6
            keywords["ensure_all_finite"] = keywords.pop("force_all_finite")
        values = [v for value in keywords.values() for v in (value if isinstance(value, list | tuple) else [value])]
        need(all(map(_is_argument, values)), "a partial has arguments that are no plain values")
        functools.partial.__setstate__(self, (function, (), keywords, {}))  # type: ignore[attr-defined]  # stubs lack it


def _is_argument(value: Any) -> bool:
    is_dtype = isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))
    return value is None or is_dtype or isinstance(value, bool | int | float | str)


def is_named_tuple(cls: type) -> bool:
    """True for a class that `collections.namedtuple` or `typing.NamedTuple` made."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def make_bytes(*args: Any) -> bytes:
    """`bytes()` and `bytes(list)`, as protocols below 3 write them; never `bytes(count)`."""
    need(not args or isinstance(args[0], list | tuple | bytes), "bytes are made of something else than bytes")
    return bytes(*args[:1])


def make_set(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what makes a set or frozenset of a list, and of nothing that counts without being there, as a range."""

    def make(*args: Any) -> Any:
        need(all(isinstance(arg, list | tuple | set | frozenset) for arg in args), "a set is made of something else")
        return kind(*args)

    return make


def encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, which makes bytes in protocols below 3."""
    need(isinstance(text, str) and encoding in ("latin1", "latin-1"), "text is encoded in an unusual way")
    return text.encode("latin1")


def default_dict(factory: Any = None) -> defaultdict[Any, Any]:
    """Returns a defaultdict of plain containers and numbers."""
    plain = factory in (None, int, float, list, dict, str, tuple) or factory is ordered_dict
    need(plain, "a defaultdict would call something else than a plain type")
    return defaultdict(factory)


def ordered_dict(*pairs: Any) -> OrderedDict[Any, Any]:
    """`OrderedDict(pairs)`: a pickle never gets the class itself."""
    return OrderedDict(*pairs)


def make_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    """Returns a new dtype, whose state may follow (`set_dtype_state`)."""
    if isinstance(code, type) and issubclass(code, np.generic):
        return own_dtype(np.dtype(code))  # never numpy's shared one, whose state must not change
    need(isinstance(code, str | bytes), "a dtype is made of something else than a code")
    text = code.decode("latin1") if isinstance(code, bytes) else code
    need(DTYPE.fullmatch(text), f"a dtype has the code {text[:40]!r}")
    return own_dtype(np.dtype(text))


def set_dtype_state(dtype: np.dtype[Any], state: Any) -> None:
    """Sets byte order and fields of a dtype. Numpy's own function accepts flags that hide objects in it."""
    _version, order, subdtype, names, fields = state[:5]
    usual = subdtype is None and order in ("<", ">", "|", "=") and (names is None or dtype.kind == "V")
    need(usual, "a dtype has an unusual state")
    if dtype.kind in "mM":
        wanted = np.dtype(f"{dtype.kind}8[{_unit(state)}]").newbyteorder(order)
    else:
        wanted = dtype.newbyteorder(order) if names is None else _structured(names, fields, state[5])
    dtype.__setstate__(wanted.__reduce__()[2])  # type: ignore[attr-defined]  # numpy's stubs do not know it


def _unit(state: Any) -> str:
    """Returns the unit of dates: it stands at the end of their state."""
    _, (unit, *counts) = state[8]
    need(unit in (b"D", b"h", b"m", b"s", b"ms", b"us", b"ns") and counts == [1, 1, 1], "dates are of an unusual unit")
    return str(unit, "ascii")


def _structured(names: Any, fields: Any, itemsize: Any) -> np.dtype[Any]:
    agree = isinstance(names, tuple) and isinstance(fields, dict) and set(names) == set(fields)
    need(agree, "a dtype has fields that do not agree")
    formats, offsets = [fields[n][0] for n in names], [fields[n][1] for n in names]
    plain = isinstance(itemsize, int) and all(_is_plain(f) for f in formats)
    need(plain, "a dtype has fields of objects")
    own = [own_dtype(each) for each in formats]
    return np.dtype({"names": list(names), "formats": own, "offsets": offsets, "itemsize": itemsize})


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and not dtype.hasobject


def own_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns a copy of a dtype: a state that the pickle gives the dtype later would change the size of elements."""
    return dtype.newbyteorder("|")  # `np.dtype(…, copy=True)` copies no dtype of texts and none of fields


def empty_array(cls: Any, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """numpy's `_reconstruct`: returns an array of no elements, whose state follows. A matrix becomes a plain array."""
    need(cls in (np.ndarray, np.matrix) and math.prod(shape) == 0, "an array is made in an unusual way")
    return np.empty(shape, dtype="b" if dtype in ("b", b"b") else np.dtype(dtype))


def set_array_state(array: np.ndarray[Any, Any], state: Any) -> None:
    """Sets the contents of an array made by `empty_array`."""
    *_, shape, dtype, fortran, data = state
    fits = isinstance(dtype, np.dtype) and isinstance(data, list if dtype.hasobject else bytes)
    need(fits, "an array has contents that are not of its type")
    need(not dtype.hasobject or len(data) == math.prod(shape), "an array has another number of objects than elements")
    whole: Any = (1, tuple(shape), own_dtype(dtype), bool(fortran), data)
    array.__setstate__(whole)


def set_masked_state(array: Any, state: Any) -> None:
    """Sets the contents and the mask of a masked array made by `empty_masked_array`."""
    version, shape, dtype, fortran, data, mask, filling = state
    for contents, kind in ((data, dtype), (mask, np.ma.make_mask_descr(dtype))):
        set_array_state(np.empty(0, "b"), (shape, kind, fortran, contents))  # raises where numpy would not
    array.__setstate__((version, shape, own_dtype(dtype), fortran, data, mask, filling))


def array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray[Any, Any]:
    """numpy's `_frombuffer`, which makes arrays in protocol 5."""
    need(_is_plain(dtype) and isinstance(buffer, bytes | bytearray), "an array is made of something else than bytes")
    flat: np.ndarray[Any, Any] = np.frombuffer(buffer, dtype=own_dtype(dtype))
    if order == "K" and axis_order is not None:
        return flat.reshape(shape, order="C").transpose(axis_order)
    return flat.reshape(shape, order=order)


def make_scalar(dtype: Any, data: Any = None) -> Any:
    """numpy's `scalar`: returns one number or text."""
    need(_is_plain(dtype), "a scalar is made of an object")
    raw = data.encode("latin1") if isinstance(data, str) else data
    need(isinstance(raw, bytes) and len(raw) == dtype.itemsize, "a scalar has another size than its type")
    return np.frombuffer(raw, dtype=own_dtype(dtype), count=1)[0] if raw else dtype.type()


class Distribution:
    """A distribution of scipy.stats or a part of it, from which a search drew parameters, or a callback of a training:
    no prediction uses it."""


HIST_BOOSTING: Final = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"
TEXT_METHODS: Final = (str.split, str.splitlines, str.strip, str.lower, str.upper, str.casefold)
"""What people give a vectoriser as its tokenizer or preprocessor; none makes more of a text than it has."""


def method_of(of: Any, name: Any, *_: Any) -> Any:
    """`getattr`, by which a discrete distribution holds its own methods, a vectoriser a method of texts, and
    HistGradientBoosting the one that its early stopping calls."""
    if name == "_raw_predict" and type(of).__module__ == HIST_BOOSTING:
        return MethodType(getattr(type(of), name), of)
    if of is str:
        found = next((method for method in TEXT_METHODS if method.__name__ == name), None)
        need(found is not None, f"getattr is called for a text's {str(name)[:40]!r}")
        return found
    need(isinstance(of, Distribution), "getattr is called for something else than a distribution")
    return Distribution()


def empty_masked_array(cls: Any, base: Any, shape: Any, dtype: Any) -> Any:
    """numpy.ma's `_mareconstruct`."""
    usual = cls is np.ma.MaskedArray and base is np.ndarray and math.prod(shape) == 0
    need(usual, "a masked array is made in an unusual way")
    return np.ma.MaskedArray(empty_array(base, shape, dtype), mask=np.empty(shape, np.bool_))


_KINDS: Final = (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)


def bit_generator(kind: Any = "MT19937", *_: Any) -> Any:
    """Returns a bit generator, by name or class."""
    name = kind if isinstance(kind, str) else ""
    found: Any = next((known for known in _KINDS if kind is known or name == known.__name__), None)
    need(found, "a random generator of an unknown kind is made")
    return found()


def drawing(cls: Any) -> Callable[..., Any]:
    """Returns what makes a `cls` of a bit generator. The function that a pickle passes along is not called."""
    return lambda kind="MT19937", *_: cls(kind if isinstance(kind, _KINDS) else bit_generator(kind))


def seed_sequence(cls: Any, checksum: Any, state: Any = None) -> Any:
    """Returns a SeedSequence, empty (predictions do not depend on the seed) or with its numbers."""
    from numpy.random import bit_generator as module

    need(cls is module.SeedSequence and isinstance(checksum, int), "a seed sequence is made of something else")
    maker: Any = vars(module)["__pyx_unpickle_SeedSequence"]
    return maker(cls, checksum, state)
