"""What a pickle of a model may name beside what scikit-learn, numpy and scipy have today, and gets in place of it.

Only pickles may: in a skops file the classes would set their state themselves, unchecked. What no prediction uses is
left out of both.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from adapters.checks import need
from adapters.pickles import pandas
from adapters.pickles.gradient_boosting import BOOSTERS
from adapters.pickles.parts import Distribution
from adapters.pickles.rules import CALL, CLASS, VALUE, Permitted, canonical, permitted


class ColumnList(list[Any]):
    """`_RemainderColsList`: the columns of a remainder, a list that warns, in scikit-learn 1.5 and 1.6."""


class Token:
    """A class that is an argument of a function in `pandas`, and nothing else."""


_UNUSED: Final = {
    "the distributions that a search drew from": r"scipy\.stats\._(continuous_distns|discrete_distns)\.\w+_gen"
    r"|scipy\.stats\._distn_infrastructure\.(rv_frozen|rv_continuous_frozen|rv_discrete_frozen)",
    "a distribution keeps some of its methods in one": r"numpy\.vectorize",
    "callbacks of a wrapper's training": r"xgboost\.callback\.[A-Z]\w+",
}
"""Classes that no prediction uses, by the reason why a model has them: their state is dropped."""
_UNUSED_NAMES: Final = re.compile("|".join(_UNUSED.values()))
_RENAMED: Final[Mapping[str, str]] = {
    "lightgbm.compat._LGBMLabelEncoder": "sklearn.preprocessing._label.LabelEncoder",
    "xgboost.compat.XGBoostLabelEncoder": "sklearn.preprocessing._label.LabelEncoder",
}
"""Names of older versions for what is scikit-learn's own class, or was one that inherited it."""


def granted(module: str, name: str, allowed: frozenset[str]) -> Permitted | None:
    """Returns what a pickle gets for `module.name`; None if no list has it.
    Raises ImportError or AttributeError if an allowed name is not installed."""
    return _foreign(*canonical(module, name)) or permitted(module, name, allowed)


def _foreign(module: str, name: str) -> Permitted | None:
    full = f"{module}.{name}"
    if set_state := BOOSTERS.get(full):
        return Permitted(CLASS, getattr(import_module(module), name), set_state=set_state)
    if full in _RENAMED:
        renamed, _, last = _RENAMED[full].rpartition(".")
        return Permitted(CLASS, getattr(import_module(renamed), last))
    if full in pandas.CALLS:
        return Permitted(CALL, pandas.CALLS[full])
    if full == "sklearn.compose._column_transformer._RemainderColsList":
        return Permitted(CLASS, ColumnList, set_state=_fill)
    if full in pandas.ARRAYS:
        return Permitted(CLASS, pandas.Extension)
    if full in pandas.VALUES:
        return Permitted(VALUE, Token())
    return Permitted(CLASS, Distribution, set_state=_drop) if is_unused(full) else None


def is_unused(full: str) -> bool:
    """True for the name of a class that no prediction uses."""
    return bool(_UNUSED_NAMES.fullmatch(full))


def _fill(made: Any, state: Any) -> None:
    need(isinstance(state, dict) and isinstance(state.get("data"), list), "a list of columns has an unusual state")
    made.extend(state["data"])


def _drop(_made: Any, _state: Any) -> None:
    pass
