"""What a scikit-learn pickle gets for a name: the names of `allow_list`, the estimators, and for what it may use each.

There are three uses. CLASS: the pickle may make instances, by `cls.__new__(cls)` and their state. CALL: it may call the
function, most of them in `parts`. VALUE: it may hold the object and never call it. Any other name is refused before
its module is imported.
"""

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what pickle itself uses; it has no public name
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from typing import Any, Final, NamedTuple

from adapters.pickles import allow_list, parts

CLASS, CALL, VALUE = "class", "call", "value"


class Permitted(NamedTuple):
    """What the pickle gets for a name, and its one use. `any`: every use, as the operator allowed the name."""

    use: str
    thing: Any
    any: bool = False
    set_state: Callable[[Any, Any], None] | None = None
    """Sets the state of an instance, in place of its class."""


SKLEARN: Final = re.compile(r"sklearn(\.\w+)+")
CLOSED: Final = frozenset({"tests", "externals", "conftest", "experimental", "datasets", "_build_utils", "_testing"})
"""Parts of scikit-learn that no model needs."""
JOBLIB_ARRAY: Final = ("joblib.numpy_pickle", "NumpyArrayWrapper")
"""The class that joblib writes in place of an array."""

_VALUES: Final = allow_list.full_names(allow_list.VALUES)
_CLASSES: Final = allow_list.full_names(allow_list.CLASSES)
CALLS: Final = {name: made for named in allow_list.CALLS.values() for name, made in named.items()}
COMPILED: Final = allow_list.full_names(allow_list.COMPILED)
_COMPILED_MODULES: Final = {name.rpartition(".")[0] for name in COMPILED}


def canonical(module: str, name: str) -> tuple[str, str]:
    """Returns today's module and name of what had others in Python 2, numpy 1 and scikit-learn 1.5."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    module = "sklearn._loss._loss" if module == "_loss" else module  # as its extension called itself
    return re.sub(r"^numpy\.core(?=\.|\Z)", "numpy._core", module), name


def permitted(module: str, name: str, allowed: frozenset[str]) -> Permitted | None:
    """Returns what the pickle gets for `module.name`; None if it is not on the allow-list.
    Raises ImportError or AttributeError if an allowed name is not installed."""
    module, name = canonical(module, name)
    full = f"{module}.{name}"
    if full in allowed:
        return Permitted(CALL, _attribute(module, name), any=True)
    if "." in name:
        return None
    if full in CALLS:
        return Permitted(CALL, CALLS[full])
    if full in _VALUES or full in _CLASSES:
        return Permitted(VALUE if full in _VALUES else CLASS, _attribute(module, name))
    return _of_sklearn(module, name, full)


def _of_sklearn(module: str, name: str, full: str) -> Permitted | None:
    if not SKLEARN.fullmatch(module) or CLOSED.intersection(module.split(".")):
        return None
    if full in COMPILED:
        return Permitted(CALL, parts.Compiled(_attribute(module, name)))
    if module in _COMPILED_MODULES:
        if name == "newObj":
            return Permitted(CALL, parts.bare_instance)
        if name.startswith("__pyx_unpickle_") and f"{module}.{name.removeprefix('__pyx_unpickle_')}" in COMPILED:
            maker = getattr(import_module(module), name, None)  # later versions may have none: theirs are only called
            return Permitted(CALL, parts.compiled_state(name, maker))
        return None
    found = _attribute(module, name)
    return Permitted(CLASS, found) if _is_data(found) else None


def _is_data(found: Any) -> bool:
    """True for an estimator of scikit-learn, or one of its named tuples, as IterativeImputer has."""
    from sklearn.base import BaseEstimator

    is_own = isinstance(found, type) and found.__module__.startswith("sklearn.")
    return is_own and (issubclass(found, BaseEstimator) or parts.is_named_tuple(found))


def _attribute(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))
