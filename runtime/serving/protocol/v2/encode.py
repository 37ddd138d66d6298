"""Named arrays → the bytes of a JSON answer (docs/protocol.md, 3): flat data, in the order asked, strict JSON.

Everything that does not change from answer to answer is made once, in `Form`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from runtime.errors import InvalidInput, PredictFailed
from runtime.serving.protocol.datatypes import NUMPY
from runtime.serving.wording import shown

if TYPE_CHECKING:
    from adapters.base import Arrays, Model

_FEW = 64
_AS_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Form(NamedTuple):
    """The constant parts of every answer of one model."""

    head: bytes
    outputs: Mapping[str, tuple[bytes, np.dtype[Any]]]
    """By name: the text before the shape, and the dtype the array must have."""

    @classmethod
    def of(cls, model: Model, name: str, version: str) -> Form:
        """The form of the answers of `model`, served as `name`."""
        outputs = {spec.name: (_before_shape(spec.name, spec.datatype), NUMPY[spec.datatype]) for spec in model.outputs}
        return cls(orjson.dumps({"model_name": name, "model_version": version})[:-1] + b',"id":', outputs)


def _before_shape(name: str, datatype: str) -> bytes:
    return orjson.dumps({"name": name, "datatype": datatype})[:-1] + b',"shape":'


def encode(form: Form, request_id: str, wanted: tuple[str, ...], arrays: Arrays) -> bytes:
    """The body of an answer.

    Raises PredictFailed if the model gave something else than its signature says, InvalidInput if a BYTES output is
    not text, which JSON cannot carry.
    """
    parts = [form.head, orjson.dumps(request_id)]
    before = b',"outputs":['
    for name in wanted:
        prefix, dtype = form.outputs[name]
        array = arrays.get(name)
        if array is None or array.dtype != dtype:
            raise _other_than_promised(name, dtype, array)
        parts += (before, prefix, orjson.dumps(array.shape), b',"data":', _data(name, array), b"}")
        before = b","
    parts.append(b"]}")
    return b"".join(parts)


def _other_than_promised(name: str, dtype: np.dtype[Any], array: Any) -> PredictFailed:
    if array is None:
        return PredictFailed(f"the model did not return its output {shown(name)}")
    return PredictFailed(f"the model returned output {shown(name)} as {array.dtype}, its signature says {dtype}")


def _data(name: str, array: np.ndarray[Any, Any]) -> bytes:
    flat = array.reshape(-1)
    kind = flat.dtype.kind
    if kind == "O":
        return orjson.dumps(_texts(name, flat.tolist()))
    if not flat.flags.c_contiguous:
        flat = np.ascontiguousarray(flat)
    if kind != "f":
        return orjson.dumps(flat, option=_AS_NUMPY)
    if flat.dtype != np.float64:
        flat = flat.astype(np.float64)  # the exact value: fewer digits would do for a float32, and be another number
    if flat.size > _FEW:
        return orjson.dumps(flat, option=_AS_NUMPY) if np.isfinite(flat).all() else _not_finite(flat)
    data = orjson.dumps(flat, option=_AS_NUMPY)
    return _not_finite(flat) if b"n" in data else data


def _not_finite(flat: np.ndarray[Any, Any]) -> bytes:
    """orjson writes null for infinities too; they have names that numpy-based clients read back."""
    data: list[object] = flat.tolist()
    for index in np.flatnonzero(np.isinf(flat)).tolist():
        data[index] = "Infinity" if flat[index] > 0 else "-Infinity"
    return orjson.dumps(data)


def _texts(name: str, values: list[Any]) -> list[str]:
    try:
        return [value if type(value) is str else value.decode() for value in values]
    except UnicodeDecodeError:
        index = next(index for index, value in enumerate(values) if not _is_text(value))
        raise InvalidInput(
            f"output {shown(name)}, element {index}, is not UTF-8, which JSON needs; ask for this output as binary data"
        ) from None
    except AttributeError:
        raise PredictFailed(f"the model returned something else than bytes in its output {shown(name)}") from None


def _is_text(value: Any) -> bool:
    try:
        return type(value) is str or value.decode() is not None
    except UnicodeDecodeError:
        return False
