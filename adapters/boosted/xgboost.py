"""XGBoost, from its own JSON and UBJ files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from adapters import checks as own
from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.frameworks import framework

if TYPE_CHECKING:
    from adapters.base import Arrays

KNOWN: Final = {"threads": own.whole}
OUTPUTS: Final = ("predict", "margin", "leaf")


def prepare() -> None:
    """Imports XGBoost."""
    framework("xgboost", "xgboost")


def load(files: ModelFiles, options: Options) -> Model:
    """The booster in `files.path`, its trees checked. Raises LoadFailed, MissingFramework."""
    own.check(options.own, KNOWN, "xgboost")
    xgboost = framework("xgboost", "xgboost")
    from adapters import rows
    from adapters.boosted import xgboost_file

    booster = _booster(xgboost, files)
    xgboost_file.check_trees(bytes(booster.save_raw("ubj")), files.path)
    linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
    booster.set_param({"nthread": int(str(options.own.get("threads", options.threads or 1)))})
    names = booster.feature_names or ()
    given = rows.rows_of(options, booster.num_features(), names)
    predict = _predict(xgboost, booster, linear=linear)
    example = given.example()
    outputs = tuple(
        TensorSpec(name, "FP32", (-1, *predict(name, example).shape[1:])) for name in OUTPUTS[: 2 if linear else 3]
    )

    def answer(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        built = given.build(arrays)
        return {name: predict(name, built) for name in wanted}

    return Model(
        platform="xgboost",
        inputs=given.specs,
        outputs=outputs,
        predict=answer,
        default_outputs=("predict",),
        batch=True,
        properties={"xgboost_version": xgboost.__version__, **rows.described(names)},
    )


def _booster(xgboost: Any, files: ModelFiles) -> Any:
    from adapters.boosted.xgboost_file import check_whole

    data = (files.root / files.path).read_bytes()
    check_whole(data, files.path)
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(data))
    except xgboost.core.XGBoostError as error:
        raise LoadFailed(f"{files.path} cannot be loaded by XGBoost {xgboost.__version__}: {_plain(error)}") from error
    return booster


def _plain(error: Exception) -> str:
    text = str(error).split("Stack trace")[0]
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text)
    return " ".join(text.split())[:200]


def _predict(xgboost: Any, booster: Any, *, linear: bool) -> Any:
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

    return predict


def sniff(head: bytes) -> bool:
    """Whether `head` begins a model in JSON or UBJ."""
    if head.startswith(b"{L") and len(head) > 17:
        return head[10:17] in (b"learner", b"version")
    return re.match(rb'\s*\{\s*"(learner|version)"\s*:', head) is not None and b'"learner"' in head


ADAPTER = Adapter(
    name="xgboost",
    frameworks=("xgboost", "xgb"),
    suffixes=(".ubj", ".xgb"),
    sniff=sniff,
    load=load,
    prepare=prepare,
)
