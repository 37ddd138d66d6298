"""The scikit-learn adapter."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.boosted import lightgbm, xgboost
from adapters.imports import framework, hidden, installed
from adapters.pickles.head import looks_like_pickle, looks_like_skops

BOOSTERS: Final[Mapping[str, Callable[[Any, Options], Model]]] = {
    "lightgbm": lightgbm.as_model,
    "xgboost": partial(xgboost.as_model, datatype="FP64"),  # as XGBoost's estimators take
}


def _sklearn() -> object:
    """Imports scikit-learn. One module imports pandas and does not use it, which takes 0.3 s and 29 MB."""
    with hidden("pandas"):
        return framework("sklearn", "sklearn")


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of the estimator in `files.path`. Raises LoadFailed, Refused, MissingFramework."""
    _sklearn()
    from adapters.sklearn import file, model

    estimator, version = file.load_estimator(files, options)
    if type(estimator).__name__ == "Booster":  # alone, and no estimator of scikit-learn
        return BOOSTERS[type(estimator).__module__.partition(".")[0]](estimator, options)
    return model.as_model(estimator, version, files, options)


ADAPTER = Adapter(
    name="sklearn",
    frameworks=("sklearn", "scikit-learn", "scikitlearn", "scikit", "joblib", "pickle", "skops"),
    suffixes=(".joblib", ".pkl", ".pickle", ".skops", ".sav"),
    sniff=lambda head: looks_like_pickle(head) or looks_like_skops(head),
    load=load,
    prepare=_sklearn,
    check=installed("sklearn", "sklearn"),
)
