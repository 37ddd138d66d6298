"""A value is taken whatever datatype was announced, if it is the same in the model's; else it is refused by name."""

from __future__ import annotations

import functools
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.errors import InvalidInput, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.protocol.exact import check_kinds, converted
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.protocol.tensor_bytes import array_from, as_bytes

NUMBERS = sorted(set(DTYPES) - {"BYTES"})


def is_same(value: Any, datatype: str) -> bool:
    """Whether a Python number is one of `datatype`, by arithmetic on fractions alone."""
    if value != value:
        return datatype.startswith("FP")
    if value in (float("inf"), float("-inf")):
        return datatype.startswith("FP")
    exact = Fraction(value)
    if datatype == "BOOL":
        return exact in (0, 1)
    if not datatype.startswith("FP"):
        limits = np.iinfo(DTYPES[datatype])
        return exact.denominator == 1 and int(limits.min) <= exact <= int(limits.max)
    try:
        made = struct.unpack(f"<{datatype_code(datatype)}", struct.pack(f"<{datatype_code(datatype)}", float(exact)))[0]
    except OverflowError:
        return False
    return Fraction(made) == exact


def datatype_code(datatype: str) -> str:
    return {"FP16": "e", "FP32": "f", "FP64": "d"}[datatype]


EDGES = [0, 1, 2, 127, 128, 255, 256, 2048, 2049, 4098, 65504, 65519, 65520, 65535, 2**24, 2**24 + 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1024, 2**63 - 1, 2**63, 2**64 - 2048, 2**64 - 1]  # fmt: skip


@functools.cache
def elements(datatype: str) -> st.SearchStrategy[Any]:
    """Any element of a datatype, the edges of others among them often."""
    dtype = DTYPES[datatype]
    edges = [np.float64(edge) if dtype.kind == "f" else edge for edge in (*EDGES, *(-edge for edge in EDGES))]
    with np.errstate(over="ignore"):
        fit = [
            dtype.type(edge)
            for edge in edges
            if dtype.kind == "f" or (dtype.kind != "b" and np.iinfo(dtype).min <= edge <= np.iinfo(dtype).max)
        ]
    return arrays_of.from_dtype(dtype) if not fit else st.one_of(arrays_of.from_dtype(dtype), st.sampled_from(fit))


@st.composite
def numbers(draw: Any) -> tuple[str, Any]:
    announced = draw(st.sampled_from(NUMBERS))
    return announced, np.array(draw(st.lists(elements(announced), max_size=6)), DTYPES[announced])


@pytest.mark.slow
@given(numbers())
def test_a_value_goes_through_if_and_only_if_it_stays_the_same(given: tuple[str, Any]):
    announced, array = given
    for datatype in NUMBERS:
        spec = TensorSpec("x", datatype, (-1,))
        wrong = [index for index, value in enumerate(array.tolist()) if not is_same(value, datatype)]
        if wrong:
            told = f"input 'x', element {wrong[0]}: expected datatype {datatype}, got {announced}, and .* would change"
            with pytest.raises(InvalidInput, match=f"^{told}"):
                converted(spec, announced, array)
            continue
        made = converted(spec, announced, array)
        assert made.dtype == DTYPES[datatype]
        assert list(map(told_apart, made.tolist())) == list(map(told_apart, array.tolist()))


def told_apart(value: Any) -> Any:
    """The value, or the name of one that differs from itself."""
    return value if value == value else repr(float(value))


@pytest.mark.parametrize(
    ("announced", "datatype", "values", "wrong"),
    [
        ("BOOL", "FP32", [True, False], None),
        ("INT64", "FP64", [2, -(2**63), 2**63 - 1024], None),
        ("INT64", "FP64", [2, 2**53 + 1], 1),
        ("INT16", "FP16", [-32768, 2048], None),
        ("UINT16", "FP16", [65535], 0),
        ("UINT8", "FP16", [255], None),
        ("FP64", "FP32", [1.5, float("nan"), float("inf")], None),
        ("FP64", "FP32", [1.5, 0.1], 1),
        ("FP64", "FP16", [1e300], 0),
        ("FP64", "INT64", [1.0, -(2.0**63)], None),
        ("FP64", "INT64", [2.0**63], 0),
        ("FP32", "UINT64", [2.0**64], 0),
        ("FP64", "INT8", [1.5], 0),
        ("FP64", "INT8", [float("nan")], 0),
        ("FP64", "BOOL", [1.0, 0.0, -0.0], None),
        ("INT8", "BOOL", [1, 2], 1),
        ("UINT64", "INT64", [2**63], 0),
        ("INT8", "UINT8", [127, -1], 1),
    ],
)
def test_what_changes_and_what_does_not(announced: str, datatype: str, values: list[Any], wrong: int | None):
    array, spec = np.array(values, DTYPES[announced]), TensorSpec("x", datatype, (-1,))
    if wrong is None:
        np.testing.assert_array_equal(converted(spec, announced, array).astype(np.float64), array.astype(np.float64))
        return
    with pytest.raises(
        InvalidInput, match=f"^input 'x', element {wrong}: expected datatype {datatype}, got {announced}"
    ):
        converted(spec, announced, array)


@pytest.mark.parametrize("value", [1, None, "\ud800x\udfff"])
def test_an_output_of_bytes_that_has_none_is_the_models_failure(value: Any):
    with pytest.raises(PredictFailed, match="something else than bytes in its output 'y'"):
        as_bytes("y", [b"a", value])


@pytest.mark.parametrize(("announced", "datatype"), [("BYTES", "FP32"), ("FP32", "BYTES"), ("BYTES", "BOOL")])
def test_text_is_no_number(announced: str, datatype: str):
    with pytest.raises(InvalidInput, match=f"^input 'x': expected datatype {datatype}, got {announced}$"):
        check_kinds(TensorSpec("x", datatype, (-1,)), announced)


@pytest.mark.parametrize(
    ("model", "sent", "taken"),
    [
        ((-1,), [3, 1], [3]),
        ((-1, 1), [3], [3, 1]),
        ((3,), [3, 1], [3]),
        ((3, 1), [3], [3, 1]),
        ((-1,), [0, 1], [0]),
        ((-1, 1), [0], [0, 1]),
        ((2,), [3, 1], None),
        ((-1,), [1, 3], None),
        ((-1,), [3, 1, 1], None),
        ((-1, -1), [3], None),
        ((-1, 4), [4], None),
        ((), [1], None),
        ((1,), [], None),
        ((-1, -1, 1), [3, 1], None),
    ],
)
def test_one_column_is_a_row_of_numbers_or_a_matrix_of_one_column(
    model: tuple[int, ...], sent: list[int], taken: list[int] | None
):
    spec, values = TensorSpec("x", "INT8", model), list(range(int(np.prod(sent))))
    data = memoryview(bytearray(values))
    for read in (
        lambda: array_of(spec, sent, values, Limits()),
        lambda: (
            array_of(spec, sent, np.array(values).reshape(sent).tolist(), Limits())
            if sent
            else array_of(spec, sent, values, Limits())
        ),
        lambda: array_from(spec, "INT8", sent, data, Limits()),
        lambda: array_from(spec, "UINT8", sent, data, Limits()),
    ):
        if taken is None:
            with pytest.raises(InvalidInput, match="expected shape"):
                read()
        else:
            array = read()
            assert (list(array.shape), array.reshape(-1).tolist(), array.dtype) == (taken, values, np.int8)
