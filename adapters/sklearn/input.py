"""What a fitted estimator takes: a table, texts, or what the kit says. Its fitted parts say it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from adapters.base import LoadFailed, Options, TensorSpec, WrongInput
from adapters.checks import TEXTS
from adapters.imports import framework
from adapters.sklearn.learnt import TEXT_STEPS, Column, columns_of, first_step, framework_of, is_boosted, kind_of
from adapters.sklearn.table import needs_frame, table_of
from adapters.values import Rows, as_said, to_text


def inputs_of(estimator: Any, options: Options) -> Rows:
    """Returns the inputs of the estimator, or those of `serving.inputs` if the kit says them. Raises LoadFailed.
    What no fitted part says, samples may: matrix or columns, and the datatype of numbers. Never how many columns."""
    if options.inputs:
        return _as_told(estimator, options.inputs)
    first = first_step(estimator)
    if texts := _texts(first):
        return texts
    names = _names(estimator)
    width = len(names) or _said(estimator, "n_features_in_")
    if width is None:
        return _without_width(estimator, first, options.sampled)
    as_matrix = [spec.shape for spec in options.sampled] == [(-1, width)]
    default = options.sampled[0].datatype if as_matrix else "FP64"
    sampled = {spec.name: spec.datatype for spec in options.sampled}
    learnt = columns_of(estimator, width, names)
    for column, name in zip(learnt, names or [""] * width, strict=True):
        column.kind = column.kind or sampled.get(name, default)
    return table_of(estimator, names, learnt, as_matrix=as_matrix)


def _said(estimator: Any, name: str) -> Any:
    """Returns the attribute of the estimator or of its first step, where a pipeline has none."""
    return getattr(estimator, name, getattr(first_step(estimator), name, None))


def _names(estimator: Any) -> list[str]:
    """Returns the names of the columns that the estimator was fitted on; none if it was a matrix."""
    first = first_step(estimator)
    found = _said(estimator, "feature_names_in_")
    if found is None and is_boosted(first):  # of these, some versions say them under another name
        found = getattr(first, "feature_names_" if framework_of(first) == "catboost" else "feature_name_", None)
    names = [] if found is None else [str(name) for name in found]
    numbered = ([f"{start}{i}" for i in range(len(names))] for start in ("", "Column_"))  # by CatBoost, LightGBM
    return [] if names in numbered else names


def _texts(step: Any, name: str = "") -> Rows | None:
    """Returns the column of a step that takes texts, or dictionaries as JSON; None for every other step."""
    has_keys = type(step).__name__ == "DictVectorizer" or getattr(step, "input_type", None) == "dict"  # FeatureHasher
    if not has_keys and type(step).__name__ not in TEXT_STEPS:
        return None
    spec = TensorSpec(name or ("features" if has_keys else "text"), "BYTES", (-1,))

    def build(arrays: dict[str, Any]) -> Any:
        texts = _plain(arrays[spec.name], spec).tolist()
        return _dictionaries(texts) if has_keys else texts

    return Rows((spec,), build, row={spec.name: ["{}"]} if has_keys else {})


def _dictionaries(texts: list[str]) -> list[Any]:
    made = []
    for i, text in enumerate(texts):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WrongInput(f"input 'features': element {i} is not JSON: {error}") from error
        if not isinstance(found, dict) or not all(map(_is_feature, found.values())):
            raise WrongInput(f"input 'features': element {i} must be a JSON object of numbers, texts, lists of texts")
        made.append(found)
    return made


def _is_feature(value: Any) -> bool:
    return isinstance(value, str | int | float | None) or TEXTS.holds(value)


def _single(spec: TensorSpec, names: list[str] | None = None, row: dict[str, Any] | None = None) -> Rows:
    """Returns the input `spec`; with `names` it becomes a DataFrame of these columns."""
    pandas = framework("pandas", "sklearn") if names else None

    def build(arrays: dict[str, Any]) -> Any:
        found = _plain(arrays[spec.name], spec)
        return found if pandas is None else pandas.DataFrame(found, columns=names)

    return Rows((spec,), build, row=row or {})


def _plain(array: Any, spec: TensorSpec) -> Any:
    return to_text(array, f"input {spec.name!r}") if spec.datatype == "BYTES" else array


def _without_width(estimator: Any, first: Any, sampled: tuple[TensorSpec, ...]) -> Rows:
    classes = getattr(first, "classes_", None)
    if type(first).__name__ in ("LabelEncoder", "LabelBinarizer") and classes is not None:
        known = np.asarray(classes)
        return _single(TensorSpec("x", kind_of(known), (-1,)), row={"x": known[:1].tolist()})
    if sampled:
        return _as_told(estimator, sampled)
    if type(first).__name__ == "IsotonicRegression":
        return _single(TensorSpec("x", "FP64", (-1,)))
    if hasattr(estimator, "predict") or hasattr(estimator, "transform"):
        return _single(TensorSpec("x", "FP64", (-1, -1)))
    raise LoadFailed(
        f"a {type(estimator).__name__} does not say what it takes; "
        "say it in a Kitfile beside it: model.parameters.serving.inputs"
    )


def _as_told(estimator: Any, specs: tuple[TensorSpec, ...]) -> Rows:
    names = as_said(_names(estimator), [spec.name for spec in specs])
    first, only = first_step(estimator), specs[0]
    if len(specs) == 1 and len(only.shape) > 1:
        return _single(only, names if needs_frame(estimator, [only.datatype]) else None)._replace(specs=specs)
    if len(specs) == 1 and (texts := _texts(first, only.name)):
        return texts._replace(specs=specs)
    if len(specs) == 1 and not names:
        return _single(only)
    kinds = {spec.name: spec.datatype for spec in specs}
    learnt = columns_of(estimator, len(names), names) if names else [Column() for _ in kinds]
    used = {name for name, column in zip(names, learnt, strict=False) if column.is_used}
    if odd := (set(kinds) - set(names) if names else ()) or used - set(kinds):
        said = f"model.parameters.serving.inputs and the columns the model was fitted on differ in {min(odd)!r}"
        raise LoadFailed(f"{said}; it wants {', '.join(names)}")
    pairs = zip(learnt, names or kinds, strict=True)
    told = [replace(column, kind=kinds.get(name, column.kind)) for column, name in pairs]
    return table_of(estimator, names, told, called=[*kinds])._replace(specs=specs, also=())
