"""The LightGBM adapter: its text files."""

import logging
from typing import Any

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework, installed
from adapters.wording import failing


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, MissingFramework."""
    return as_model(load_text((files.root / files.path).read_bytes(), files.path), options)


def load_text(data: bytes, name: str, categories: Any = None) -> Any:
    """Returns the checked Booster of a model text; its `categories` are those of its features by position.
    `categories` are those of its columns of texts, if something else than the text says them.
    Raises LoadFailed, MissingFramework."""
    lightgbm = framework("lightgbm", "lightgbm")
    from adapters.boosted import text

    whole = text.checked(data, name)
    # drops what LightGBM would print to standard output; what matters comes as an exception
    lightgbm.register_logger(logging.Logger("lightgbm", logging.CRITICAL))
    with failing(f"{name} cannot be loaded by LightGBM {lightgbm.__version__}"):
        booster = lightgbm.Booster(model_str=whole)
        booster.categories = text.categories(data.decode(), categories)
    return booster


def as_model(booster: Any, options: Options) -> Model:
    """Returns the model of a checked Booster."""
    lightgbm = framework("lightgbm", "lightgbm")
    from adapters.boosted import rows

    threads, names = rows.threads_of(options, "lightgbm"), booster.feature_name()

    def predict(name: str, built: Any) -> Any:
        return booster.predict(built, num_threads=threads, raw_score=name == "raw_score", pred_leaf=name == "leaf")

    known = [] if names == [f"Column_{i}" for i in range(len(names))] else names
    given = rows.rows_of(options, booster.num_feature(), known, "FP64", categories_of(booster))
    return rows.as_model(lightgbm, given, predict, ("predict", "raw_score", "leaf"))


def categories_of(booster: Any) -> dict[int, list[Any]]:
    """Returns the categories of a Booster's features by position, in the order of their codes."""
    if not hasattr(booster, "categories"):  # it came out of a pickle at `unsafe`
        from adapters.boosted import text

        booster.categories = text.categories(booster.model_to_string(), booster.pandas_categorical)
    found: dict[int, list[Any]] = booster.categories
    return found


ADAPTER = Adapter(
    name="lightgbm",
    frameworks=("lightgbm", "lgbm", "lgb", "light-gbm"),
    suffixes=(".lgb", ".lightgbm", ".lgbm"),
    sniff=lambda head: head.startswith((b"tree\nversion=", b"tree\r\nversion=")),
    load=load,
    prepare=lambda: framework("lightgbm", "lightgbm"),
    check=installed("lightgbm", "lightgbm"),
)
