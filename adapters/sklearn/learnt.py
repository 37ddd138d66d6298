"""What a fitted model has learnt of each of its input columns: datatype, categories, a usual value, and whether it uses
it at all. scikit-learn keeps no table of that; the first steps that touch a column say it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from adapters.values import DATATYPE, datatype_of

TEXT_STEPS: Final = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
INNER: Final = ("best_estimator_", "estimator_", "regressor_", "base_estimator_")
_USUAL: Final = ("mean_", "center_")
"""Where scalers keep a usual value of each column."""
_SAME_COLUMNS: Final = ("SimpleImputer", "StandardScaler", "RobustScaler", "MinMaxScaler", "MaxAbsScaler")


@dataclass
class Column:
    """One input column; what no step says is None."""

    kind: str | None = None
    """Datatype."""
    usual: Any = None
    """A value that the model has seen or would fill in."""
    codes: Sequence[Any] | None = None
    """Categories that go into the model as their places: a booster's."""
    missing: Any = np.nan
    is_date: bool = False
    is_used: bool = False


def columns_of(estimator: Any, width: int, names: Sequence[str]) -> list[Column]:
    """Returns what a fitted estimator has learnt of its `width` input columns."""
    found = [Column() for _ in range(width)]
    _mark(estimator, [*range(width)], names, found)
    return found


def first_step(estimator: Any) -> Any:
    """Returns the part that gets the input first: in pipelines, searches, calibration, voting, stacking."""
    for _ in range(20):
        if (inner := _inner(estimator)) is None:
            break
        estimator = inner
    return estimator


def _inner(estimator: Any) -> Any:
    if hasattr(estimator, "steps"):
        return next(_working(estimator.steps), None)
    if getattr(estimator, "transformer_list", None):
        return next(_working(estimator.transformer_list), None)
    if getattr(estimator, "calibrated_classifiers_", None):
        return estimator.calibrated_classifiers_[0].estimator
    several = getattr(estimator, "estimators_", None)
    member = several[0] if isinstance(several, list) and several else None
    member = member if hasattr(member, "steps") or is_boosted(member) else None
    candidates = (*(getattr(estimator, name, None) for name in INNER), member, getattr(estimator, "estimator", None))
    return next((part for part in candidates if hasattr(part, "get_params") and not isinstance(part, type)), None)


def _working(steps: Sequence[tuple[str, Any]]) -> Iterator[Any]:
    """Yields the steps that are estimators."""
    return (step for _, step in steps if step not in (None, "passthrough", "drop"))


def is_boosted(estimator: Any) -> bool:
    """True for a fitted or unfitted wrapper of LightGBM, XGBoost or CatBoost."""
    return framework_of(estimator) in ("lightgbm", "xgboost", "catboost") and hasattr(estimator, "get_params")


def framework_of(thing: Any) -> str:
    """Returns the name of the package that has the class."""
    return type(thing).__module__.partition(".")[0]


def _mark(step: Any, columns: list[int], names: Sequence[str], found: list[Column]) -> None:
    """Writes into `found` what a step says of those of its columns that no step before it said something of."""
    if hasattr(step, "transformers_"):
        _mark_transformers(step, columns, names, found)
        return
    if hasattr(step, "steps") or getattr(step, "transformer_list", None):
        for inner in _parallel_steps(step):
            _mark(inner, columns, names, found)
        return
    if getattr(step, "_preprocessor", None) is not None:  # HistGradientBoosting's encoder of categories
        _mark(vars(step)["_preprocessor"], columns, names, found)
        return
    if type(step).__name__.startswith(("Voting", "Stacking")):
        for member in step.estimators_:
            _mark(member, columns, names, found)
        return
    learnt = _learnt(step, len(columns))
    if not any(learnt) and (inner := _inner(step)) is not None:
        _mark(inner, columns, names, found)
        return
    for i, says in zip(columns, learnt, strict=True):
        _fill(found[i], says)


def _fill(column: Column, says: Mapping[str, Any]) -> None:
    column.is_used = True
    if column.kind is None:
        for key in says.keys() & {"kind", "codes", "missing", "is_date"}:
            setattr(column, key, says[key])
    if column.usual is None or "categories" in says:
        column.usual = says.get("usual", column.usual)


def _mark_transformers(step: Any, columns: list[int], names: Sequence[str], found: list[Column]) -> None:
    for _, inner, chosen in step.transformers_:
        if inner != "drop":
            at = _positions(chosen, names, len(columns))
            _mark(inner, [columns[i] for i in at], [names[i] for i in at] if names else [], found)


def _parallel_steps(step: Any) -> Iterator[Any]:
    """Yields the parts of a union, or the steps of a pipeline up to the first that makes other columns."""
    if not hasattr(step, "steps"):
        yield from (inner for _, inner in step.transformer_list if inner != "drop")
        return
    for inner in [*_working(step.steps)] or ["passthrough"]:
        yield inner
        if type(inner).__name__ not in _SAME_COLUMNS:
            return


def _learnt(step: Any, width: int) -> list[dict[str, Any]]:
    """Returns what a step of `width` columns learnt of each: fields of a Column."""
    learnt = list[dict[str, Any]]()
    if type(step).__name__ in TEXT_STEPS:
        return [{"kind": "BYTES"}] * width
    if is_boosted(step):
        learnt = _boosted(step, width)
    elif isinstance(categories := getattr(step, "categories_", None), list):
        learnt = [_of_categories(np.asarray(c)) for c in categories]
    elif (statistics := getattr(step, "statistics_", None)) is not None and np.ndim(statistics) == 1:
        learnt = [_of_value(value, statistics.dtype) for value in statistics]
    elif (usual := _usual(step)) is not None:
        learnt = [{"usual": _short(value)} for value in np.ravel(usual)]
    return learnt if len(learnt) == width else [{}] * width


def _usual(step: Any) -> Any:
    if hasattr(step, "data_min_"):  # the middle: an end, in four digits, may lie outside
        return (step.data_min_ + step.data_max_) / 2
    return next((usual for usual in (getattr(step, name, None) for name in _USUAL) if usual is not None), None)


def _of_categories(values: Any) -> dict[str, Any]:
    known = [v for v in values.tolist() if v is not None and v == v]
    if values.dtype.kind == "M":
        return {"kind": "BYTES", "is_date": True, "categories": known, "usual": str(values[0]) if len(values) else None}
    said = {"kind": kind_of(values), "categories": known, "usual": known[0] if known else None}
    return said | ({"missing": None} if None in values.tolist() else {})


def _of_value(value: Any, dtype: Any) -> dict[str, Any]:
    kind = kind_of(np.asarray([value], dtype=dtype))
    is_number = kind != "BYTES"
    return {"kind": kind, "usual": (_short(value) if value == value else None) if is_number else str(value)}


def _short(value: Any) -> float | int:
    """Returns the number in four digits: it is an example, for people to read."""
    short = float(f"{float(value):.4g}")
    return int(value) if isinstance(value, np.integer) else short if np.isfinite(short) else 0.0


def _boosted(step: Any, width: int) -> list[dict[str, Any]]:
    kind = framework_of(step)
    if kind == "catboost":
        texts = {*step.get_cat_feature_indices(), *step.get_text_feature_indices()} if step.is_fitted() else ()
        return [{"kind": "BYTES"} if i in texts else {} for i in range(width)]
    if not step.__sklearn_is_fitted__():
        return []
    if kind == "lightgbm":
        from adapters.boosted.lightgbm import categories_of

        known = categories_of(step.booster_)
    else:
        from adapters.boosted.xgboost import categories_of

        known = categories_of(step.get_booster())
    coded = {i: {"kind": datatype_of(c), "codes": c, "usual": c[0]} for i, c in known.items() if c}
    return [coded.get(i, {}) for i in range(width)]


def kind_of(values: Any) -> str:
    """Returns the datatype in which a client sends such values."""
    if values.dtype.kind in "OUST":
        numbers = [v for v in values.tolist() if isinstance(v, int | float) and v == v]
        texts = [v for v in values.tolist() if isinstance(v, str)]
        return "FP64" if numbers and not texts else "BYTES"
    return DATATYPE.get(values.dtype.newbyteorder("="), "FP64")


def _positions(chosen: Any, names: Sequence[str], width: int) -> list[int]:
    if isinstance(chosen, slice):
        start, stop = (names.index(end) if isinstance(end, str) else end for end in (chosen.start, chosen.stop))
        if isinstance(chosen.stop, str):  # of names, a slice has its last one, too
            stop += 1
        return list(range(width))[start : stop : chosen.step]
    items = [chosen] if isinstance(chosen, str | int) else list(np.asarray(chosen).tolist())
    if items and all(isinstance(i, bool) for i in items):
        return [i for i, taken in enumerate(items) if taken]
    known = [i for i in items if not isinstance(i, str) or i in names]
    return [names.index(i) if isinstance(i, str) else int(i) % width for i in known]
