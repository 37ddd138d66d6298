"""What a fitted estimator takes: a matrix, columns of a DataFrame, texts. Its fitted parts say it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed, Options, TensorSpec, WrongInput
from adapters.checks import TEXTS
from adapters.imports import framework
from adapters.sklearn.structures import walk
from adapters.values import DATATYPE, Rows, check_lengths, to_text

MAX_COLUMNS: Final = 64
"""A request has at most 64 inputs, so a model with more columns takes them as one matrix."""
INNER: Final = ("best_estimator_", "estimator_", "regressor_", "base_estimator_", "estimator")
TEXT_STEPS: Final = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")


def inputs_of(estimator: Any, options: Options) -> Rows:
    """Returns the inputs of the estimator, or those of `serving.inputs` if the kit says them. Raises LoadFailed.
    What no fitted part says, samples may: matrix or columns, and the datatype of numbers. Never how many columns."""
    if options.inputs:
        return _as_told(estimator, options.inputs)
    first = first_step(estimator)
    if texts := _texts(first):
        return texts
    names = _names(estimator)
    width = len(names) or getattr(estimator, "n_features_in_", None)
    if width is None:
        return _without_width(estimator, first, options.sampled)
    as_matrix = [spec.shape for spec in options.sampled] == [(-1, int(width))]
    default = options.sampled[0].datatype if as_matrix else "FP64"
    sampled = {spec.name: spec.datatype for spec in options.sampled}
    learnt: list[str | None] = [None] * int(width)
    _mark(estimator, [*range(int(width))], names, learnt)
    kinds = [kind or sampled.get(name, default) for kind, name in zip(learnt, names or [""] * int(width), strict=True)]
    is_mixed = len(set(kinds)) > 1
    if names and len(names) <= MAX_COLUMNS and (is_mixed or not as_matrix):
        return _columns(names, kinds, needs_frame=_needs_frame(estimator, kinds))
    if is_mixed:
        return _columns([f"x{i}" for i in range(len(kinds))], kinds, needs_frame=False)
    only = TensorSpec("x", kinds[0] if kinds else default, (-1, int(width)))
    return _single(only, names if _needs_frame(estimator, kinds) else ())


def first_step(estimator: Any) -> Any:
    """Returns the part that gets the input first: in pipelines, searches, calibration, voting."""
    for _ in range(20):
        if (inner := _inner(estimator)) is None:
            break
        estimator = inner
    return estimator


def _inner(estimator: Any) -> Any:
    if hasattr(estimator, "steps"):
        return next((step for _, step in estimator.steps if step is not None and step != "passthrough"), None)
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


def _names(estimator: Any) -> list[str]:
    found = getattr(estimator, "feature_names_in_", None)
    return [] if found is None else [str(name) for name in found]


# -- kinds of columns


def _mark(step: Any, columns: list[int], names: list[str], kinds: list[str | None]) -> None:
    """Writes into `kinds` the datatype of each of `columns` that a step says, that of the categories it learnt."""
    if hasattr(step, "transformers_"):
        for _, inner, chosen in step.transformers_:
            at = _positions(chosen, names, len(columns))
            _mark(inner, [columns[i] for i in at], [names[i] for i in at] if names else [], kinds)
    elif hasattr(step, "steps") or getattr(step, "transformer_list", None):
        for inner in _parallel_steps(step):
            _mark(inner, columns, names, kinds)
    elif (learnt := _learnt(step, len(columns))) is not None:
        for column, kind in zip(columns, learnt, strict=True):
            kinds[column] = kinds[column] or kind
    elif (inner := _inner(step)) is not None:
        _mark(inner, columns, names, kinds)


def _parallel_steps(step: Any) -> Iterator[Any]:
    """Yields the parts of a union, or the steps of a pipeline up to the first that makes other columns."""
    is_union = not hasattr(step, "steps")
    for _, inner in step.transformer_list if is_union else step.steps:
        yield inner
        if not (is_union or inner is None or inner == "passthrough" or type(inner).__name__ == "SimpleImputer"):
            return


def _learnt(step: Any, width: int) -> list[str] | None:
    """Returns what a step of `width` columns learnt of their datatypes; None if it says nothing."""
    if type(step).__name__ in TEXT_STEPS:
        return ["BYTES"] * width
    learnt = list[str]()
    if isinstance(categories := getattr(step, "categories_", None), list):
        learnt = [_kind(np.asarray(c)) for c in categories]
    elif type(step).__name__ == "SimpleImputer" and (statistics := getattr(step, "statistics_", None)) is not None:
        learnt = [_kind(np.asarray([value], dtype=statistics.dtype)) for value in statistics]
    return learnt if len(learnt) == width else None


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
    known = [i for i in items if not isinstance(i, str) or i in names]
    return [names.index(i) if isinstance(i, str) else int(i) % width for i in known]


# -- builders


def _texts(step: Any, name: str = "") -> Rows | None:
    """Returns the column of a step that takes texts, or dictionaries as JSON; None for every other step."""
    has_keys = type(step).__name__ == "DictVectorizer"
    if not has_keys and type(step).__name__ not in TEXT_STEPS:
        return None
    spec = TensorSpec(name or ("features" if has_keys else "text"), "BYTES", (-1,))

    def build(arrays: dict[str, Any]) -> Any:
        texts = _read(arrays[spec.name], spec).tolist()
        return _dictionaries(texts) if has_keys else texts

    return Rows((spec,), build, b"{}" if has_keys else b"a")


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


def _single(spec: TensorSpec, names: Sequence[str] = ()) -> Rows:
    """Returns the input `spec`; with `names` it becomes a DataFrame of these columns."""
    pandas = framework("pandas", "sklearn") if names else None

    def build(arrays: dict[str, Any]) -> Any:
        found = _read(arrays[spec.name], spec)
        return found if pandas is None else pandas.DataFrame(found, columns=list(names))

    return Rows((spec,), build)


def _columns(names: Sequence[str], kinds: Sequence[str], *, needs_frame: bool) -> Rows:
    specs = tuple(TensorSpec(name, kind, (-1,)) for name, kind in zip(names, kinds, strict=True))
    pandas = framework("pandas", "sklearn") if needs_frame else None

    def build(arrays: dict[str, Any]) -> Any:
        check_lengths(arrays)
        read = {s.name: _read(arrays[s.name], s) for s in specs}
        return pandas.DataFrame(read, copy=False) if pandas is not None else _stacked(list(read.values()))

    return Rows(specs, build)


def _read(array: Any, spec: TensorSpec) -> Any:
    return to_text(array, f"input {spec.name!r}") if spec.datatype == "BYTES" else array


def _stacked(columns: list[Any]) -> Any:
    dtypes = {column.dtype for column in columns}
    if len(dtypes) > 1:
        dtypes = {np.dtype(object if np.dtype(object) in dtypes else np.float64)}
    return np.stack(columns, axis=1, dtype=dtypes.pop())


def _needs_frame(estimator: Any, kinds: Sequence[str]) -> bool:
    """True if columns are picked by name somewhere. If not, a matrix in the same order gives the same answers."""
    by_name = ("transformers_", "transformers", "func")
    named = (hasattr(thing, a) for thing in walk(estimator) for a in by_name)
    return bool(_names(estimator)) and (len(set(kinds)) > 1 or any(named))


def _without_width(estimator: Any, first: Any, sampled: tuple[TensorSpec, ...]) -> Rows:
    classes = getattr(first, "classes_", None)
    if type(first).__name__ in ("LabelEncoder", "LabelBinarizer") and classes is not None:
        return _single(TensorSpec("x", _kind(np.asarray(classes)), (-1,)))
    if sampled:
        return _as_told(estimator, sampled)
    if type(first).__name__ == "IsotonicRegression":
        return _single(TensorSpec("x", "FP64", (-1,)))
    if hasattr(estimator, "predict") or hasattr(estimator, "transform"):
        return _single(TensorSpec("x", "FP64", (-1, -1)))
    raise LoadFailed(f"a {type(estimator).__name__} does not say what it takes; say it in serving.inputs")


def _as_told(estimator: Any, specs: tuple[TensorSpec, ...]) -> Rows:
    names, first, only = _names(estimator), first_step(estimator), specs[0]
    if len(specs) == 1 and len(only.shape) > 1:
        made = _single(only, names if _needs_frame(estimator, [only.datatype]) else ())
    elif len(specs) == 1 and (texts := _texts(first, only.name)):
        made = texts
    elif len(specs) == 1 and not names:
        made = _single(only)
    else:
        kinds_of = {s.name: s.datatype for s in specs}
        if names and set(kinds_of) != set(names):
            odd = min(set(kinds_of) - set(names) or set(names) - set(kinds_of))
            said = f"serving.inputs and the columns the model was fitted on differ in {odd!r}"
            raise LoadFailed(f"{said}; it wants {', '.join(names)}")
        kinds = [kinds_of[n] for n in names or kinds_of]
        made = _columns(names or list(kinds_of), kinds, needs_frame=_needs_frame(estimator, kinds))
    return made._replace(specs=specs)
