"""Requests that are shown to people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.serving.protocol.examples import as_written
from runtime.serving.protocol.rows import short, values_of


def tensor(datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}


@pytest.mark.parametrize(
    ("datatype", "data", "shown"),
    [
        ("FP32", [5.099999904632568, 3.5, 1, None], [5.1, 3.5, 1.0, None]),
        ("FP32", [[5.099999904632568], [1e-7]], [[5.1], [1e-7]]),
        ("FP64", [5.099999904632568], [5.099999904632568]),
        ("FP32", ["Infinity", 0.25], ["Infinity", 0.25]),
        ("FP32", [1e300], [1e300]),
        ("FP32", ["x"], ["x"]),
        ("BYTES", ["5.10"], ["5.10"]),
    ],
)  # fmt: skip
def test_numbers_are_shown_as_a_person_writes_them(datatype: str, data: list[Any], shown: list[Any]):
    request = {"id": "a", "inputs": [tensor(datatype, data)]}
    assert as_written(request) == {"id": "a", "inputs": [tensor(datatype, shown)]}


@pytest.mark.parametrize("request_", [{}, {"inputs": None}, {"inputs": [1]}, {"inputs": [{"name": "x"}]}])
def test_what_is_no_request_stays_what_it_is(request_: dict[str, Any]):
    assert as_written(request_) is request_


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
def test_no_value_changes_by_being_short(dtype: Any, shape: tuple[int, ...]):
    array = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    assert np.array_equal(np.array(short(array), dtype).reshape(shape), array)
    assert np.shape(values_of("y", array)) == shape[: 1 if 0 in shape else None]
