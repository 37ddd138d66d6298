"""Arrays and nested lists of Python → arrays that fit the model, by the rules that hold for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import InputAtFault
from runtime.serving.protocol.datatypes import NUMPY
from runtime.serving.protocol.json_elements import Array, array_of, count_of
from runtime.serving.wording import quoted

if TYPE_CHECKING:
    from adapters.base import Arrays, TensorSpec
    from runtime.serving.engine.limits import Limits
    from runtime.serving.engine.request import Signature


def arrays_of(inputs: Mapping[str, Any], signature: Signature, limits: Limits) -> Arrays:
    """Returns the model's inputs. Raises InputAtFault: unknown, missing, of another shape, out of range."""
    only = signature.only if len(inputs) == 1 else None
    specs = {name: only or signature.input(name) for name in inputs}
    arrays = {spec.name: _array(spec, inputs[name], limits) for name, spec in specs.items()}
    signature.check_complete(arrays)
    return arrays


def _array(spec: TensorSpec, value: Any, limits: Limits) -> Array:
    try:
        array = value if isinstance(value, np.ndarray) else np.array(value, object)
        shape = list(array.shape)
        if array.dtype == NUMPY[spec.datatype] != np.object_:
            count_of(spec, shape, limits)
            return np.asarray(array, order="C")
        elements = [item.item() if isinstance(item, np.generic) else item for item in array.reshape(-1).tolist()]
        return array_of(spec, shape, elements, limits)
    except ValueError as error:  # lists that cannot be one array, texts that are not Unicode
        raise InputAtFault(f"input {quoted(spec.name)}: {type(error).__name__}: cannot be read as an array") from error
