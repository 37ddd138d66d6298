"""The XGBoost adapter: JSON and UBJ files."""

import json
import re
from typing import Any

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework, installed
from adapters.wording import failing, reason


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, MissingFramework."""
    return as_model(load_raw((files.root / files.path).read_bytes(), files.path), options)


def load_raw(data: bytes, name: str) -> Any:
    """Returns the checked Booster of a model in JSON or UBJ; its `categories` are those of its features by position.
    Raises LoadFailed, MissingFramework."""
    xgboost = framework("xgboost", "xgboost")
    from adapters.boosted.booster import checked

    categories = checked(data, name)
    booster = xgboost.Booster()
    with failing(f"{name} cannot be loaded by XGBoost {xgboost.__version__}", _plain):
        booster.load_model(bytearray(data))
    booster.categories = categories
    return booster


def as_model(booster: Any, options: Options, datatype: str = "FP32") -> Model:
    """Returns the model of a checked Booster, with the trees up to its best iteration, as XGBoost's estimators do."""
    xgboost = framework("xgboost", "xgboost")
    from adapters.boosted import rows

    booster.set_param({"nthread": rows.threads_of(options, "xgboost")})
    linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
    names, kinds = booster.feature_names or (), booster.feature_types
    given = rows.rows_of(options, booster.num_features(), names, datatype, categories_of(booster))
    has_categories = bool(kinds) and "c" in kinds  # they go in as their codes, which only a DMatrix takes
    by_matrix = has_categories or linear
    best = booster.attr("best_iteration")
    trees = {} if best is None or linear else {"iteration_range": (0, int(best) + 1)}

    def predict(name: str, built: Any) -> Any:
        if name != "leaf" and not by_matrix:
            kind = "value" if name == "predict" else "margin"
            return booster.inplace_predict(built, predict_type=kind, validate_features=False, **trees)
        matrix = xgboost.DMatrix(built, feature_types=kinds, enable_categorical=has_categories)
        flags = {"output_margin": name == "margin", "pred_leaf": name == "leaf"}
        return booster.predict(matrix, validate_features=False, **flags, **trees)

    answers = ("predict", "margin") if linear else ("predict", "margin", "leaf")
    return rows.as_model(xgboost, given, predict, answers)


def categories_of(booster: Any) -> dict[int, list[Any]]:
    """Returns the categories of a Booster's features by position, in the order of their codes. Raises LoadFailed."""
    if not hasattr(booster, "categories"):  # it came out of a pickle at `unsafe`
        from adapters.boosted.booster import checked

        booster.categories = checked(bytes(booster.save_raw("ubj")), "its model")
    found: dict[int, list[Any]] = booster.categories
    return found


def _plain(error: BaseException) -> str:
    """Returns XGBoost's reason without the time, source position and stack trace."""
    text = str(error).split("Stack trace")[0]
    return reason(ValueError(re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text)))


def sniff(head: bytes) -> bool:
    """True if `head` begins a model in JSON or UBJ."""
    if head.startswith(b"{L") and len(head) > 17:
        return head[10:17] in (b"learner", b"version")
    return re.match(rb'\s*\{\s*"(learner|version)"\s*:', head) is not None and b'"learner"' in head


ADAPTER = Adapter(
    name="xgboost",
    frameworks=("xgboost", "xgb"),
    suffixes=(".ubj", ".xgb"),
    sniff=sniff,
    load=load,
    prepare=lambda: framework("xgboost", "xgboost"),
    check=installed("xgboost", "xgboost"),
)
