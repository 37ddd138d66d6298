"""What a fitted estimator wants to be given: a matrix, columns of a DataFrame, texts; read off its fitted parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed, Options, TensorSpec, WrongInput
from adapters.frameworks import framework
from adapters.values import DATATYPE, DTYPES, to_text

MAX_COLUMNS: Final = 64
"""More columns than a request may have inputs are taken as one matrix."""
ROWS: Final = 2
"""Rows of the dry run: of a single one some estimators make an answer without its first axis."""
INNER: Final = ("best_estimator_", "estimator_", "regressor_", "base_estimator_", "estimator")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The specs of the inputs, how they become what the estimator's methods take, and rows that it should accept."""

    specs: tuple[TensorSpec, ...]
    build: Callable[[dict[str, Any]], Any]
    example: dict[str, Any]


def inputs_of(estimator: Any, options: Options) -> Inputs:
    """The inputs of the estimator, or of `serving.inputs` where the kit says them."""
    if options.inputs:
        return _as_told(estimator, options.inputs)
    first = first_step(estimator)
    if _is_dict_vectorizer(first):
        return _one_column("features", "BYTES", _dictionaries, b"{}")
    if _takes_text(first):
        return _one_column("text", "BYTES", None, b"a")
    names = _names(estimator)
    width = len(names) or getattr(estimator, "n_features_in_", None)
    if width is None:
        return _without_width(estimator, first)
    kinds = column_kinds(estimator, names, int(width))
    if names and len(names) <= MAX_COLUMNS:
        return _columns(names, kinds, needs_frame=_needs_frame(estimator, kinds))
    if len(set(kinds)) > 1:
        return _columns([f"x{i}" for i in range(len(kinds))], kinds, needs_frame=False)
    return _matrix("x", kinds[0] if kinds else "FP64", int(width), names if _needs_frame(estimator, kinds) else ())


def first_step(estimator: Any) -> Any:
    """The part that sees the input first: through pipelines, searches, calibration, voting."""
    for _ in range(20):
        if hasattr(estimator, "steps"):
            steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
            if not steps:
                return estimator
            estimator = steps[0]
        elif (inner := _inner(estimator)) is not None:
            estimator = inner
        else:
            return estimator
    return estimator


def _inner(estimator: Any) -> Any:
    if getattr(estimator, "transformer_list", None):
        return estimator.transformer_list[0][1]
    if getattr(estimator, "calibrated_classifiers_", None):
        return estimator.calibrated_classifiers_[0].estimator
    for name in INNER:
        found = getattr(estimator, name, None)
        if hasattr(found, "get_params") and not isinstance(found, type):
            return found
    several = getattr(estimator, "estimators_", None)
    if isinstance(several, list) and several and hasattr(several[0], "steps"):
        return several[0]
    return None


def _is_dict_vectorizer(step: Any) -> bool:
    return type(step).__name__ == "DictVectorizer"


def _takes_text(step: Any) -> bool:
    return type(step).__name__ in ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")


def _names(estimator: Any) -> list[str]:
    found = getattr(estimator, "feature_names_in_", None)
    return [] if found is None else [str(name) for name in found]


# -- kinds of columns


def column_kinds(estimator: Any, names: Sequence[str], width: int) -> list[str]:
    """A datatype for each column: that of the categories an encoder learnt, FP64 where nothing else is known."""
    kinds: list[str | None] = [None] * width
    _mark(estimator, list(range(width)), list(names), kinds)
    return [kind or "FP64" for kind in kinds]


def _mark(step: Any, columns: list[int], names: list[str], kinds: list[str | None]) -> None:
    if hasattr(step, "transformers_"):
        for _, inner, chosen in step.transformers_:
            at = _positions(chosen, names, len(columns))
            _mark(inner, [columns[i] for i in at], [names[i] for i in at] if names else [], kinds)
    elif hasattr(step, "steps") or getattr(step, "transformer_list", None):
        for inner in _parallel_steps(step):
            _mark(inner, columns, names, kinds)
    elif _takes_text(step):
        _set(kinds, columns, ["BYTES"] * len(columns))
    elif (learnt := _learnt(step)) is not None and len(learnt) == len(columns):
        _set(kinds, columns, learnt)
    elif (inner := _inner(step)) is not None:
        _mark(inner, columns, names, kinds)


def _parallel_steps(step: Any) -> list[Any]:
    """The parts of a union, or the steps of a pipeline up to the first that makes other columns."""
    if not hasattr(step, "steps"):
        return [inner for _, inner in step.transformer_list]
    steps = [inner for _, inner in step.steps]
    kept = next((i for i, inner in enumerate(steps) if not _keeps_columns(inner)), len(steps) - 1)
    return steps[: kept + 1]


def _set(kinds: list[str | None], columns: list[int], learnt: list[str]) -> None:
    for column, kind in zip(columns, learnt, strict=True):
        kinds[column] = kinds[column] or kind


def _keeps_columns(step: Any) -> bool:
    return step is None or step == "passthrough" or type(step).__name__ == "SimpleImputer"


def _learnt(step: Any) -> list[str] | None:
    categories = getattr(step, "categories_", None)
    if isinstance(categories, list):
        return [_kind(np.asarray(c)) for c in categories]
    statistics = getattr(step, "statistics_", None)
    if type(step).__name__ == "SimpleImputer" and statistics is not None:
        return [_kind(np.asarray([value], dtype=statistics.dtype)) for value in statistics]
    return None


def _kind(values: Any) -> str:
    if values.dtype.kind in "OUST":
        numbers = [v for v in values.tolist() if isinstance(v, int | float) and v == v]
        texts = [v for v in values.tolist() if isinstance(v, str)]
        return "FP64" if numbers and not texts else "BYTES"
    return DATATYPE.get(values.dtype.newbyteorder("="), "FP64")


def _positions(chosen: Any, names: list[str], width: int) -> list[int]:
    if isinstance(chosen, slice):
        return list(range(width))[chosen]
    items = [chosen] if isinstance(chosen, str | int) else list(np.asarray(chosen).tolist())
    if items and all(isinstance(i, bool) for i in items):
        return [i for i, taken in enumerate(items) if taken]
    return [
        names.index(i) if isinstance(i, str) else int(i) % width for i in items if not isinstance(i, str) or i in names
    ]


# -- builders


def _one_column(name: str, datatype: str, convert: Callable[[Any], Any] | None, example: Any) -> Inputs:
    def build(arrays: dict[str, Any]) -> Any:
        texts = to_text(arrays[name], f"input {name!r}").tolist()
        return convert(texts) if convert else texts

    value = np.empty(ROWS, dtype=object)
    value.fill(example)
    return Inputs((TensorSpec(name, datatype, (-1,)),), build, {name: value})


def _dictionaries(texts: list[str]) -> list[Any]:
    made = []
    for i, text in enumerate(texts):
        try:
            made.append(json.loads(text))
        except ValueError as error:
            raise WrongInput(f"input 'features': element {i} is not JSON: {error}") from error
        if not isinstance(made[-1], dict):
            raise WrongInput(f"input 'features': element {i} must be a JSON object")
    return made


def _matrix(name: str, datatype: str, width: int, names: Sequence[str]) -> Inputs:
    spec = TensorSpec(name, datatype, (-1, width))
    frame = framework("pandas", "sklearn") if names else None

    def build(arrays: dict[str, Any]) -> Any:
        found = arrays[name]
        found = to_text(found, f"input {name!r}") if datatype == "BYTES" else found
        return found if frame is None else frame.DataFrame(found, columns=list(names))

    return Inputs((spec,), build, {name: _example(datatype, (ROWS, max(width, 1)))})


def _columns(names: Sequence[str], kinds: Sequence[str], *, needs_frame: bool) -> Inputs:
    specs = tuple(TensorSpec(name, kind, (-1,)) for name, kind in zip(names, kinds, strict=True))
    pandas = framework("pandas", "sklearn") if needs_frame else None

    def build(arrays: dict[str, Any]) -> Any:
        _check_lengths(arrays)
        read = {s.name: _column(arrays[s.name], s) for s in specs}
        return pandas.DataFrame(read, copy=False) if pandas is not None else _stacked(list(read.values()))

    return Inputs(specs, build, {s.name: _example(s.datatype, (ROWS,)) for s in specs})


def _column(array: Any, spec: TensorSpec) -> Any:
    return to_text(array, f"input {spec.name!r}") if spec.datatype == "BYTES" else array


def _stacked(columns: list[Any]) -> Any:
    if all(c.dtype == columns[0].dtype for c in columns):
        return np.stack(columns, axis=1)
    made = np.empty(
        (len(columns[0]), len(columns)), dtype=object if any(c.dtype == object for c in columns) else np.float64
    )
    for i, column in enumerate(columns):
        made[:, i] = column
    return made


def _check_lengths(arrays: dict[str, Any]) -> None:
    lengths = {name: len(value) for name, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in list(lengths.items())[:8])
        raise WrongInput(f"the columns have different numbers of rows: {listed}")


def _example(datatype: str, shape: tuple[int, ...]) -> Any:
    if datatype == "BYTES":
        made = np.empty(shape, dtype=object)
        made.fill(b"a")
        return made
    return np.zeros(shape, dtype=DTYPES[datatype])


def _needs_frame(estimator: Any, kinds: Sequence[str]) -> bool:
    """Whether columns are picked by name somewhere; otherwise a plain matrix in the same order is the same to it."""
    if not _names(estimator):
        return False
    from adapters.sklearn.checks import walk

    by_name = ("transformers_", "transformers", "func")
    return len(set(kinds)) > 1 or any(hasattr(thing, a) for thing in walk(estimator) for a in by_name)


def _without_width(estimator: Any, first: Any) -> Inputs:
    if type(first).__name__ == "IsotonicRegression":
        return _vector("x", "FP64")
    classes = getattr(first, "classes_", None)
    if type(first).__name__ in ("LabelEncoder", "LabelBinarizer") and classes is not None:
        return _vector("x", _kind(np.asarray(classes)))
    if hasattr(estimator, "predict") or hasattr(estimator, "transform"):
        return _any_width()
    raise LoadFailed(f"a {type(estimator).__name__} does not say what it takes; say it in serving.inputs")


def _vector(name: str, datatype: str) -> Inputs:
    spec = TensorSpec(name, datatype, (-1,))
    return Inputs((spec,), lambda arrays: _column(arrays[name], spec), {name: _example(datatype, (ROWS,))})


def _any_width() -> Inputs:
    return Inputs((TensorSpec("x", "FP64", (-1, -1)),), lambda arrays: arrays["x"], {"x": np.zeros((ROWS, 1))})


def _as_told(estimator: Any, specs: tuple[TensorSpec, ...]) -> Inputs:
    names = _names(estimator)
    if len(specs) == 1 and len(specs[0].shape) > 1:
        (spec,) = specs
        kinds = [spec.datatype] * len(names)
        made = _matrix(spec.name, spec.datatype, spec.shape[-1], names if _needs_frame(estimator, kinds) else ())
        return Inputs(specs, made.build, made.example)
    if len(specs) == 1 and (_takes_text(first := first_step(estimator)) or _is_dict_vectorizer(first)):
        convert = _dictionaries if _is_dict_vectorizer(first) else None
        made = _one_column(specs[0].name, "BYTES", convert, b"{}" if convert else b"a")
        return Inputs(specs, made.build, made.example)
    if len(specs) == 1 and not names:
        made = _vector(specs[0].name, specs[0].datatype)
        return Inputs(specs, made.build, made.example)
    told = [s.name for s in specs]
    if names and set(told) != set(names):
        odd = min(set(told) - set(names) or set(names) - set(told))
        raise LoadFailed(
            f"serving.inputs and the columns the model was fitted on differ in {odd!r}; it wants {', '.join(names)}"
        )
    by_name = {s.name: s for s in specs}
    kinds = [by_name[n].datatype for n in names or told]
    made = _columns(names or told, kinds, needs_frame=_needs_frame(estimator, kinds))
    return Inputs(specs, made.build, made.example)
