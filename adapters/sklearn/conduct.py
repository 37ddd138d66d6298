"""What the parts of a loaded scikit-learn model may hold and do: one gate, whatever file format they came in.

A file names functions and classes as values: parameters, and attributes. Those of the allow-list compute and nothing
else. Here each that is held is looked at, with the parameters that make scikit-learn itself open files or call back.
"""

import functools
from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any, Final

import numpy as np

from adapters.pickles.parts import TEXT_METHODS, Compiled, Distribution, Partial
from adapters.pickles.rules import CLASS, VALUE, permitted
from adapters.sklearn.walk import NAMED, walk
from adapters.trust import names_refused, reach_refused

_PLAIN: Final = (bool, int, float, np.number, np.bool_)
_MADE_BY_SKLEARN: Final = frozenset({"scipy.interpolate._interpolate.interp1d"})
"""No file can make these, nor what they call: estimators do, of numbers, when their state is set."""
_MOST_VALUES: Final = 100_000
_OPENS_FILES: Final = ("filename", "file")
_UNWRITTEN: Final = frozenset({"out", "where", "dtype", "casting", "order", "subok", "signature"})
"""Arguments by which a function of numpy's writes into what it is given, or leaves elements as they were in memory."""


def check_conduct(model: Any, file: str, kind: str, trust: str, allowed: frozenset[str]) -> None:
    """Raises Refused if a part of `model` holds a function or class that is not of the list, or reaches outside."""
    wanted, dtypes = set[str](), set[int]()
    for thing in walk(model):
        if isinstance(thing, np.ndarray) and thing.dtype.hasobject and _is_endless(thing.ravel().tolist()):
            raise reach_refused(file, f"holds an array of lists or maps of more than {_MOST_VALUES} values")
        for name, value in _held(thing):
            if "dtype" in name and isinstance(value, list | tuple):
                dtypes.add(id(value))
            if callable(value) and not _may_hold(value, name, id(thing) in dtypes, allowed):
                wanted.add(_full_name(value))
        for name in _replacing(thing):
            raise reach_refused(file, f"holds a {type(thing).__name__} whose method {name[:40]} it replaces")
        for what in _reaching(thing):
            raise reach_refused(file, f"holds a {type(thing).__name__} with {what}")
        if getattr(thing, "verbose", None) and hasattr(thing, "get_params"):
            thing.verbose = 0  # it would write to standard output
    if wanted:
        raise names_refused(file, kind, wanted, trust)


def _held(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a part holds, by the name of its attribute; elements of containers have none."""
    if isinstance(thing, Mapping):
        yield from (("", value) for value in thing.values())
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from (("", value) for value in thing)
    elif isinstance(thing, np.ndarray):
        yield from (("", value) for value in (thing.ravel().tolist() if thing.dtype.hasobject else ()))
    elif (
        hasattr(thing, "__dict__") and not isinstance(thing, NAMED) and _full_name(type(thing)) not in _MADE_BY_SKLEARN
    ):
        yield from vars(thing).items()


def _replacing(thing: Any) -> Iterator[str]:
    """Yields the attributes that would be called in place of a method of their class. scikit-learn sets none but the
    method itself, as early stopping does."""
    if hasattr(thing, "__dict__") and not isinstance(thing, NAMED) and _full_name(type(thing)) not in _MADE_BY_SKLEARN:
        for name, value in vars(thing).items():
            own = next((vars(base)[name] for base in type(thing).__mro__ if name in vars(base)), None)
            is_itself = isinstance(value, MethodType) and value.__self__ is thing and value.__func__ is own
            if _is_method(own) and not is_itself:
                yield name


def _is_method(value: Any) -> bool:
    """True for what a class has for its instances to call, which an attribute of the same name hides. A property is
    not hidden by one, and a cached property keeps its value in it."""
    if isinstance(value, type | functools.cached_property) or hasattr(type(value), "__set__"):
        return False
    return value is not None and (callable(value) or hasattr(type(value), "__get__"))


def _may_hold(value: Any, name: str, of_dtypes: bool, allowed: frozenset[str]) -> bool:
    if isinstance(value, type):
        is_dtype = value in (bool, int, float, str, object) or issubclass(value, np.generic)
        is_split = name == "cv" and value.__module__ == "sklearn.model_selection._split"  # of repeated splits
        return is_split or (is_dtype and ("dtype" in name or of_dtypes)) or _full_name(value) in allowed
    if any(value is method for method in TEXT_METHODS):
        return True
    if isinstance(value, MethodType):
        value = value.__self__
    if isinstance(value, Partial | Distribution) or _full_name(type(value)) in _MADE_BY_SKLEARN:
        return True  # of what they are made, the unpickler has checked
    made = permitted(type(value).__module__, type(value).__qualname__, allowed)
    if made and made.thing is type(value) and (made.any or made.use == CLASS):
        return True
    if made and isinstance(made.thing, Compiled) and made.thing.cls is type(value):
        return True
    found = permitted(*_module_and_name(value), allowed)
    return bool(found and found.thing is value and (found.any or found.use == VALUE))


def _module_and_name(value: Any) -> tuple[str, str]:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
    return getattr(value, "__module__", None) or ("numpy" if isinstance(value, np.ufunc) else "builtins"), name


def _full_name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return "functools.partial"
    return ".".join(_module_and_name(value))


def _is_endless(elements: list[Any]) -> bool:
    """True if the lists and maps among the elements, as a search keeps those of its grid, hold too many values: a list
    may hold itself, or another one many times."""
    stack, count = list(filter(_is_container, elements)), 0
    while stack:
        part = stack.pop()
        count += len(part)
        if count > _MOST_VALUES:
            return True
        stack += filter(_is_container, part.values() if isinstance(part, dict) else part)
    return False


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple | dict | set | frozenset)


def _unwritten(function: Partial) -> Iterator[str]:
    if _module_and_name(function.func)[0].startswith("numpy"):
        for name in sorted(_UNWRITTEN & function.keywords.keys()):
            yield f"the argument {name}, by which it may leave parts of its answer as they were in memory"


def _reaching(thing: Any) -> Iterator[str]:
    """Yields the parameters by which a part would act outside the model, or on memory that is not its own."""
    if isinstance(thing, Partial):
        yield from _unwritten(thing)
    if not hasattr(thing, "get_params"):
        return
    held = vars(thing)
    if held.get("memory") is not None:
        yield "memory, which writes files"
    if held.get("input") in _OPENS_FILES:
        yield f"input={held['input']!r}, which opens files that a client names"
    for name in ("kw_args", "inv_kw_args") if type(thing).__name__ == "FunctionTransformer" else ():
        for key, value in (held.get(name) or {}).items():
            if key in _UNWRITTEN or not _is_plain(value):
                yield f"{name}[{str(key)[:40]!r}], which is no plain number"
    for name in ("func", "inverse_func") if type(thing).__name__ == "FunctionTransformer" else ():
        function = held.get(name)  # of a partial, the unpickler has checked the function and its arguments
        if function is not None and not (
            isinstance(function, Partial) or _module_and_name(function)[0].startswith("numpy")
        ):
            yield f"{name}={_full_name(function)}, which is no function of numpy's"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(value is not inner and isinstance(inner, _PLAIN) for inner in value)
    return value is None or isinstance(value, _PLAIN)
