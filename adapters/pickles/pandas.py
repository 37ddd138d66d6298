"""What pandas leaves in pickles of models, as plain values and without pandas: an Index becomes the list of its labels.

A ColumnTransformer takes a list wherever it takes an Index. https://github.com/pandas-dev/pandas/blob/v3.0.0/pandas/core/indexes/base.py
(`_new_Index`) and core/arrays/_mixins.py (`NDArrayBacked`) write what is read here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from adapters.checks import need

LONGEST: Final = 1 << 20
"""Labels of a RangeIndex, which are written as its two ends."""


class Extension:
    """An extension array of texts, whose state follows."""

    values: np.ndarray[Any, Any]

    def __setstate__(self, state: Any) -> None:
        found = [part for part in state if type(part) is np.ndarray] if isinstance(state, tuple) else []
        need(len(found) == 1, "an array of pandas has an unusual state")
        self.values = found[0]


def new_index(_kind: Any, parts: Any) -> list[Any]:
    """Returns the labels of the Index that `_new_Index` would make."""
    need(isinstance(parts, dict), "an Index is made of something else than a dictionary")
    if "data" not in parts:
        ends = [parts.get(key) for key in ("start", "stop", "step")]
        need(all(type(end) is int for end in ends) and ends[2], "a RangeIndex has unusual ends")
        made = range(*ends)
        need(len(made) <= LONGEST, f"a RangeIndex has more than {LONGEST} labels")
        return list(made)
    data = parts["data"].values if type(parts["data"]) is Extension else parts["data"]
    need(type(data) is np.ndarray and data.ndim == 1, "an Index is made of something else than an array")
    labels: list[Any] = data.tolist()
    need(
        all(label is None or isinstance(label, str | int | float | bool) for label in labels), "an Index has odd labels"
    )
    return labels


_INDEXES: Final = ("Index", "RangeIndex", "Int64Index", "UInt64Index", "Float64Index")
VALUES: Final = frozenset(
    {f"pandas.{name}" for name in _INDEXES}
    | {f"pandas.core.indexes.{module}.{name}" for module in ("base", "range", "numeric") for name in _INDEXES}
    | {"pandas.arrays.StringArray", "pandas.core.arrays.string_.StringArray"}
)
"""Classes that a pickle names as the first argument of a function below."""
CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "pandas.core.indexes.base._new_Index": new_index,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": lambda *_: Extension(),
    "pandas.StringDtype": lambda *_: None,
    "pandas.core.arrays.string_.StringDtype": lambda *_: None,
}
