"""MLServer's content types, as its own codecs write them (mlserver 1.7.1)."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import InvalidInput
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import encode
from tests.serving.protocol.v2.tensors import objects
from tests.serving.support import app_of, echo, model

PEOPLE = (TensorSpec("age", "FP64", (-1,)), TensorSpec("name", "BYTES", (-1,)), TensorSpec("member", "BOOL", (-1,)))


def column(name: str, datatype: str, data: list[Any], **parameters: Any) -> dict[str, Any]:
    """A column as MLServer's encoders write it: [N, 1]."""
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(data), 1],
        "data": data,
        **({"parameters": parameters} if parameters else {}),
    }


def asked(served: Any, *inputs: Any, **members: Any) -> Any:
    return decode({}, json.dumps({"inputs": inputs, **members}).encode(), served)


def answered(made: Any, *inputs: Any, **members: Any) -> Any:
    served = app_of(made, warm=False).model
    request = asked(served, *inputs, **members)
    return json.loads(encode(served, request, served.engine.predict(request)).body)


def refused(made: Any, *inputs: Any, **members: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        answered(made, *inputs, **members)
    return str(caught.value)


PD = {"parameters": {"content_type": "pd"}}


def test_pd_is_a_table_whose_columns_are_the_inputs():
    served = app_of(model(inputs=PEOPLE), warm=False).model
    columns = (
        column("age", "INT64", [22, 38]),
        column("name", "BYTES", ["Ann", "Bob"], content_type="str"),
        column("member", "BYTES", ["true", "false"], content_type="pd_json"),
    )
    found = asked(served, *columns, **PD).inputs
    assert {name: (array.dtype.name, array.tolist()) for name, array in found.items()} == {
        "age": ("float64", [22.0, 38.0]), "name": ("object", [b"Ann", b"Bob"]), "member": ("bool", [True, False]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "wanted"), [(None, [[1, 2], [3, 4]]), (["b", "a"], [[2, 1], [4, 3]]), (["c", "a"], [[1, 2], [3, 4]])]
)
def test_pd_for_a_model_of_one_matrix_is_its_columns(known: Any, wanted: Any):
    properties = {} if known is None else {"columns": json.dumps(known)}
    served = app_of(echo("FP32", (-1, 2), properties=properties), warm=False).model
    found = asked(served, column("a", "INT64", [1, 3]), column("b", "FP64", [2.0, 4.0]), **PD).inputs["x"]
    assert (found.dtype, found.tolist(), found.flags.c_contiguous) == (np.float32, wanted, True)


def test_a_table_that_is_none_is_refused():
    matrix = echo("FP32", (-1, 2))
    assert "the columns have different numbers of rows: [1, 2]" in refused(
        matrix, column("a", "FP32", [1]), column("b", "FP32", [1, 2]), **PD
    )
    assert "unknown input 'a'" in refused(matrix, column("a", "FP32", [1]), column("a", "FP32", [1]), **PD)
    assert "unknown input 'a'" in refused(matrix, *(column(name, "FP32", [1]) for name in "abc"), **PD)
    assert "inputs[1] must be an object" in refused(matrix, {**column("x", "FP32", [1, 2]), "shape": [1, 2]}, 1, **PD)
    assert "expected shape [-1, 2]" in refused(matrix, column("x", "FP32", [1]), **PD)


def test_base64_is_undone_and_what_is_none_stays():
    served, values = app_of(echo("BYTES"), warm=False).model, [base64.b64encode(b"\xff\0").decode(), "no base64!", ""]
    one = column("x", "BYTES", values, content_type="base64")
    assert asked(served, one).inputs["x"].tolist() == [b"\xff\0", b"no base64!", b""]


def test_datetime_is_checked_and_stays_text():
    served = app_of(echo("BYTES"), warm=False).model
    good = ["2026-11-27", "2026-11-27T18:00:00+01:00"]
    assert asked(served, column("x", "BYTES", good, content_type="datetime")).inputs["x"].tolist() == [
        text.encode() for text in good
    ]
    said = refused(echo("BYTES"), column("x", "BYTES", [*good, "today"], content_type="datetime"))
    assert "input 'x', element 2: content type datetime wants ISO 8601, got 'today'" in said


@pytest.mark.parametrize(
    ("datatype", "cells", "wanted"),
    [
        ("FP64", ["1.5", "null", "2"], [1.5, None, 2.0]),
        ("BYTES", ['"a"', '""'], [b"a", b""]),
        ("INT64", ["7"], [7]),
        ("INT64", ["1.5"], "element 0: INT64 wants a whole number, got 1.5"),
        ("FP64", ["nonsense"], "element 0: content type pd_json wants JSON"),
        ("BYTES", ['{"a":1}'], "element 0: BYTES wants a string, got an object"),
        ("INT64", ["[7]"], "data does not match shape"),
        ("BOOL", ['"true"'], "element 0: BOOL wants true, false, 0 or 1, got 'true'"),
    ],
)
def test_pd_json_is_a_cell_of_json_each(datatype: str, cells: list[str], wanted: Any):
    one = column("x", "BYTES", cells, content_type="pd_json")
    if isinstance(wanted, str):
        assert wanted in refused(echo(datatype), one)
        return
    found = asked(app_of(echo(datatype), warm=False).model, one).inputs["x"].tolist()
    assert [None if value != value else value for value in found] == wanted


@pytest.mark.parametrize(
    ("datatype", "given"),
    [("BYTES", ["a", "\u00e9"]), ("INT64", [2**60]), ("FP32", [5.1, None, "Infinity"]), ("BOOL", [True, False])],
)
def test_an_output_as_pd_json_is_what_an_input_may_be(datatype: str, given: list[Any]):
    sent = column("x", "BYTES", [json.dumps(value, ensure_ascii=False) for value in given], content_type="pd_json")
    wanted = [{"name": "y", "parameters": {"content_type": "pd_json"}}]
    (answer,) = answered(echo(datatype), sent, outputs=wanted)["outputs"]
    assert answer == {"name": "y", "datatype": "BYTES", "shape": [len(given)], "parameters": {"content_type": "pd_json"},
                      "data": sent["data"]}  # fmt: skip


def test_others_say_nothing():
    assert answered(echo("FP32"), column("x", "FP32", [1.5], content_type="hf"), parameters={"content_type": "dict"})[
        "outputs"
    ] == [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.5]}]


@pytest.mark.parametrize("content_type", ["pd", "np"])
def test_an_answer_has_the_content_types_of_its_outputs(content_type: str):
    x = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5, 3, 1, 0]}
    wanted = [{"name": "label"}]
    answer = answered(model(), x, outputs=wanted, parameters={"content_type": content_type})
    assert answer["parameters"] == {"content_type": content_type}
    assert answer["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [1], "parameters": {"content_type": "np"}, "data": [0]}
    ]
    both = answered(model(), x, parameters={"content_type": content_type})  # a matrix is no column, and two are not one
    assert "parameters" not in both
    assert [output["parameters"] for output in both["outputs"]] == [{"content_type": "np"}] * 2


@pytest.mark.parametrize(
    ("given", "content_type", "data"),
    [
        ([b"a", b"b"], "str", ["a", "b"]),
        ([b"\xff"], "base64", ["/w=="]),
        ([b"2026-11-27"], "datetime", ["2026-11-27"]),
        ([b"a"], "np", ["a"]),
    ],
)
def test_an_output_of_text_comes_as_it_is_asked(given: list[bytes], content_type: str, data: list[str]):
    made = model(
        lambda arrays, wanted: {"y": objects(given)},
        inputs=(TensorSpec("x", "BYTES", (-1,)),),
        outputs=(TensorSpec("y", "BYTES", (-1,)),),
    )
    x = column("x", "BYTES", ["?"])
    answer = answered(made, x, outputs=[{"name": "y", "parameters": {"content_type": content_type}}])["outputs"][0]
    assert (answer["data"], answer["parameters"]) == (
        data,
        {"content_type": "str" if content_type == "np" else content_type},
    )
    if content_type == "str":
        assert answered(made, x, parameters={"content_type": "str"})["parameters"] == {"content_type": "str"}
