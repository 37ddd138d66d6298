"""Plain predictions in JSON: every form with one meaning, and an example for those with none."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from tests.serving.asking import call
from tests.serving.protocol.models import column, people, texts
from tests.serving.support import INFER, Served, StaticHealth, app_of, echo, model

ROW = [5.0, 3.5, 1.5, 0.25]
SCORES = {"setosa": 10.25, "versicolor": 5.0, "virginica": 0.25}
ANSWER = {"label": 0, "scores": SCORES}


def post(served: Served | Model, body: Any, path: str = "/predict", **headers: str) -> Any:
    served = served if isinstance(served, Served) else app_of(served, warm=False)
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = call(served, "POST", path, content=content, headers=headers)
    if answer.headers["content-type"] == "text/csv; charset=utf-8":
        return answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json()["error"])


PATHS = ["/predict", "/v2/models/iris/predict", "/v2/models/iris/versions/v1/predict", "/invocations", "/score"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_means_the_served_model(path: str):
    served = app_of(model())
    assert post(served, [ROW, ROW], path) == [ANSWER, ANSWER]
    assert post(served, [ROW, ROW], path) == [ANSWER, ANSWER]  # the path is known by now
    assert call(served, "GET", path).status_code == 405


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ([ROW], [ANSWER]),
        (ROW, ANSWER),
        ([{"X": ROW}, {"X": ROW}], [ANSWER, ANSWER]),
        ([{"X": ROW}] * 4, [ANSWER] * 4),
        ({"X": ROW}, ANSWER),
        ({"X": [ROW]}, [ANSWER]),
        ({"any name": [ROW]}, [ANSWER]),
        ({"instances": [ROW]}, {"predictions": [{"label": 0, "scores": list(SCORES.values())}]}),
        ({"inputs": {"X": [ROW]}}, {"predictions": [{"label": 0, "scores": list(SCORES.values())}]}),
    ],
)
def test_rows_columns_and_objects(body: Any, answer: Any):
    assert post(model(), body) == answer


PERSON = {"age": 1, "count": 2, "name": "x", "flag": True}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (PERSON, {"y": "1.0|2|x|True"}),
        ([PERSON, PERSON], [{"y": "1.0|2|x|True"}] * 2),
        ({name: [value] * 2 for name, value in PERSON.items()}, [{"y": "1.0|2|x|True"}] * 2),
        ({name: [[value]] * 2 for name, value in PERSON.items()}, [{"y": "1.0|2|x|True"}] * 2),
        ([list(PERSON.values())], [{"y": "1.0|2|x|True"}]),
        (list(PERSON.values()), {"y": "1.0|2|x|True"}),
        ({**PERSON, "name": {"b64": "eA=="}}, {"y": "1.0|2|x|True"}),
    ],
)
def test_named_columns(body: Any, answer: Any):
    assert post(people(), body) == answer


def test_one_row_of_any_rank_gets_one_answer():
    assert post(echo("FP64", (-1, 2, 1)), [[1], [2]]) == {"y": [[1.0], [2.0]]}
    assert post(echo("FP64", (-1, 2, 1)), [[[1], [2]]]) == [{"y": [[1.0], [2.0]]}]


def test_one_column_is_given_as_values_or_as_lists():
    assert post(column(), {"x": 5}) == {"y": [5.0]}
    assert post(column(), {"x": [5, 6]}) == [{"y": [5.0]}, {"y": [6.0]}]
    assert post(column(), [5, [6]])[0] == 400
    for five in (5, [5], True):
        assert post(echo("FP64", ()), {"x": five}) == {"y": float(five if type(five) is not list else 5)}


def test_texts():
    answer = {"y": "a: b", "length": 4}
    assert post(texts(), ["a: b"]) == [answer]
    assert post(texts(), {"text": "a: b"}) == answer
    assert post(texts(), {"b64": "YTogYg=="}) == answer
    assert post(texts(), b"a: b", **{"Content-Type": "text/plain"}) == answer
    assert post(texts(), b"\xff", **{"Content-Type": "text/plain"}) == (400, "the text is not UTF-8")
    paired = dataclasses.replace(
        texts(), inputs=(*texts().inputs, TensorSpec("text_pair", "BYTES", (-1,), optional=True))
    )
    assert post(paired, b"a: b", **{"Content-Type": "text/plain"}) == post(paired, b'"a: b"') == answer
    assert post(paired, b'"a: b"\n"a: b"', **{"Content-Type": "application/jsonl"}) == [answer, answer]
    assert [each["y"] for each in post(paired, {"instances": ["a", "b"]})["predictions"]] == ["a", "b"]
    status, said = post(model(), b"a", **{"Content-Type": "text/plain; charset=utf-8"})
    assert (status, said.partition(";")[0]) == (400, "plain text is for models that take text")
    status, said = post(people(), b"a", **{"Content-Type": "text/plain"})
    assert (status, said.partition(";")[0]) == (400, "plain text is for models with one input")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {**PERSON, "age": [1, 2]},
            "ambiguous: 'count', 'name', 'flag' look like one row, the other inputs like columns",
        ),
        ([], "rows must be a non-empty array of rows, got none"),
        ({}, "missing input 'age', 'count', 'name', 'flag'"),
        ({"agee": 1}, "unknown input 'agee'; expected 'age'"),
        (b"age=1", "request body is not valid JSON"),
    ],
)
def test_what_has_no_meaning_gets_an_example_of_this_model(body: Any, said: str):
    status, error = post(people(), body)
    assert (status, said in error) == (400, True), error
    example = json.loads(error.partition("; a body that passes: ")[2])
    assert post(people(), example) == [{"y": "0.0|0||False"}]


def test_an_example_is_in_the_form_that_was_sent():
    status, error = post(people(), {"instances": [{"age": 1}]})
    assert (status, "missing input 'count'" in error) == (400, True)
    example = json.loads(error.partition("; a body that passes: ")[2])
    assert post(people(), example) == {"predictions": ["0.0|0||False"]}


def test_labels_stand_only_where_there_is_a_number_for_each():
    def answer(arrays: Any, _: Any) -> Any:
        return {"label": np.array([2]), "scores": np.array([[0.5, 0.25]])}

    outputs = TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP64", (-1, 2))
    plain = [{"label": 2, "scores": [0.5, 0.25]}]
    assert post(model(answer, outputs=outputs), [ROW]) == plain
    assert post(model(answer, outputs=outputs, labels=("a", "a")), [ROW]) == plain
    assert post(model(answer, outputs=outputs, labels=("a", "b")), [ROW]) == [
        {"label": 2, "scores": {"a": 0.5, "b": 0.25}}
    ]


def test_outputs_without_rows_are_one_object_and_no_csv():
    def answer(arrays: Any, _: Any) -> Any:
        return {"mean": np.array(2.0)}

    without = model(answer, outputs=(TensorSpec("mean", "FP64", ()),))
    assert post(without, [ROW]) == {"mean": 2.0}
    assert post(without, [ROW], Accept="text/csv") == (400, "the outputs have no rows, which CSV needs; ask for JSON")


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("text/csv", True),
        ("Text/CSV; q=0.5", True),
        ("text/csv, */*;q=0.1", True),
        ("application/json, text/csv", False),
        ("text/csv, application/json", True),
        ("text/csv;q=0.5, application/json", False),
        ("text/csv;q=x", False),
        ("text/csv;q=0", False),
        ("*/*", False),
    ],
)
def test_csv_is_answered_when_it_is_asked_for(accept: str, is_csv: bool):
    answer = post(model(), [ROW], Accept=accept)
    expected = "label,scores[setosa],scores[versicolor],scores[virginica]\r\n0,10.25,5.0,0.25\r\n"
    assert answer == (expected if is_csv else [ANSWER])


def test_pages_without_a_model_need_a_single_one():
    loading = app_of(health=StaticHealth(ready=False))
    assert call(loading, "POST", "/predict", json=[ROW]).status_code == 503
    assert call(loading, "GET", "/ping").status_code == 503
    assert call(app_of(model()), "GET", "/ping").json() == {"ready": True, "live": True}
    nobody = app_of(health=StaticHealth(ready=False, model_names=()))
    assert call(nobody, "POST", "/predict", json=[ROW]).status_code == 503
    two = app_of(model())
    two.models["other"] = two.model
    answer = call(two, "POST", "/predict", json=[ROW])
    assert (answer.status_code, answer.json()["error"]) == (
        404, "this path is for servers with one model; this one has 'iris', 'other'")  # fmt: skip


@pytest.mark.parametrize("kind", ["image/gif", "audio/wav", "application/x-protobuf"])
def test_other_media_are_refused(kind: str):
    status, said = post(model(), b"x", **{"Content-Type": kind})
    near = "image/png, image/jpeg, image/webp" if kind == "image/gif" else "application/"
    assert (status, f"unsupported content type '{kind}'; send {near}" in said) == (415, True), said


def test_what_is_not_json_is_told_what_it_needs():
    hint = "what is not JSON needs its Content-Type, as text/csv or text/plain"
    kinds = {"Content-Type": "application/x-www-form-urlencoded"}
    assert hint in post(model(), b"5.0,3.5,1.5,0.25", **kinds)[1]
    for body in (b"", b"[1", b'{"a":', b'"text"'):
        assert hint not in post(model(), body, **kinds)[1]


@pytest.mark.parametrize("rows", [4095, 4096, 4097, 9000])
def test_a_long_answer_is_the_same_as_many_short_ones(rows: int):
    served = app_of(echo("FP64"), warm=False)
    values = [float(number) for number in range(rows)]
    assert post(served, values) == [{"y": value} for value in values]
    assert post(served, values, Accept="text/csv") == "".join(f"{line}\r\n" for line in ("y", *values))
    assert post(served, {"instances": values}) == {"predictions": values}
    answer = post(
        served, {"inputs": [{"name": "x", "datatype": "FP64", "shape": [rows * 16], "data": values * 16}]}, INFER
    )
    assert answer["outputs"][0]["data"] == values * 16


LINES = {"Content-Type": "application/x-ndjson"}


def test_lines_of_json_are_rows():
    assert post(model(), b"%b\n\n%b\r\n" % ((json.dumps(ROW).encode(),) * 2), **LINES) == [ANSWER, ANSWER]
    assert post(model(), json.dumps({"X": ROW}).encode(), **{"Content-Type": "application/jsonl"}) == [ANSWER]
    assert post(texts(), b'"ab"\n"c"\n', **LINES) == [
        {"y": "ab", "length": 2}, {"y": "c", "length": 1}]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "rows must be a non-empty array of rows, got none"),
        (b"[1, 2, 3, 4]\n[1, 2\n", "row 1 of the JSON lines is not valid JSON: unexpected end of data"),
        (b"[[1, 2, 3, 4]\n[1, 2, 3, 4]]\n", "row 0 of the JSON lines is not valid JSON"),
        (b"[1, 2\n3, 4], [1, 2, 3, 4]\n", "row 0 of the JSON lines is not valid JSON"),
        (b"[1, 2, 3, 4] [1, 2, 3, 4]\n", "row 0 of the JSON lines is not valid JSON"),
        (b"[" * 100 + b"]" * 100, "request body has nesting deeper than 64"),
        (b'{"X": [1, 2, 3, 4], "X": [1, 2, 3, 4]}\n', "request body has a duplicate key: 'X'"),
    ],
)
def test_lines_that_are_no_rows_are_refused(body: bytes, said: str):
    status, error = post(model(), body, **LINES)
    assert (status, error.startswith(said)) == (400, True), error


def test_one_text_is_one_row_of_a_model_of_texts():
    assert post(texts(), b' "ab"') == {"y": "ab", "length": 2}
    assert post(texts(), b'"ab"', **{"Content-Type": "application/x-www-form-urlencoded"}) == {"y": "ab", "length": 2}
    assert post(texts(), b'"ab" "c"')[1].startswith("request body is not valid JSON: unexpected content")
    assert post(model(), b'"ab"')[1].startswith("request must be a JSON object or array, got a string")


def test_lines_take_no_more_memory_than_one_array():
    status, error = post(texts(), b"".join(b'"%d"\n' % number for number in range(1_500_000)), **LINES)
    assert (status, error.startswith("body too large: read as JSON it would take")) == (413, True), error
