"""The XGBoost adapter: JSON and UBJ files."""

import json
import re
from typing import Any

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework
from adapters.wording import failing, reason


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, MissingFramework."""
    xgboost = framework("xgboost", "xgboost")
    from adapters.boosted import rows, ubj

    threads = rows.threads_of(options, "xgboost")
    data = (files.root / files.path).read_bytes()
    ubj.check_whole(data, files.path)
    booster = xgboost.Booster()
    with failing(f"{files.path} cannot be loaded by XGBoost {xgboost.__version__}", _plain):
        booster.load_model(bytearray(data))
    ubj.check_trees(bytes(booster.save_raw("ubj")), files.path)
    booster.set_param({"nthread": threads})
    linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
    names = booster.feature_names or ()
    given = rows.rows_of(options, booster.num_features(), names)
    kinds = booster.feature_types
    has_categories = bool(kinds) and "c" in kinds  # they come as their codes, which only a DMatrix takes
    by_matrix = has_categories or linear

    def predict(name: str, built: Any) -> Any:
        if name != "leaf" and not by_matrix:
            kind = "value" if name == "predict" else "margin"
            return booster.inplace_predict(built, predict_type=kind, validate_features=False)
        matrix = xgboost.DMatrix(built, feature_types=kinds, enable_categorical=has_categories)
        flags = {"output_margin": name == "margin", "pred_leaf": name == "leaf"}
        return booster.predict(matrix, validate_features=False, **flags)

    answers = ("predict", "margin") if linear else ("predict", "margin", "leaf")
    return rows.as_model(xgboost, given, predict, answers, names=names)


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
)
