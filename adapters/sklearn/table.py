"""The table that a fitted estimator takes: its columns, and what becomes of their arrays, a matrix or a DataFrame."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec, WrongInput
from adapters.imports import framework
from adapters.sklearn.learnt import Column, is_boosted
from adapters.sklearn.walk import walk
from adapters.values import Array, Arrays, Rows, check_codes, check_lengths, codes, to_text

MANY: Final = 64
"""A table of more numbers than this is shown as one matrix; its columns are taken all the same."""


def table_of(
    estimator: Any,
    names: Sequence[str],
    learnt: Sequence[Column],
    *,
    as_matrix: bool = False,
    called: Sequence[str] = (),
) -> Rows:
    """Returns what an estimator takes: its columns by name, or one matrix; and where a request may send either, both.
    `names` are those that it was fitted on. Without them the columns are named as `called` says, or numbered."""
    table = _Table(estimator, names, called or [f"x{i}" for i in range(len(learnt))], learnt)
    kinds = {spec.datatype for spec in table.columns}
    usual = {name: [c.usual] for name, c in zip(table.names, learnt, strict=True) if c.usual is not None}
    numbers = {spec.datatype for spec, c in zip(table.columns, learnt, strict=True) if not c.codes}
    has_matrix = (len(kinds) < 2 or (table.is_coded and numbers <= {"FP64"})) and not any(c.is_date for c in learnt)
    if has_matrix and len(kinds) < 2 and (as_matrix or not names or len(names) > MANY):
        blank = None if kinds == {"BYTES"} else 0
        values = [blank if column.usual is None else column.usual for column in learnt]
        row = {"x": values} if usual and None not in values else {}
        also = table.columns if names and len(names) > 1 else ()
        return Rows((table.matrix,), table.build, also, row, table.properties)
    also = (table.matrix,) if names and len(names) > 1 and has_matrix else ()
    return Rows(table.columns, table.build, also, usual, table.properties)


class _Table:
    """Columns by name, in the model's order."""

    def __init__(self, estimator: Any, names: Sequence[str], called: Sequence[str], learnt: Sequence[Column]) -> None:
        self.learnt, self.names = learnt, list(names or called)
        self.is_named = bool(names)
        self.is_coded = any(column.codes for column in learnt)
        kinds = [column.kind or "FP64" for column in learnt]
        may_miss = bool(names) and not hasattr(estimator, "get_cat_feature_indices")  # CatBoost has no missing text
        unused = [bool(names) and not column.is_used for column in learnt]
        self.columns = tuple(
            TensorSpec(name, kind, (-1,), drops, drops or (may_miss and kind == "BYTES"), drops)
            for name, kind, drops in zip(self.names, kinds, unused, strict=True)
        )
        self.matrix = TensorSpec(
            "x",
            "FP64" if self.is_coded or not kinds else kinds[0],
            (-1, len(learnt)),
            nullable=may_miss and {*kinds} == {"BYTES"},
        )
        uncoded = {kind for kind, column in zip(kinds, learnt, strict=True) if not column.codes}
        as_frame = needs_frame(estimator, uncoded) or (self.is_coded and not is_boosted(estimator))
        self._pandas = framework("pandas", "sklearn") if names and as_frame else None
        known = {name: list(c.codes) for name, c in zip(self.names, learnt, strict=True) if c.codes}
        self.properties = {"columns": json.dumps(self.names, ensure_ascii=False)} if names else {}
        if known:
            self.properties["categories"] = json.dumps(known, ensure_ascii=False)

    def build(self, arrays: Arrays) -> Any:
        """Returns the rows, from the columns or the matrix. Raises WrongInput."""
        first = next(iter(arrays.values()))
        pandas = self._pandas
        if first.ndim == 2:
            whole = self._text_matrix(first) if first.dtype == object else first
            for i, column in enumerate(self.learnt):
                if column.codes:
                    check_codes(whole[:, i], len(column.codes), self.names[i])
            if pandas is not None:
                return self._with_categories(pandas, pandas.DataFrame(whole, columns=self.names))
            return np.asarray(whole, order="F") if self.is_named else whole  # as `stacked`
        check_lengths(arrays)
        pairs = zip(self.columns, self.learnt, strict=True)
        made = {s.name: _missing(s, len(first)) if s.ignored else read(s, c, arrays[s.name]) for s, c in pairs}
        if pandas is None:
            return stacked([*made.values()])
        return self._with_categories(pandas, pandas.DataFrame(made, copy=False))

    def _with_categories(self, pandas: Any, frame: Any) -> Any:
        """Returns the frame with columns of categories in place of their codes: boosters count those of a frame."""
        for name, column in zip(self.names, self.learnt, strict=True):
            if column.codes:
                places = frame[name].fillna(-1).astype(np.int64)
                frame[name] = pandas.Categorical.from_codes(places, list(column.codes))
        return frame

    def _text_matrix(self, array: Array) -> Array:
        texts = to_text(array, "input 'x'")
        for i, column in enumerate(self.learnt if self.matrix.nullable else ()):
            texts[[text is None for text in texts[:, i].tolist()], i] = column.missing
        return texts


def needs_frame(estimator: Any, kinds: Collection[str]) -> bool:
    """True if columns of these datatypes are picked by name somewhere, or differ. If not, a matrix in the same order
    gives the same answers."""
    by_name = ("transformers_", "transformers", "func", "_preprocessor")
    named = (getattr(thing, a, None) is not None for thing in walk(estimator) for a in by_name)
    return len(kinds) > 1 or any(named)


def read(spec: TensorSpec, column: Column, array: Array) -> Any:
    """Returns the values of a column as the model takes them. Raises WrongInput."""
    what = f"input {spec.name!r}"
    if column.codes:
        return codes(array, column.codes, what)
    if spec.datatype != "BYTES":
        return array
    texts = to_text(array, what)
    if column.is_date:
        return _dates(texts, what)
    if column.missing is not None:
        texts[[text is None for text in texts.tolist()]] = column.missing
    return texts


def _missing(spec: TensorSpec, rows: int) -> Array:
    """Returns what stands for a column that the model drops."""
    return np.full(rows, np.nan, object if spec.datatype == "BYTES" else np.float64)


def _dates(texts: Array, what: str) -> Array:
    made = np.empty(len(texts), "datetime64[us]")
    for i, text in enumerate(texts.tolist()):
        try:
            made[i] = "NaT" if text is None else datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError as error:
            raise WrongInput(f"{what}: element {i} is no date of ISO 8601, such as 2026-11-27") from error
    return made


def stacked(columns: Sequence[Array]) -> Array:
    """Returns the columns as one matrix: of objects if one of them is, else of a type that holds all numbers.
    It lies in memory as that of a DataFrame does, by columns: the last bit of an answer can depend on that."""
    dtypes = {column.dtype for column in columns}
    if len(dtypes) > 1:
        dtypes = {np.dtype(object if np.dtype(object) in dtypes else np.float64)}
    return np.stack(columns, dtype=dtypes.pop()).T
