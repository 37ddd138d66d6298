"""The LightGBM adapter: its text files."""

import logging
from typing import Any

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework
from adapters.wording import failing


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, MissingFramework."""
    lightgbm = framework("lightgbm", "lightgbm")
    from adapters.boosted import rows, text

    threads = rows.threads_of(options, "lightgbm")
    whole = text.checked((files.root / files.path).read_bytes(), files.path)
    # drops what LightGBM would print to standard output; what matters comes as an exception
    lightgbm.register_logger(logging.Logger("lightgbm", logging.CRITICAL))
    with failing(f"{files.path} cannot be loaded by LightGBM {lightgbm.__version__}"):
        booster = lightgbm.Booster(model_str=whole)
    names = booster.feature_name()

    def predict(name: str, built: Any) -> Any:
        return booster.predict(built, num_threads=threads, raw_score=name == "raw_score", pred_leaf=name == "leaf")

    given = rows.rows_of(options, booster.num_feature(), names)
    shown = [] if names == [f"Column_{i}" for i in range(len(names))] else names
    return rows.as_model(lightgbm, given, predict, ("predict", "raw_score", "leaf"), names=shown)


ADAPTER = Adapter(
    name="lightgbm",
    frameworks=("lightgbm", "lgbm", "lgb", "light-gbm"),
    suffixes=(".lgb", ".lightgbm", ".lgbm"),
    sniff=lambda head: head.startswith((b"tree\nversion=", b"tree\r\nversion=")),
    load=load,
    prepare=lambda: framework("lightgbm", "lightgbm"),
)
