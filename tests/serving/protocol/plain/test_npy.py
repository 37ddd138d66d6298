"""NumPy files: read without evaluating anything, converted only where no value changes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from tests.serving.asking import call
from tests.serving.protocol.models import column, people, texts
from tests.serving.protocol.plain.test_json import ANSWER, ROW, post
from tests.serving.support import app_of, echo, model


def file_of(array: Any, version: tuple[int, int] | None = None, **options: Any) -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array(written, np.asarray(array), version=version, **options)
    return written.getvalue()


def npy(served: Model, body: bytes) -> Any:
    return post(served, body, **{"Content-Type": "application/x-npy"})


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_version_and_order_and_byte_order(version: tuple[int, int], dtype: str, order: Any):
    array = np.array([ROW, [1, 2, 3, 4]], dtype, order=order)
    answer = npy(model(), file_of(array, version))
    assert answer == [ANSWER, {"label": 0, "scores": {"setosa": 10.0, "versicolor": 4.0, "virginica": 1.0}}]


def test_columns_and_texts_and_nothing():
    assert npy(column(), file_of([1.0, 2.0])) == [{"y": [1.0]}, {"y": [2.0]}]
    assert npy(echo("INT64"), file_of([[1], [2]])) == [{"y": 1}, {"y": 2}]
    assert npy(texts(), file_of(["a\u00e9", ""])) == [{"y": "a\u00e9", "length": 3}, {"y": "", "length": 0}]
    assert npy(texts(), file_of([b"\xff"])) == [{"y": {"b64": "/w=="}, "length": 1}]
    assert npy(echo("FP64", (-1, 2)), file_of(np.empty((0, 2)))) == []
    assert npy(echo("BOOL"), file_of([True, False])) == [{"y": True}, {"y": False}]


def test_a_model_of_columns_takes_them_as_a_matrix_in_their_order():
    loaded = model(
        lambda arrays, _: {"y": arrays["x"]},
        inputs=(TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,))),
        also=(TensorSpec("x", "FP64", (-1, 2)),),
        outputs=(TensorSpec("y", "FP64", (-1, 2)),),
        labels=None,
    )
    assert npy(loaded, file_of([[1, 2], [3, 4]])) == [{"y": [1, 2]}, {"y": [3, 4]}]
    assert npy(loaded, file_of([1, 2])) == {"y": [1, 2]}
    paths = call(app_of(loaded, warm=False), "GET", "/openapi.json").json()["paths"]
    assert "application/x-npy" in paths["/predict"]["post"]["requestBody"]["content"]


def test_no_rows_have_an_answer_in_every_form():
    for loaded, names in ((model(), "label,scores[setosa],scores[versicolor],scores[virginica]"), (echo("FP64"), "y")):
        body = file_of(np.empty((0, *loaded.inputs[0].shape[1:]), "float32"))
        assert npy(loaded, body) == []
        assert post(loaded, body, **{"Content-Type": "application/x-npy", "Accept": "text/csv"}) == f"{names}\r\n"


def test_one_row_may_come_without_an_axis_of_rows_and_gets_one_answer():
    assert npy(model(), file_of(np.array(ROW, np.float32))) == ANSWER
    assert npy(echo("FP64", (-1, 2, 3)), file_of(np.arange(6.0).reshape(2, 3))) == {"y": [[0, 1, 2], [3, 4, 5]]}
    assert npy(echo("BYTES", (-1, 2)), file_of(["a", "b"])) == {"y": ["a", "b"]}
    assert npy(echo("FP64"), file_of(2.5)) == {"y": 2.5}
    assert npy(column(), file_of([2.5])) == [{"y": [2.5]}]
    assert "expected shape [-1, -1] (-1: any), got [2]" in npy(echo("FP64", (-1, -1)), file_of([1.0, 2.0]))[1]


EXACT: list[tuple[str, Any, Any]] = [
    ("FP32", np.array([0.5, np.nan, np.inf]), None),
    ("FP32", np.array([0.1]), 0.1),
    ("FP32", np.array([1e39]), 1e39),
    ("FP16", np.array([70_000]), 70_000),
    ("FP16", np.array([2048, -2050], np.int32), None),
    ("FP16", np.array([1, 2049], np.int32), 2049),
    ("FP64", np.array([0.1], np.float32), None),
    ("FP64", np.array([2**53 + 2, -(2**63)]), None),
    ("FP64", np.array([1, 2**53 + 1]), 2**53 + 1),
    ("FP64", np.array([2**64 - 1], np.uint64), 2**64 - 1),
    ("INT8", np.array([1.0, -128.0]), None),
    ("INT8", np.array([1.5]), 1.5),
    ("INT8", np.array([128.0]), 128.0),
    ("INT8", np.array([np.nan]), np.nan),
    ("INT64", np.array([2.0**60]), None),
    ("INT8", np.array([127, -128]), None),
    ("INT8", np.array([0, 128]), 128),
    ("UINT8", np.array([-1], np.int8), -1),
    ("UINT64", np.array([2**63 - 1]), None),
    ("INT64", np.array([2**63], np.uint64), 2**63),
    ("BOOL", np.array([0, 1]), None),
    ("BOOL", np.array([1.0, 2.0]), 2.0),
]


@pytest.mark.parametrize(("datatype", "array", "changed"), EXACT, ids=lambda value: str(value)[:24])
def test_a_value_that_would_change_is_refused_and_named(datatype: str, array: Any, changed: Any):
    answer = npy(echo(datatype), file_of(array))
    if changed is None:
        values = [row["y"] for row in answer]
        numbers = [np.nan if value is None else float(value) for value in values]
        np.testing.assert_array_equal(np.array(numbers), array.astype(np.float64))
    else:
        status, said = answer
        assert status == 400
        assert f"expected datatype {datatype}, got " in said
        assert f", and {changed} would change in that" in said


def tampered(old: bytes, new: bytes) -> bytes:
    return file_of(np.array([ROW], np.float32)).replace(old, new.ljust(len(old)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not a NumPy file"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "the body is not a NumPy file of version 1 to 3"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(20), "header is cut, or has more than 4096 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(20), "header is cut, or has more than 4096 bytes"),
        (b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000, "header is cut, or has more than 4096 bytes"),
        (file_of(np.array([[1, None]], np.object_), allow_pickle=True), "something else than plain numbers or texts"),
        (file_of(np.zeros(1, [("a", "f4")])), "something else than plain numbers or texts"),
        (file_of(np.zeros((1, 4), np.complex64)), "something else than plain numbers or texts"),
        (tampered(b"<f4", b"<V4"), "something else than plain numbers or texts"),
        (tampered(b"<f4", b"<S0"), "something else than plain numbers or texts"),
        (tampered(b"False", b"exit"), "something else than plain numbers or texts"),
        (tampered(b"(1, 4)", b"(9, 4)"), "shape [9, 4] wants 144 bytes, got 16"),
        (file_of(np.array([ROW], np.float32))[:-1], "shape [1, 4] wants 16 bytes, got 15"),
        (file_of(np.array([ROW], np.float32)) + b"x", "shape [1, 4] wants 16 bytes, got 17"),
        (tampered(b"(1, 4), }" + b" " * 20, b"(99999999999999999999, 4), }"), "element count too large"),
        (file_of(np.array(ROW[:3], np.float32)), "expected shape [-1, 4] (-1: any), got [3]"),
        (file_of([["a", "b", "c", "d"]]), "expected datatype FP32, got texts"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_what_is_no_such_file_is_a_400(body: bytes, said: str):
    status, error = npy(model(), body)
    assert (status, said in error) == (400, True), error


def test_datatypes_that_do_not_go_together():
    assert "BOOL wants bytes of 0 or 1" in npy(echo("BOOL"), file_of([True])[:-1] + b"\x02")[1]
    assert "expected datatype BYTES, got INT64" in npy(texts(), file_of([1]))[1]
    assert "a NumPy file is for models with one input" in npy(people(), file_of([1.0]))[1]
    lone = file_of(["a"])[:-4] + b"\x00\xd8\x00\x00"
    assert "a text that is no Unicode" in npy(texts(), lone)[1]


def test_an_archive_of_arrays_is_told_what_to_send():
    status, error = post(model(), b"PK\x03\x04" + bytes(26))
    assert (status, error.startswith("the body is a zip archive, as .npz and .xlsx are: send an array as")) == (
        400,
        True,
    )
