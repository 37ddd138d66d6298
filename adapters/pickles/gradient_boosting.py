"""Boosters and scikit-learn wrappers of LightGBM, XGBoost and CatBoost in pickles: how their state is set.

None of their own `__setstate__` reads a model, as they read it unchecked: the raw model in a state passes the checks of
the framework's native file and is loaded as one. Every other attribute has to be plain data.
"""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.boosted.catboost import load_cbm
from adapters.boosted.lightgbm import load_text
from adapters.boosted.xgboost import load_raw
from adapters.checks import need

SetState = Callable[[Any, dict[str, Any]], None]

_SCALARS: Final = (type(None), bool, int, float, str, bytes, bytearray)
_SEQUENCES: Final = (list, tuple, set, frozenset)
_MAPPINGS: Final = (dict, OrderedDict, defaultdict)
_OBJECTS: Final = frozenset({
    "lightgbm.basic.Booster", "xgboost.core.Booster", "sklearn.preprocessing._label.LabelEncoder",
    "numpy.random.mtrand.RandomState",
})  # fmt: skip
_DEEPEST: Final = 20
_PREDICTING: Final = frozenset({
    "pred_early_stop", "pred_early_stop_freq", "pred_early_stop_margin", "num_iteration_predict",
    "start_iteration_predict", "verbose", "verbosity",
})  # fmt: skip
"""The further parameters of a LightGBM wrapper that its predictions use; others start threads or name files."""


def _set_plain(target: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        need(_is_plain(value), f"its attribute {name!r} is more than data")
    target.__dict__.update(state)


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    parts: Any = ()
    if kind in _SEQUENCES:
        parts = value
    elif kind in _MAPPINGS:
        parts = chain(value, value.values())
    elif kind is np.ndarray:
        parts = value.ravel().tolist() if value.dtype.hasobject else ()
    elif kind not in _SCALARS and not isinstance(value, np.generic):
        return f"{kind.__module__}.{kind.__qualname__}" in _OBJECTS
    return depth < _DEEPEST and all(_is_plain(part, depth + 1) for part in parts)


def _lightgbm_wrapper(target: Any, state: dict[str, Any]) -> None:
    others = state.get("_other_params", {})
    need(isinstance(others, dict), "its parameters are no dictionary")
    kept = {key: value for key, value in others.items() if key in _PREDICTING}
    _set_plain(target, {**state, "_other_params": kept, "n_jobs": 1})  # None would start `lscpu` to count the cores


def _xgboost_wrapper(target: Any, state: dict[str, Any]) -> None:
    metric = state.get("eval_metric")
    unused = {"callbacks": None, "eval_metric": None if callable(metric) else metric}  # they were for its training
    _set_plain(target, {**state, **unused})


def _lightgbm_booster(target: Any, state: dict[str, Any]) -> None:
    text: Any = state.get("_handle", state.get("handle"))  # `handle` before LightGBM 4
    need(isinstance(text, str), "it holds no model")
    fresh = load_text(text.encode(), "its model", state.get("pandas_categorical"))
    _take(target, fresh, "_handle")
    _set_plain(target, _only(state, "best_iteration", "best_score", "pandas_categorical"))


def _xgboost_booster(target: Any, state: dict[str, Any]) -> None:
    from adapters.boosted.ubj import model_in

    raw: Any = state.get("handle")
    need(isinstance(raw, bytes | bytearray), "it holds no model")
    _take(target, load_raw(model_in(bytes(raw)), "its model"), "handle")
    _set_plain(target, _only(state, "best_iteration", "best_score"))


def _take(target: Any, fresh: Any, handle: str) -> None:
    """Moves what a loaded booster has, its handle too, to the instance that the pickle made."""
    target.__dict__.update(vars(fresh))
    setattr(fresh, handle, None)  # else both would free it


def _only(state: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: state[name] for name in names if name in state}


def _catboost(target: Any, state: dict[str, Any]) -> None:
    from catboost import CatBoost

    raw = state.get("__model")
    need(raw is None or isinstance(raw, bytes), "its model is not bytes")
    parameters = {key: value for key, value in state.items() if not key.startswith("_")}
    need(_is_plain(parameters), "its parameters are more than data")
    target.__dict__.update(vars(CatBoost() if raw is None else _catboost_model(raw)))  # a calibrated one is unfitted
    target.__dict__["_init_params"] = parameters


def _catboost_model(raw: bytes) -> Any:
    """Returns the model in the bytes of a CBM file, through a file in memory: CatBoost reads past the end of bytes that
    are cut off, and not past that of a file."""
    with os.fdopen(os.memfd_create("model"), "wb") as file:
        file.write(raw)
        file.flush()
        return load_cbm(Path(f"/proc/self/fd/{file.fileno()}"), "its model")


_LIGHTGBM: Final = ("LGBMModel", "LGBMClassifier", "LGBMRegressor", "LGBMRanker")
_XGBOOST: Final = ("XGBModel", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
_CATBOOST: Final = ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
BOOSTERS: Final[Mapping[str, SetState]] = {
    "lightgbm.basic.Booster": _lightgbm_booster,
    "xgboost.core.Booster": _xgboost_booster,
    **{f"lightgbm.sklearn.{name}": _lightgbm_wrapper for name in _LIGHTGBM},
    **{f"xgboost.sklearn.{name}": _xgboost_wrapper for name in _XGBOOST},
    **{f"catboost.core.{name}": _catboost for name in _CATBOOST},
}
"""Classes that a pickle may make, and what sets their state."""
