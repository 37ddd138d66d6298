"""A model that no made-up row runs: its outputs are unknown until its first answer, and known from then on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec, WrongInput
from runtime.serving.engine.request import Request
from tests.serving.asking import call
from tests.serving.support import INFER, Served, app_of, model

GOOD = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3, 4]}]}
BAD = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}
INPUTS = (TensorSpec("x", "FP32", (-1, 2)),)
OUTPUTS = (TensorSpec("sum", "FP64", (-1,)), TensorSpec("twice", "FP32", (-1, 2)))


def picky(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    x = arrays["x"]
    if not x.all():
        raise WrongInput("zero")
    return {name: {"sum": x.sum(axis=1, dtype=np.float64), "twice": 2 * x}[name] for name in wanted}


def unknown(**known: Any) -> Model:
    def learn(arrays: dict[str, Any]) -> Model:
        picky(arrays, ())
        return replace(found, outputs=OUTPUTS, learn=None, properties={}, **known)

    found = model(picky, inputs=INPUTS, outputs=(), labels=None, learn=learn, properties={"outputs": "unknown"})
    return found


@pytest.fixture
def served() -> Served:
    return app_of(unknown(), warm=False)


def metadata(served: Served) -> Any:
    found = call(served, "GET", "/v2/models/iris").json()
    assert call(served, "GET", "/openapi.json").status_code == 200
    return [spec["name"] for spec in found["outputs"]], found["properties"].get("outputs")


def test_outputs_are_learnt_from_the_first_answer(served: Served) -> None:
    assert metadata(served) == ([], "unknown")
    assert call(served, "POST", INFER, json=BAD).status_code == 400
    assert metadata(served) == ([], "unknown")
    answer = call(served, "POST", INFER, json=GOOD).json()["outputs"]
    assert answer == [
        {"name": "sum", "datatype": "FP64", "shape": [1], "data": [7.0]},
        {"name": "twice", "datatype": "FP32", "shape": [1, 2], "data": [6.0, 8.0]},
    ]
    assert metadata(served) == (["sum", "twice"], None)
    assert call(served, "POST", INFER, json=GOOD).json()["outputs"] == answer
    (event,) = served.lines.events("model.learnt")
    assert event["outputs"] == ["sum FP64 [-1]", "twice FP32 [-1, 2]"]


def test_the_first_request_may_name_outputs_and_use_any_protocol(served: Served) -> None:
    wanted = call(served, "POST", INFER, json={**GOOD, "outputs": [{"name": "twice"}]})
    assert [output["name"] for output in wanted.json()["outputs"]] == ["twice"]
    named = call(app_of(unknown(), warm=False), "POST", INFER, json={**GOOD, "outputs": [{"name": "y"}]})
    assert (named.status_code, named.json()["error"]) == (400, "unknown output 'y'; the model has 'sum', 'twice'")
    first = app_of(unknown(default_outputs=("sum",)), warm=False)
    assert call(first, "POST", "/v1/models/iris:predict", json={"instances": [[3, 4]]}).json() == {"predictions": [7.0]}


def binary(served: Served, **document: Any) -> tuple[list[Any], bytes]:
    answer = call(served, "POST", INFER, json={**GOOD, **document})
    text = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    return json.loads(answer.content[:text])["outputs"], answer.content[text:]


@pytest.mark.parametrize(
    "document",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "twice", "parameters": {"binary_data": True}}, {"name": "sum"}]},
        {"outputs": [{"name": "twice", "parameters": {"classification": 2}}]},
        {"outputs": [{"name": "twice", "parameters": {"content_type": "np"}}], "parameters": {"content_type": "pd"}},
    ],
)
def test_the_first_request_gets_its_answer_in_the_form_that_it_asks_for(document: dict[str, Any]) -> None:
    served = app_of(unknown(), warm=False)
    first = binary(served, **document)
    assert metadata(served) == (["sum", "twice"], None)
    assert first == binary(served, **document)
    assert first != binary(served)


def test_a_form_that_no_output_has_is_refused_once_they_are_known(served: Served) -> None:
    wrong = {**GOOD, "outputs": [{"name": "twice", "parameters": {"classification": 3}}]}
    for _ in range(2):
        answer = call(served, "POST", INFER, json=wrong)
        assert answer.status_code == 400
        assert answer.json()["error"] == "output 'twice': invalid parameter 'classification': 3 of 2 classes"
    assert metadata(served) == (["sum", "twice"], None)


def test_what_another_worker_has_learnt_is_shown_and_not_believed(served: Served) -> None:
    served.model.show((TensorSpec("other", "INT8", (-1,)),), batch=True)
    assert metadata(served) == (["other"], None)
    named = call(served, "POST", INFER, json={**GOOD, "outputs": [{"name": "twice"}]})
    assert named.json()["outputs"][0]["data"] == [6.0, 8.0]
    assert metadata(served) == (["sum", "twice"], None)


def test_what_was_read_before_the_outputs_were_known_gets_them_all(served: Served) -> None:
    early, late = (Request({"x": np.array([[3, 4]], np.float32)}, ()) for _ in range(2))
    for request in (early, late):
        assert served.model.engine.predict(request).keys() == {"sum", "twice"}
        assert request.wanted == ("sum", "twice")
