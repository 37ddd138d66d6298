"""KServe's V1: rows and columns in, predictions out, over ASGI."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from tests.serving.asking import call
from tests.serving.protocol.models import column, people, texts
from tests.serving.support import Served, StaticHealth, app_of, echo, model

ROW = [5.0, 3.5, 1.5, 0.25]
OF_IRIS = [{"label": 0, "scores": [10.25, 5.0, 0.25]}] * 2


def predict(served: Served | Model, body: Any, path: str = "/v1/models/iris:predict") -> Any:
    served = served if isinstance(served, Served) else app_of(served, warm=False)
    answer = call(served, "POST", path, content=body if isinstance(body, bytes) else json.dumps(body))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["modelkit-verified"] == "true"
    document = answer.json()
    assert list(document) == ["predictions" if answer.status_code == 200 else "error"]
    return document["predictions"] if answer.status_code == 200 else (answer.status_code, document["error"])


@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/v1/models/iris%3Apredict"])
@pytest.mark.parametrize(
    "body",
    [
        {"instances": [ROW, ROW]},
        {"instances": [{"X": ROW}, {"X": ROW}], "signature_name": "serving_default"},
        {"instances": [{"any name": ROW}, {"any name": ROW}]},
        {"inputs": [ROW, ROW]},
        {"inputs": {"X": [ROW, ROW]}},
    ],
)
def test_rows_and_columns_mean_the_same(body: Any, path: str):
    assert predict(model(), body, path) == OF_IRIS


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"age": 1, "count": 2, "name": "x", "flag": True}, {"flag": 0, "name": "", "count": 4.0, "age": None}]},
        {"instances": [[1, 2, "x", True], [None, 4, "", 0]]},
        {"inputs": {"age": [1, None], "count": [2, 4], "name": ["x", {"b64": ""}], "flag": [1, False]}},
        {"inputs": [[1, 2, "x", True], [None, 4, "", 0]]},
    ],
)  # fmt: skip
def test_named_columns_of_several_datatypes(body: Any):
    assert predict(people(), body) == ["1.0|2|x|True", "nan|4||False"]


def test_texts_and_bytes():
    both = [{"y": "é", "length": 2}, {"y": {"b64": "//4="}, "length": 2}]
    assert predict(texts(), {"instances": ["é", {"b64": "//4="}]}) == both
    assert predict(texts(), {"instances": [{"text": "é"}, {"text": {"b64": "//4="}}]}) == both


def test_one_output_is_its_nested_list():
    assert predict(echo("FP32", (-1, 2, 2)), {"instances": [[[1, 2], [3, 4.5]]]}) == [[[1.0, 2.0], [3.0, 4.5]]]
    assert predict(column(), {"instances": [1, 2.5]}) == [[1.0], [2.5]]
    assert predict(column(), {"instances": [[1], [2.5]]}) == [[1.0], [2.5]]
    assert predict(echo("INT8"), {"instances": [[1], [2]]}) == [1, 2]
    assert predict(echo("FP64", ()), {"inputs": 2.5}) == [2.5]


def test_numbers_that_json_has_not():
    def answer(arrays: Any, _: Any) -> Any:
        return {"label": np.array([1], np.int64), "scores": np.array([[np.inf, -np.inf, np.nan]], np.float32)}

    assert predict(model(answer), {"instances": [ROW]}) == [{"label": 1, "scores": ["Infinity", "-Infinity", None]}]


def test_outputs_without_rows_are_one_object():
    def answer(arrays: Any, _: Any) -> Any:
        return {"mean": np.array(2.0), "rows": arrays["X"][:, 0]}

    outputs = TensorSpec("mean", "FP64", ()), TensorSpec("rows", "FP32", (-1,))
    assert predict(model(answer, outputs=outputs), {"instances": [ROW]}) == [{"mean": 2.0, "rows": [5.0]}]


EXAMPLE = '; a body that passes: {"instances":[[0,0,0,0]]}'
WRONG: list[tuple[Any, str]] = [
    ({}, "the request has neither instances (rows) nor inputs (columns)" + EXAMPLE),
    ([ROW], "request must be a JSON object, got an array" + EXAMPLE),
    ({"instances": []}, "instances must be a non-empty array of rows, got none" + EXAMPLE),
    ({"instances": {"X": ROW}}, "instances must be a non-empty array of rows, got an object" + EXAMPLE),
    ({"instances": [ROW, ROW[:3]]}, "input 'X': data does not match shape [2, 4]: its nesting differs" + EXAMPLE),
    ({"instances": [ROW[:3]]}, "input 'X': expected shape [-1, 4] (-1: any), got [1, 3]" + EXAMPLE),
    ({"instances": [[1, 2, 3, "4"]]}, "input 'X', element 3: FP32 wants a number or null, got '4' (wrong element type)" + EXAMPLE),
    ({"instances": [{"X": ROW}, {"Y": ROW}]}, "instances[1] has other names than the rows before it: 'Y'" + EXAMPLE),
    ({"instances": [{"X": ROW, "Y": ROW}]}, "unknown input 'Y'; expected 'X'" + EXAMPLE),
    ({"instances": [{"b64": "AAAA"}]}, "input 'X': expected shape [-1, 4] (-1: any), got [1]" + EXAMPLE),
    ({"inputs": "x"}, "input 'X': expected shape [-1, 4] (-1: any), got []" + EXAMPLE),
    (b'{"instances": [NaN]}', 'NaN and Infinity are not JSON: send null for NaN, "Infinity" and "-Infinity" as texts' + EXAMPLE),
    (b'{"instances": [{"X":[1,2,3,4],"X":[1,2,3,4]}]}', "request body has a duplicate key: 'X'"),
    (b'{"instances": ' + b"[" * 70, "request body has nesting deeper than 64"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_a_400_with_a_body_that_would(body: Any, said: str):
    assert predict(model(), body) == (400, said)
    example = json.loads(EXAMPLE.partition(": ")[2])
    assert predict(model(), example) == [{"label": 0, "scores": [0.0, 0.0, 0.0]}]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"instances": [{"age": 1}]}, "missing input 'count', 'name', 'flag'; expected"),
        ({"instances": [[1, 2]]}, "each of instances must be an object with 'age', 'count', 'name', 'flag', or an array"),
        ({"inputs": {"age": [1, 2], "count": [1], "name": ["x"], "flag": [1]}}, "different numbers of rows: 'age' 2, 'count' 1"),
        ({"instances": [[1, 2, {"b64": "?"}, 1]]}, "input 'name': b64 '?' is not base64"),
        ({"instances": [[1, 2, {"b64": 1}, 1]]}, "input 'name', element 0: BYTES wants a string, got an object"),
    ],
)  # fmt: skip
def test_what_does_not_fit_named_columns(body: Any, said: str):
    status, error = predict(people(), body)
    assert status == 400
    assert said in error
    assert error.endswith('; a body that passes: {"instances":[{"age":0,"count":0,"name":"","flag":false}]}')


def test_an_example_that_would_be_long_is_a_place_to_look():
    status, error = predict(echo("FP32", (-1, 3, 64, 64)), {})
    assert (status, error.partition("; ")[2]) == (400, "GET /v2/models/iris shows what the model takes")


def test_listing_and_readiness():
    served = app_of(model())
    assert call(served, "GET", "/v1/models").json() == {"models": ["iris"]}
    assert call(served, "GET", "/v1/models/iris").json() == {"name": "iris", "ready": True}
    assert call(served, "GET", "/v1/models/other").status_code == 404
    served.health.ready = False
    assert call(served, "GET", "/v1/models/iris").status_code == 503
    loading = app_of(health=StaticHealth(ready=False))
    assert [call(loading, method, path).status_code for method, path in (
        ("GET", "/v1/models/iris"), ("POST", "/v1/models/iris:predict"), ("POST", "/v1/models/other:predict"))] == [503, 503, 404]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/models/iris:explain", "/v1/models/iris%3Aexplain"])
def test_there_are_no_explanations(path: str):
    served = app_of(model())
    answer = call(served, "POST", path, json={"instances": [ROW]})
    assert (answer.status_code, list(answer.json())) == (501, ["error"])
    assert call(served, "POST", "/v1/models/other:explain").status_code == 404


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_verb_is_asked_by_post(verb: str):
    answer = call(app_of(model()), "GET", f"/v1/models/iris:{verb}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
