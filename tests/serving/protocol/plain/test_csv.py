"""Plain predictions in CSV, with and without a header, and answers in CSV."""

from __future__ import annotations

import csv as standard
import gc
import io
import tracemalloc
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Model, TensorSpec
from runtime.errors import InvalidInput
from runtime.serving.protocol.plain import csv_text
from runtime.serving.protocol.plain.csv_text import _BLOCK_ROWS, _Rows, read_csv
from tests.serving.protocol.models import column, people, texts
from tests.serving.protocol.plain.test_json import ANSWER, post
from tests.serving.support import app_of, echo, model


def csv(served: Model, body: bytes | str, **headers: str) -> Any:
    content = body.encode() if isinstance(body, str) else body
    return post(served, content, **{"Content-Type": "text/csv", **headers})


@pytest.mark.parametrize(
    "body",
    [
        "5.0,3.5,1.5,0.25",
        "5,3.5,1.5,.25\n\n",
        "X[0],X[1],X[2],X[3]\r\n5.0,3.5,1.5,0.25\r\n",
        "X[3], X[1],X[2],X[0]\n 0.25,3.5,1.5,5e0\n",
        '\ufeff"X[0]",X[1],X[2],X[3]\n"5.0",3.5,1.5,0.25',
    ],
)
def test_rows_with_and_without_a_header(body: str):
    assert csv(model(), body) == [ANSWER]


def test_columns_of_several_datatypes():
    answer = [{"y": "1.5|2|a, b|True"}, {"y": "nan|4||False"}, {"y": "nan|0| \u00e9|True"}]
    rows = '1.5,2,"a, b",true\n,4.0,,0\nnan,0, \u00e9,TRUE\n'
    assert csv(people(), rows) == answer
    assert csv(people(), "age,count,name,flag\n" + rows) == answer
    assert (
        csv(people(), 'name,flag,count,age\n"a, b",1,2,1.5\n', **{"Content-Type": "text/csv; charset=utf-8"})
        == answer[:1]
    )
    assert csv(people(), "name, flag, count, age\nb , true, 2, 1.5\n") == [{"y": "1.5|2|b|True"}]
    assert csv(people(), "name,flag,count,age\nb , true, 2, 1.5\n") == [{"y": "1.5|2|b |True"}]


def test_true_and_false_are_numbers_where_the_model_takes_numbers():
    assert csv(people(), "True,false,a,1\n1.5,TRUE,b,0\n") == [{"y": "1.0|0|a|True"}, {"y": "1.5|1|b|False"}]


def test_one_column_and_texts_and_free_widths():
    assert csv(column(), "5\n6\n") == [{"y": [5.0]}, {"y": [6.0]}]
    assert csv(texts(), "text\nab\n") == [{"y": "ab", "length": 2}]
    assert csv(echo("FP32", (-1, -1)), "1,2\n3,4\n") == [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}]
    assert csv(echo("INT64", (-1, 2, 2)), "1,2,3,4") == [{"y": [[1, 2], [3, 4]]}]
    assert csv(echo("FP64", ()), "1.5") == {"y": 1.5}


def test_optional_inputs_may_be_left_out():
    inputs = TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,), optional=True)

    def total(arrays: Any, _: Any) -> Any:
        return {"y": sum(arrays.values())}

    either = model(total, inputs=inputs, outputs=(TensorSpec("y", "FP64", (-1,)),), labels=None)
    assert [csv(either, body)[0]["y"] for body in ("1", "1,2", "a\n1", "b,a\n1,3")] == [1, 3, 1, 4]


def test_more_rows_than_a_block():
    rows = _BLOCK_ROWS * 2 + 3
    answer = csv(echo("INT32"), "\n".join(map(str, range(rows))))
    assert [row["y"] for row in answer] == list(range(rows))
    status, said = csv(echo("INT8"), "1\n" * _BLOCK_ROWS + "300")
    assert (status, said.partition(";")[0]) == (
        400, f"in the {_BLOCK_ROWS} rows from row {_BLOCK_ROWS}: input 'x', element 0: 300 is out of range for INT8")  # fmt: skip


def test_wide_rows_are_in_blocks_of_fewer():
    status, said = csv(echo("INT8", (-1, 2000)), ("1," * 1999 + "1\n") * 131 + "1," * 1999 + "300\n")
    assert (status, said.partition(":")[0]) == (400, "in the 131 rows from row 131")


WIDE = 400_000
HEADER = "X[0],X[1],X[2],X[3]\n"
FREE = echo("FP64", (-1, -1))


@pytest.mark.parametrize(
    ("served", "body", "said"),
    [
        (
            model(),
            "11," * WIDE,
            f"the CSV has {WIDE + 1} columns and no header that this model knows, wanted 4: 'X[0]'",
        ),
        (
            model(),
            '"",' * WIDE,
            f"the CSV has {WIDE + 1} columns and no header that this model knows, wanted 4: 'X[0]'",
        ),
        (FREE, "11," * WIDE, "CSV for input 'x' has over 65536 columns; send JSON"),
        (model(), HEADER.strip() + ",11" * WIDE, "the CSV has an unknown column '11'"),
        (model(), "X[0]," * WIDE, "the CSV has a column twice"),
        (model(), HEADER + "1,2,3,4\n" + "11," * WIDE, f"row 1 of the CSV has {WIDE + 1} cells, the first line has 4"),
        (model(), HEADER + "11,'\"," * WIDE, f"row 0 of the CSV has {2 * WIDE + 1} cells, the first line has 4"),
        (model(), HEADER + '1,"\n",' + '"a,b",' * WIDE, f"row 0 of the CSV has {WIDE + 3} cells, the first line has 4"),
        (model(), HEADER + ('1,"\n' + '",2' * 5) * (WIDE // 10), "row 0 of the CSV has"),
        (model(), HEADER + ("11," * 2000 + "\n") * 500, "row 0 of the CSV has 2001 cells, the first line has 4"),
        (people(), '1,2,"' + "a," * WIDE + '",1', "the CSV cannot be read: field larger than field limit"),
    ],
    ids=range(11),
)
def test_no_row_takes_an_object_for_each_cell_that_is_too_many(served: Model, body: str, said: str):
    one, content, refused = app_of(served, warm=False).model, body.encode(), ""
    gc.disable()
    tracemalloc.start()
    try:
        read_csv(content, one.signature, one.limits)
    except InvalidInput as error:
        refused = str(error)
    finally:
        left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.enable()
    assert refused.startswith(said)
    assert peak < 7 * len(content)
    assert left < len(content) / 2  # nothing waits for the garbage collector


def test_quoted_cells_may_hold_any_delimiters_and_line_ends():
    long, meant = ',\n"",' * 9000, ',\n",' * 9000
    assert csv(people(), f'age,count,name,flag\n1,2,"{long}",1\n') == [{"y": f"1.0|2|{meant}|True"}]
    assert csv(people(), f'1,2,"{long}",1\n"1",2,"{long}","0"')[1]["y"][-5:] == "False"
    assert csv(people(), f'1,2,"{long}",1,1\n')[1].startswith("the CSV has 5 columns and no header")


@given(st.text('"",,,ab\n\r ', max_size=60), st.integers(1, 6), st.integers(0, 12))
def test_rows_are_those_of_the_csv_module_but_for_some_that_are_too_wide(text: str, most: int, long: int):
    def of(rows: Any) -> list[Any]:
        found = []
        try:
            found.extend((row, getattr(rows, "cells", 0)) for row in rows if row)
        except standard.Error as error:
            found.append((str(error), 0))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "_LONG", long)
        seen = of(_Rows(io.StringIO(text, newline=""), most))
    for (row, cells), (whole, _) in zip_longest(seen, of(standard.reader(io.StringIO(text, newline=""), strict=True))):
        if cells:
            assert len(row) > most
            assert isinstance(whole, str) or (len(whole) >= cells > most and row[:most] == whole[:most])
            break  # it is refused
        assert row == whole


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "the CSV is empty"),
        ("\n\n", "the CSV is empty"),
        ("age,count,name,flag\n", "the CSV has no rows"),
        ("1,2", "the CSV has 2 columns and no header that this model knows, wanted 4: 'age', 'count', 'name', 'flag'"),
        ("age,height\n1,2", "the CSV has an unknown column 'height'"),
        ("age,count,name,flag,age\n1,2,x,1,1", "the CSV has a column twice"),
        ("age,count,name\n1,2,x", "the CSV lacks 'flag'"),
        ("1,2,x,1\n1,2", "row 1 of the CSV has 2 cells, the first line has 4"),
        ("x,2,x,1", "input 'age', element 0: FP64 wants a number or null, got 'x'"),
        ("1_0,2,x,1", "got '1_0'"),
        ("\u0661,2,x,1", "input 'age', element 0: FP64 wants"),
        ("1e400,2,x,1", "got '1e400'"),
        ("1,2.5,x,1", "input 'count', element 0: INT32 wants a whole number, got 2.5"),
        ("1,3000000000,x,1", "3000000000 is out of range for INT32"),
        ("1,,x,1", "input 'count', element 0: INT32 wants a whole number, got ''"),
        ("1,2,x,maybe", "input 'flag', element 0: BOOL wants true, false, 0 or 1, got 'maybe'"),
        ("1," + "9" * 5000 + ",x,1", "INT32 wants a whole number"),
        ('1,2,"x,1', "the CSV cannot be read: unexpected end of data"),
        ("1,2," + "x" * 140_000 + ",1", "the CSV cannot be read: field larger than field limit"),
        (b"\xff,2,x,1", "the CSV is not UTF-8"),
    ],
)
def test_what_does_not_fit_is_a_400(body: bytes | str, said: str):
    status, error = csv(people(), body)
    assert (status, said in error) == (400, True), error


def test_shapes_that_csv_has_no_form_for():
    assert csv(echo("FP32", (-1, -1, 3)), "1")[1] == "CSV has no form for input 'x' of shape [-1, -1, 3]; send JSON"
    assert csv(echo("FP32", (-1, 70_000)), "1")[1] == "CSV for input 'x' has over 65536 columns; send JSON"
    inputs = TensorSpec("a", "FP64", (-1, -1)), TensorSpec("b", "FP64", (-1,))
    assert csv(model(inputs=inputs), "1,2")[1] == "CSV does not say how wide input 'a' is; send JSON"


def test_answers():
    def answer(arrays: Any, _: Any) -> Any:
        text = np.array([b"a,b", "\u00e9"], np.object_)
        numbers = np.array([[np.nan, np.inf], [0.1, -np.inf]], np.float32)
        return {"text": text, "n": numbers, "flag": np.array([True, False]), "big": np.array([2**64 - 1, 0], np.uint64)}

    outputs = tuple(TensorSpec(name, kind, shape) for name, kind, shape in (
        ("text", "BYTES", (-1,)), ("n", "FP32", (-1, 2)), ("flag", "BOOL", (-1,)), ("big", "UINT64", (-1,))))  # fmt: skip
    two = model(answer, outputs=outputs, labels=None)
    assert csv(two, "1,2,3,4\n1,2,3,4", Accept="text/csv") == (
        'text,n[0],n[1],flag,big\r\n"a,b",,Infinity,true,18446744073709551615\r\n\u00e9,0.1,-Infinity,false,0\r\n'
    )


def test_bytes_that_are_no_text_need_json():
    echoed = echo("BYTES")
    assert post(echoed, [{"b64": "//4="}]) == [{"y": {"b64": "//4="}}]
    assert post(echoed, [{"b64": "//4="}], Accept="text/csv") == (
        400, "output 'y' is not UTF-8, which CSV needs; ask for JSON")  # fmt: skip


def test_a_model_that_returns_no_bytes_is_a_failure():
    def answer(arrays: Any, _: Any) -> Any:
        return {"y": np.array([1], np.object_)}

    status, said = post(model(answer, outputs=(TensorSpec("y", "BYTES", (-1,)),)), [[1, 2, 3, 4]])
    assert (status, said[:16]) == (500, "inference failed")
