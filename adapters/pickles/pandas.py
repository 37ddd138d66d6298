"""What pandas leaves in pickles of models, as plain values and without pandas: an Index becomes the list of its labels.

A ColumnTransformer takes a list wherever it takes an Index. The writers of what is read here: `_new_Index` in
https://github.com/pandas-dev/pandas/blob/v3.0.0/pandas/core/indexes/base.py, the arrays of core/arrays/string_.py and
string_arrow.py, and Arrow's https://github.com/apache/arrow/blob/main/python/pyarrow/array.pxi (`__reduce__`).
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np

from adapters.checks import need

LONGEST: Final = 1 << 20
"""Labels of a RangeIndex, which are written as its two ends."""
_OFFSETS: Final = {"string": "<i4", "large_string": "<i8"}


class Extension:
    """An extension array of texts, whose state follows."""

    values: Any = None

    def __setstate__(self, state: Any) -> None:
        parts = state.values() if isinstance(state, dict) else state
        found = [part for part in parts if type(part) is np.ndarray or type(part) is Texts]
        need(len(found) == 1, "an array of pandas has an unusual state")
        self.values = found[0].tolist()


class Texts(list[Any]):
    """The texts of an array of Arrow."""

    def tolist(self) -> list[Any]:
        """Returns them, as an array of numpy does."""
        return list(self)


def arrow_texts(parts: Any) -> Texts:
    """Returns the texts of an array of Arrow: https://arrow.apache.org/docs/format/Columnar.html"""
    kind, count, missing, skipped, buffers = parts[:5]
    need(kind in _OFFSETS and not missing and not skipped and type(count) is int, "an array of Arrow is no plain text")
    _, offsets, data = buffers
    ends = np.frombuffer(offsets, _OFFSETS[kind], count=count + 1).tolist()
    return Texts(bytes(data[start:end]).decode() for start, end in pairwise(ends))


def chunked_texts(chunks: Any, *_: Any) -> Texts:
    """Returns the texts of a chunked array of Arrow."""
    need(all(type(chunk) is Texts for chunk in chunks), "a chunked array of Arrow is no text")
    return Texts(text for chunk in chunks for text in chunk)


def new_index(_kind: Any, parts: Any) -> list[Any]:
    """Returns the labels of the Index that `_new_Index` would make."""
    need(isinstance(parts, dict), "an Index is made of something else than a dictionary")
    if "data" not in parts:
        ends = [parts.get(key) for key in ("start", "stop", "step")]
        need(all(type(end) is int for end in ends) and ends[2], "a RangeIndex has unusual ends")
        made = range(*ends)
        need(len(made) <= LONGEST, f"a RangeIndex has more than {LONGEST} labels")
        return list(made)
    data = parts["data"]
    need(type(data) in (Extension, np.ndarray), "an Index is made of something else than an array")
    labels: list[Any] = data.values if type(data) is Extension else data.tolist()
    plain = isinstance(labels, list) and all(x is None or isinstance(x, str | int | float | bool) for x in labels)
    need(plain, "an Index has labels that are no plain values")
    return labels


_INDEXES: Final = ("Index", "RangeIndex", "Int64Index", "UInt64Index", "Float64Index")
VALUES: Final = frozenset(
    {f"pandas.{name}" for name in _INDEXES}
    | {f"pandas.core.indexes.{module}.{name}" for module in ("base", "range", "numeric") for name in _INDEXES}
    | {"pandas.arrays.StringArray", "pandas.core.arrays.string_.StringArray"}
)
"""Classes that a pickle names as the first argument of a function below."""
ARRAYS: Final = frozenset({"pandas.arrays.ArrowStringArray", "pandas.core.arrays.string_arrow.ArrowStringArray"})
"""Classes that a pickle makes and gives a state."""
CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "pandas.core.indexes.base._new_Index": new_index,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": lambda *_: Extension(),
    "pandas.StringDtype": lambda *_: None,
    "pandas.core.arrays.string_.StringDtype": lambda *_: None,
    "pyarrow.lib._restore_array": arrow_texts,
    "pyarrow.lib.chunked_array": chunked_texts,
    "pyarrow.lib.type_for_alias": lambda name: name,
    "pyarrow.lib.py_buffer": lambda data: data,
}
