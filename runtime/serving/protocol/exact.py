"""An array of one datatype → another, if no value changes: for clients that send numbers of their own datatype."""

from typing import Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DATATYPE, DTYPES, Array
from runtime.errors import InputAtFault
from runtime.serving.protocol.json_elements import EXACT_INTEGERS
from runtime.serving.wording import quoted, shown

_MANTISSA: Final = {"FP16": 2**11, "FP32": 2**24, "FP64": EXACT_INTEGERS}
"""Up to here every integer is a float of that datatype."""


def exactly(spec: TensorSpec, array: Array) -> Array:
    """Returns `array` in the datatype of `spec`. Raises InputAtFault, naming the first value that would change."""
    wanted = DTYPES[spec.datatype]
    if array.dtype == wanted:
        return array
    kinds = array.dtype.kind, wanted.kind
    if "O" in kinds or (kinds[0] == "b" and kinds[1] != "b"):
        got = DATATYPE.get(array.dtype.newbyteorder("="), array.dtype.name)
        raise InputAtFault(f"input {quoted(spec.name)}: expected datatype {spec.datatype}, got {got}")
    with np.errstate(all="ignore"):
        made = array.astype(wanted)
        changed = _changed(array, made)
    if changed.any():
        value, index = array.reshape(-1)[at := int(changed.reshape(-1).argmax())].item(), at
        advice = f"{shown(value)} is no {spec.datatype}; send an array of {wanted.name}"
        raise InputAtFault(f"input {quoted(spec.name)}, element {index}: {advice}")
    return made


def _changed(array: Array, made: Array) -> Array:
    """True where the value is another one. Comparisons across datatypes would round first, and see no difference."""
    given, wanted = array.dtype.kind, made.dtype.kind
    changed: Array = np.zeros(array.shape, np.bool_)
    if wanted == "b":
        changed = (array != 0) & (array != 1)
    elif given == "f" and wanted == "f":
        if made.itemsize < array.itemsize:
            changed = (made.astype(array.dtype) != array) & ~np.isnan(array)
    elif given == "f":
        low, high = np.iinfo(made.dtype).min, np.iinfo(made.dtype).max
        whole = (array == np.floor(array)) & (np.abs(array) <= EXACT_INTEGERS)
        changed = ~(whole & (array >= low) & (array <= high))
    elif wanted == "f":
        most = _MANTISSA[DATATYPE[made.dtype]]
        for index in zip(*np.nonzero((array > most) | (array < -most)), strict=True):
            changed[index] = np.isinf(made[index]) or int(made[index]) != int(array[index])
    else:
        low = max(np.iinfo(made.dtype).min, np.iinfo(array.dtype).min)
        high = min(np.iinfo(made.dtype).max, np.iinfo(array.dtype).max)
        changed = (array < low) | (array > high)
    return changed
