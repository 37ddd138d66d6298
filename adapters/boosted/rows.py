"""What the three share: one matrix or a column for each feature in, an array for each kind of answer out."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapters import checks
from adapters.base import LoadFailed, Model, Options, TensorSpec
from adapters.values import DATATYPE, Array, Arrays, Rows, check_lengths

Predict = Callable[[str, Any], Array]
"""From the name of an answer and the rows to that answer."""


def threads_of(options: Options, adapter: str) -> int:
    """Returns how many threads a prediction uses: 1 unless told. Raises LoadFailed for any other option."""
    own = checks.check(options.own, {"threads": checks.THREADS}, adapter)
    return int(own.get("threads", options.threads or 1))


def rows_of(options: Options, width: int, names: Sequence[str]) -> Rows:
    """Returns the matrix `x`, FP32 (-1, width), or what `serving.inputs` says: another matrix, or the columns by name.
    No file says whether it wants a matrix or columns, and of which datatype, so the kit's samples may."""
    told = options.inputs or _sampled(options.sampled, width, names) or (TensorSpec("x", "FP32", (-1, width)),)
    if len(told) == 1 and len(told[0].shape) == 2:
        (spec,) = told
        if spec.shape[1] not in (-1, width):
            raise LoadFailed(f"serving.inputs says {spec.shape[1]} features; the model has {width}")
        if spec.datatype == "BYTES":
            raise LoadFailed(f"serving.inputs says {spec.name!r} is BYTES; the model takes numbers")
        return Rows((replace(spec, shape=(spec.shape[0], width)),), lambda arrays: arrays[spec.name])
    given = [spec.name for spec in told]
    if sorted(given) != sorted(names):
        features = ", ".join(names) or width
        raise LoadFailed(f"serving.inputs names {', '.join(given)}; the model's features are {features}")
    if odd := [s.name for s in told if s.datatype == "BYTES" or len(s.shape) != 1]:
        raise LoadFailed(f"serving.inputs says that {odd[0]!r} is no column of numbers; the model takes numbers")
    return Rows(told, lambda arrays: _stacked(arrays, names))


def _sampled(specs: tuple[TensorSpec, ...], width: int, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Returns the specs in which the samples send their rows; none if the model does not take rows so."""
    if not specs or any(spec.datatype == "BYTES" for spec in specs):
        return ()
    if [spec.shape for spec in specs] == [(-1, width)]:
        return (TensorSpec("x", specs[0].datatype, (-1, width)),)
    return specs if sorted((s.name, s.shape) for s in specs) == sorted((name, (-1,)) for name in names) else ()


def _stacked(arrays: Arrays, names: Sequence[str]) -> Array:
    check_lengths(arrays)
    return np.stack([arrays[name] for name in names], axis=1, dtype=np.float64)


def as_model(
    module: Any, rows: Rows, predict: Predict, answers: Iterable[str], names: Sequence[str], labels: Iterable[Any] = ()
) -> Model:
    """Returns the model whose outputs are what `predict` gives for each of `answers` on two rows of zeros.
    `module` is the framework; `names` are the features' names, of use to clients that order their columns by them."""
    zeros = rows.example()
    made = {name: predict(name, zeros) for name in answers}
    platform = module.__name__
    properties = {f"{platform}_version": str(module.__version__)}
    if names:
        properties["feature_names"] = json.dumps(list(names), ensure_ascii=False)

    def answer(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        built = rows.build(arrays)
        return {name: predict(name, built) for name in wanted}

    return Model(
        platform=platform,
        inputs=rows.specs,
        outputs=tuple(TensorSpec(name, DATATYPE[a.dtype], (-1, *a.shape[1:])) for name, a in made.items()),
        predict=answer,
        default_outputs=("predict",),
        batch=True,
        fresh_outputs=True,
        labels=tuple(map(str, labels)) or None,
        properties=properties,
    )


def check_children(children: Array, count: int, tree: int) -> None:
    """Raises Damaged unless `children`, links in a tree of `count` nodes, are inside and all different."""
    inside = (children > 0).all() and checks.below(children, count)
    checks.need(inside, f"a node of tree {tree} points outside")
    checks.need(len(np.unique(children)) == len(children), f"two nodes of tree {tree} point to the same node")


def check_features(used: Array, features: int, tree: int) -> None:
    """Raises Damaged unless all features that a tree asks for exist."""
    checks.need(checks.below(used, features), f"tree {tree} asks for a feature past its {features}")
