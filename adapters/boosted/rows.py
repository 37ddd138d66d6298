"""What the three share: one matrix or a column for each feature in, an array for each kind of answer out."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapters import checks
from adapters.base import LoadFailed, Model, Options, TensorSpec
from adapters.values import DATATYPE, Array, Arrays, Rows, as_said, check_codes, check_lengths, codes, datatype_of

Predict = Callable[[str, Any], Array]
"""From the name of an answer and the rows to that answer."""


def threads_of(options: Options, adapter: str) -> int:
    """Returns how many threads a prediction uses: 1 unless told. Raises LoadFailed for any other option."""
    own = checks.check(options.own, {"threads": checks.THREADS}, adapter)
    return int(own.get("threads", options.threads or 1))


def rows_of(
    options: Options, width: int, names: Sequence[str], datatype: str, categories: Mapping[int, Sequence[Any]] = {}
) -> Rows:
    """Returns the matrix `x` (-1, width) of numbers, or what `serving.inputs` says: another matrix, or the columns by
    name. Features with `categories`, by position, are columns too, and their codes go into the matrix. The form that is
    not the model's own is taken as well. No file says which form it wants, so the kit's samples may."""
    names = as_said(names, [spec.name for spec in options.inputs])
    coded = {names[i]: known for i, known in categories.items()} if names else {}
    kinds = {name: datatype_of(coded[name]) if name in coded else datatype for name in names}
    columns = tuple(TensorSpec(name, kind, (-1,), nullable=kind == "BYTES") for name, kind in kinds.items())
    matrix = TensorSpec("x", datatype, (-1, width))
    told = options.inputs or _sampled(options.sampled, width, kinds) or (columns if coded else (matrix,))
    is_matrix = len(told) == 1 and len(told[0].shape) == 2
    if is_matrix:
        matrix = _as_matrix(told[0], width)
        told = (matrix,)
    else:
        _check_columns(told, kinds, width)

    def build(arrays: Arrays) -> Array:
        only = next(iter(arrays.values()))
        if only.ndim == 2:
            for i in categories if coded else ():
                check_codes(only[:, i], len(categories[i]), names[i])
            return only
        check_lengths(arrays)
        read = [codes(arrays[n], coded[n], f"input {n!r}") if n in coded else arrays[n] for n in names]
        return np.stack(read, axis=1, dtype=np.float64)

    other = () if width < 2 or not names else columns if is_matrix else (matrix,)
    properties = {"columns": json.dumps(list(names), ensure_ascii=False)} if names else {}
    if coded:
        properties["categories"] = json.dumps(coded, ensure_ascii=False)
    return Rows(told, build, other, {name: known[:1] for name, known in coded.items()}, properties)


def _as_matrix(spec: TensorSpec, width: int) -> TensorSpec:
    if spec.shape[1] not in (-1, width):
        raise LoadFailed(f"model.parameters.serving.inputs says {spec.shape[1]} features; the model has {width}")
    if spec.datatype == "BYTES":
        raise LoadFailed(f"model.parameters.serving.inputs says {spec.name!r} is BYTES; the model takes numbers")
    return replace(spec, shape=(spec.shape[0], width))


def _check_columns(told: Sequence[TensorSpec], kinds: Mapping[str, str], width: int) -> None:
    given = [spec.name for spec in told]
    if sorted(given) != sorted(kinds):
        features = ", ".join(kinds) or width
        raise LoadFailed(
            f"model.parameters.serving.inputs names {', '.join(given)}; the model's features are {features}"
        )
    if odd := [s.name for s in told if (s.datatype == "BYTES") != (kinds[s.name] == "BYTES") or len(s.shape) != 1]:
        wanted = "texts" if kinds[odd[0]] == "BYTES" else "numbers"
        raise LoadFailed(
            f"model.parameters.serving.inputs says that {odd[0]!r} is no column of {wanted}; the model takes {wanted}"
        )


def _sampled(specs: tuple[TensorSpec, ...], width: int, kinds: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Returns the specs in which the samples send their rows; none if the model does not take rows so."""
    if [(spec.shape, spec.datatype == "BYTES") for spec in specs] == [((-1, width), False)]:
        return (TensorSpec("x", specs[0].datatype, (-1, width)),)
    said = sorted((s.name, s.shape, s.datatype == "BYTES") for s in specs)
    return specs if specs and said == sorted((name, (-1,), kind == "BYTES") for name, kind in kinds.items()) else ()


def as_model(module: Any, rows: Rows, predict: Predict, answers: Iterable[str], labels: Iterable[Any] = ()) -> Model:
    """Returns the model whose outputs are what `predict` gives for each of `answers` on two rows.
    `module` is the framework."""
    zeros = rows.example()
    made = {name: predict(name, zeros) for name in answers}
    platform = module.__name__

    def answer(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        built = rows.build(arrays)
        return {name: predict(name, built) for name in wanted}

    return Model(
        platform=platform,
        inputs=rows.specs,
        also=rows.also,
        example=rows.row,
        outputs=tuple(TensorSpec(name, DATATYPE[a.dtype], (-1, *a.shape[1:])) for name, a in made.items()),
        predict=answer,
        default_outputs=("predict",),
        batch=True,
        fresh_outputs=True,
        labels=tuple(map(str, labels)) or None,
        properties={f"{platform}_version": str(module.__version__), **rows.properties},
    )


def check_children(children: Array, count: int, tree: int) -> None:
    """Raises Damaged unless `children`, links in a tree of `count` nodes, are inside and all different."""
    inside = (children > 0).all() and checks.below(children, count)
    checks.need(inside, f"a node of tree {tree} points outside")
    checks.need(len(np.unique(children)) == len(children), f"two nodes of tree {tree} point to the same node")


def check_features(used: Array, features: int, tree: int) -> None:
    """Raises Damaged unless all features that a tree asks for exist."""
    checks.need(checks.below(used, features), f"tree {tree} asks for a feature past its {features}")
