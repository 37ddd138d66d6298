"""What MLServer's `content_type` says about a tensor.

https://mlserver.readthedocs.io/en/stable/user-guide/content-type.html
`np` and `str` say no more than datatype and shape do; `base64` is undone, `datetime` checked, `pd_json` read; under
`pd` the tensors of a request are the columns of one table. Others belong to other runtimes, and are ignored.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson

from adapters.base import TensorSpec
from adapters.values import Array
from runtime.errors import InputAtFault
from runtime.link.limits import Limits
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.protocol.rows import values_of
from runtime.serving.protocol.tensor_bytes import as_bytes
from runtime.serving.wording import quoted, shown

_OF_OUTPUTS: Final = ("np", "str", "base64", "datetime", "pd_json")
"""What a requested output may be asked for as."""


def carried(spec: TensorSpec, content_type: object) -> TensorSpec:
    """Returns the input `spec` as it travels with that content type."""
    return replace(spec, datatype="BYTES") if content_type == "pd_json" else spec


def undone(spec: TensorSpec, content_type: object, array: Array, limits: Limits) -> Array:
    """Returns the input `spec` from the BYTES `array`, which came with that content type. Raises InputAtFault."""
    values = array.reshape(-1).tolist()
    if content_type == "base64":
        _fill(array, [_from_base64(value) for value in values])
    elif content_type == "datetime":
        for index, value in enumerate(values):
            _check_datetime(spec, index, value)
    elif content_type == "pd_json":
        cells = [_from_json(spec, index, value) for index, value in enumerate(values)]
        return array_of(spec, list(array.shape), cells, limits)
    return array


def _fill(array: Array, values: list[bytes]) -> None:
    array.reshape(-1)[:] = values


def _from_base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value  # as MLServer does


def _check_datetime(spec: TensorSpec, index: int, value: bytes) -> None:
    try:
        datetime.fromisoformat(value.decode())
    except ValueError:
        said = f"content type datetime wants ISO 8601, got {shown(value.decode(errors='replace'))}"
        raise InputAtFault(f"input {quoted(spec.name)}, element {index}: {said}") from None


def _from_json(spec: TensorSpec, index: int, value: bytes) -> object:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        said = f"content type pd_json wants JSON: {error.msg}"
        raise InputAtFault(f"input {quoted(spec.name)}, element {index}: {said}") from None


def of_outputs(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns what outputs are asked for as, by name, from the `parameters` of each."""
    return {name: kind for name, of in parameters.items() if (kind := of.get("content_type")) in _OF_OUTPUTS}


def of_request(parameters: Mapping[str, Any]) -> str:
    """Returns what a request came as, "" if that says nothing about its answer."""
    given = parameters.get("content_type")
    return given if given in ("np", "pd", "str") else ""


def of_output(array: Array, asked: str) -> str:
    """Returns the content type of an output that was asked for as `asked`, "" for whatever fits."""
    if array.dtype != np.object_ and asked != "pd_json":
        return "np"
    return "str" if asked in ("", "np") else asked


def of_answer(asked: str, outputs: list[Array]) -> str:
    """Returns the content type of an answer to a request that came as `asked`, "" if the outputs do not make one."""
    texts = [array.dtype == np.object_ for array in outputs]
    fits = {
        "pd": all(array.ndim == 1 or array.shape[1:] == (1,) for array in outputs),
        "np": texts == [False],
        "str": texts == [True],
    }
    return asked if fits.get(asked) else ""


def written(name: str, array: Array, content_type: str) -> Array:
    """Returns an output in that content type: as `pd_json`, a JSON value in each element, it becomes BYTES."""
    if content_type not in ("base64", "pd_json"):
        return array
    made: Array = np.empty(array.shape, np.object_)
    if content_type == "pd_json":
        _fill(made, list(map(orjson.dumps, values_of(name, array.reshape(-1)))))
    else:
        _fill(made, list(map(base64.b64encode, as_bytes(name, array.reshape(-1).tolist()))))
    return made
