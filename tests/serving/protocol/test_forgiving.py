"""A JSON value that converts exactly is taken by every protocol, in either shape of a column; another is refused."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from adapters.values import DTYPES
from runtime.errors import InvalidInput
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.v1 import V1
from runtime.serving.protocol.v2.codec import V2_JSON
from tests.serving.support import app_of, echo

VALUES = [0, 1, -1, 128, 255, 65504, 65536, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 1.0, -0.0, -3.0, 0.5, 0.1,
          1e16, 7e4, -1e300, True, False, None, "NaN", "Infinity", "1"]  # fmt: skip
NAMED = {None: np.nan, "NaN": np.nan, "Infinity": np.inf}
REFUSED = object()


def right(value: Any, datatype: str, *, announced: bool) -> Any:
    """The element that `value` is, by the rules of docs/protocol.md, written down again; REFUSED if it is none."""
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return value.encode() if isinstance(value, str) else REFUSED
    if value == "1":
        return REFUSED
    if dtype.kind == "f" and (value is None or isinstance(value, str)):
        return NAMED[value]
    if value is None or isinstance(value, str) or (isinstance(value, bool) and announced and datatype != "BOOL"):
        return REFUSED
    if dtype.kind == "b":
        if announced and isinstance(value, float):
            return REFUSED
        return bool(value) if value in (0, 1) else REFUSED
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = dtype.type(float(value))
        return REFUSED if np.isinf(rounded) else rounded
    limits = np.iinfo(dtype)
    whole = value == int(value) and limits.min <= value <= limits.max
    return int(value) if whole and (not isinstance(value, float) or abs(value) <= 2**53) else REFUSED


def v2(datatype: str, column: list[Any]) -> Any:
    flat = [value[0] if isinstance(value, list) else value for value in column]
    shape = [len(column), 1] if isinstance(column[0], list) else [len(column)]
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": flat}]}


BODIES: list[tuple[Codec, Any]] = [
    (V2_JSON, v2),
    (V1, lambda _, column: {"instances": column}),
    (V1, lambda _, column: {"inputs": {"x": column}}),
    (PLAIN, lambda _, column: column),
    (PLAIN, lambda _, column: {"x": column}),
    (PLAIN, lambda _, column: [{"x": value} for value in column]),
]


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_kind_of_value_in_every_shape_over_every_protocol(datatype: str):
    for shape in ((-1,), (-1, 1)):
        served = app_of(echo(datatype, shape), warm=False).model
        for value, nested, (codec, write) in product(VALUES, (False, True), BODIES):
            column = [[value]] * 2 if nested else [value] * 2
            body = json.dumps(write(datatype, column)).encode()
            wanted = right(value, datatype, announced=codec is V2_JSON)
            if wanted is REFUSED:
                with pytest.raises(InvalidInput, match=r"input 'x'|number in the request body is out of range"):
                    codec.decode({}, body, served)
                continue
            got = codec.decode({}, body, served).inputs["x"]
            assert (got.shape, got.dtype) == ((2, *shape[1:]), DTYPES[datatype])
            expected = np.array([wanted] * 2, got.dtype)
            assert np.array_equal(got.reshape(-1), expected, equal_nan=got.dtype.kind == "f"), body
