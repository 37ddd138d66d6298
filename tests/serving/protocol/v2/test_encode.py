from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapters.values import DTYPES
from runtime.serving.engine.request import Request
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import encode
from tests.serving.support import app_of, echo


def outputs(datatype: str, array: Any) -> list[Any]:
    return document(datatype, np.asarray(array, DTYPES[datatype]))["outputs"][0]["data"]


def document(datatype: str, array: Any) -> Any:
    served = app_of(echo(datatype), warm=False).model
    return json.loads(encode(served, Request({}, ("y",), "i"), {"y": array}).body)


@pytest.mark.parametrize("count", [4, 200], ids=["few", "many"])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_nan_is_null_and_infinities_are_their_names(datatype: str, count: int):
    values = [1.5, float("nan"), float("inf"), float("-inf")]
    wanted = [1.5, None, "Infinity", "-Infinity"]
    assert outputs(datatype, values * (count // 4)) == wanted * (count // 4)


EXTREMES = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [65504.0, 6e-08, -0.0],
    "FP32": [3.4028235e38, 1e-45, -0.0, 0.1],
    "FP64": [1.7976931348623157e308, 5e-324, 0.1],
    "BYTES": ["", "naïve", "\U0001f600", "nul\0", '"\\\n'],
}


@pytest.mark.parametrize("datatype", EXTREMES)
def test_what_comes_in_goes_out_bit_for_bit(datatype: str):
    values = EXTREMES[datatype]
    tensor = {"name": "x", "shape": [len(values)], "datatype": datatype, "data": values}
    served = app_of(echo(datatype), warm=False).model
    array = decode({}, json.dumps({"inputs": [tensor]}).encode(), served).inputs["x"]
    assert array.dtype == DTYPES[datatype]
    again = {**tensor, "data": outputs(datatype, array)}
    same = decode({}, json.dumps({"inputs": [again]}).encode(), served).inputs["x"]
    assert array.tobytes() == same.tobytes() if datatype != "BYTES" else array.tolist() == same.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(12, dtype=np.float32)[::2],
        np.arange(300_000, dtype=np.float32)[::2],
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.zeros((0, 4), np.float32),
        np.array(7.0, np.float32),
    ],
    ids=["transposed", "strided", "strided and long", "Fortran", "empty", "scalar"],
)
def test_data_is_flat_and_row_major_whatever_the_memory(array: Any):
    assert outputs("FP32", array) == array.ravel(order="C").tolist()
    assert document("FP32", array)["outputs"][0]["shape"] == list(array.shape)


def test_text_that_looks_like_null_is_text():
    assert outputs("BYTES", np.array([b"null", b"NaN"], object)) == ["null", "NaN"]
