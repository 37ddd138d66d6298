"""What a CatBoost model takes: a matrix of numbers, or columns where some are categories or texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adapters import rows
from adapters.base import LoadFailed, Options, TensorSpec, WrongInput
from adapters.values import DTYPES, to_text


@dataclass(frozen=True, slots=True)
class Given:
    """The specs, how the arrays become what `predict` takes, and two rows that it should accept."""

    specs: tuple[TensorSpec, ...]
    build: Callable[[dict[str, Any]], Any]
    example: Callable[[], Any]
    described: dict[str, str] = field(default_factory=dict)


def rows_of(catboost: Any, model: Any, options: Options) -> Given:
    """A matrix `x` (FP32) where all features are numbers; else a column each, BYTES for categories and texts."""
    names = [str(name) for name in model.feature_names_]
    special = sorted({*model.get_cat_feature_indices(), *model.get_text_feature_indices()})
    if not special:
        plain = rows.rows_of(options, len(names), names)
        own_names = () if names == [str(i) for i in range(len(names))] else names
        return Given(plain.specs, plain.build, plain.example, rows.described(own_names))
    if model.get_embedding_feature_indices():
        raise LoadFailed("CatBoost models with embedding features are not served: export the model to ONNX")
    return _columns(catboost, model, options, names)


def _columns(catboost: Any, model: Any, options: Options, names: list[str]) -> Given:
    categories, texts = set(model.get_cat_feature_indices()), set(model.get_text_feature_indices())
    named = [f"x{name}" if name.isdigit() else name for name in names]
    kinds = ["BYTES" if i in categories | texts else "FP32" for i in range(len(names))]
    specs = options.inputs or tuple(TensorSpec(n, k, (-1,)) for n, k in zip(named, kinds, strict=True))
    if sorted(s.name for s in specs) != sorted(named):
        raise LoadFailed(f"serving.inputs must name the model's features: {', '.join(named)}")
    ordered = sorted(specs, key=lambda s: named.index(s.name))

    def build(arrays: dict[str, Any]) -> Any:
        lengths = {len(a) for a in arrays.values()}
        if len(lengths) > 1:
            raise WrongInput(
                f"the columns have different numbers of rows: {', '.join(str(n) for n in sorted(lengths))}"
            )
        made = np.empty((lengths.pop(), len(ordered)), dtype=object)
        for i, spec in enumerate(ordered):
            array = arrays[spec.name]
            made[:, i] = to_text(array, f"input {spec.name!r}") if spec.datatype == "BYTES" else array
        return catboost.Pool(made, cat_features=sorted(categories), text_features=sorted(texts), feature_names=names)

    def example() -> Any:
        return build({s.name: _two(s.datatype) for s in ordered})

    return Given(tuple(specs), build, example)


def _two(datatype: str) -> Any:
    made = np.zeros(2, dtype=DTYPES[datatype])
    if datatype == "BYTES":
        made.fill(b"a")
    return made
