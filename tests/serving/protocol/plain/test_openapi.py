"""What `/openapi.json` says of plain predictions and of KServe V1 is what a server answers."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.base import Model, TensorSpec
from tests.serving.asking import call
from tests.serving.protocol.models import column, people, texts
from tests.serving.protocol.v2.test_openapi import check
from tests.serving.support import app_of, echo, model

PATHS = ("/predict", "/v2/models/iris/predict", "/v2/models/iris/versions/{version}/predict", "/invocations", "/score",
         "/v1/models/iris:predict")  # fmt: skip
MODELS = {
    "matrix": model(),
    "columns": people(),
    "texts": texts(),
    "column": column(),
    "deep": echo("INT8", (-1, 2, 3)),
    "scalar": echo("FP64", ()),
    "three rows": echo("FP64", (3, 2)),
    "free": echo("BOOL", (-1, -1)),
    "optional": model(inputs=(TensorSpec("X", "FP32", (-1, 4)), TensorSpec("b", "FP64", (-1,), optional=True))),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_example_of_every_form_answers_200(name: str):
    served = app_of(MODELS[name], warm=False)
    paths = call(served, "GET", "/openapi.json").json()["paths"]
    assert set(PATHS) <= set(paths)
    for path in PATHS:
        content: dict[str, Any] = paths[path]["post"]["requestBody"]["content"]
        assert "example" in content["application/json"]
        for kind, body in content.items():
            if "example" not in body:
                continue
            sent = {"json": body["example"]} if kind == "application/json" else {"content": body["example"]}
            answer = call(served, "POST", path.replace("{version}", "1"), headers={"Content-Type": kind}, **sent)
            assert answer.status_code == 200, (path, kind, body["example"], answer.text)


def test_an_image_stands_in_the_example_of_a_model_that_takes_one():
    image = pytest.importorskip("tests.serving.protocol.plain.test_image")
    for served in (image.taking(shape=(-1, 3, 2, 2)), image.taking(shape=(-1, -1, -1, 1), layout="NHWC", mode="L")):
        paths = call(served, "GET", "/openapi.json").json()["paths"]
        content = paths["/predict"]["post"]["requestBody"]["content"]
        assert {"image/png", "image/jpeg", "image/webp", "multipart/form-data"} < set(content)
        for path in ("/predict", "/v1/models/iris:predict"):
            content = paths[path]["post"]["requestBody"]["content"]["application/json"]
            check(content["example"], content["schema"])
            assert call(served, "POST", path, json=content["example"]).status_code == 200


def test_forms_stand_where_the_model_takes_them():
    def forms(loaded: Model) -> set[str]:
        paths = call(app_of(loaded, warm=False), "GET", "/openapi.json").json()["paths"]
        return {kind for kind, body in paths["/predict"]["post"]["requestBody"]["content"].items() if "example" in body}

    assert forms(model()) == {"application/json", "text/csv"}
    assert forms(texts()) == {"application/json", "text/csv", "text/plain"}
    assert forms(echo("FP32", (-1, -1))) == {"application/json"}
    assert forms(echo("FP32", (-1, 2**20))) == set()


def test_a_sample_of_the_kit_is_the_example_and_the_advice():
    served = app_of(model(), warm=False, sample={"inputs": [{"name": "any", "datatype": "FP32", "shape": [2, 4], "data": [1.5, 2, 3, 4] * 2}]})  # fmt: skip
    paths = call(served, "GET", "/openapi.json").json()["paths"]
    assert paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"] == [[1.5, 2, 3, 4]]
    assert call(served, "POST", "/predict", json=[[1]]).json()["error"].endswith("; a body that passes: [[1.5,2,3,4]]")
    body = '; a body that passes: {"instances":[[1.5,2,3,4]]}'
    assert call(served, "POST", "/v1/models/iris:predict", json={}).json()["error"].endswith(body)


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [], "data": [1]},
        {"shape": [0, 4], "data": []},
        {"shape": [1, 4], "data": [1, 2, 3, 4], "parameters": {"content_type": "np"}},
        {"shape": [1, 3], "data": [1, 2, 3, 4]},
        {"shape": "x", "data": {}},
        {"data": [1]},
    ],
)
def test_a_sample_that_has_no_plain_row_is_none(tensor: dict[str, Any]):
    served = app_of(model(), warm=False, sample={"inputs": [{"name": "X", "datatype": "FP32", **tensor}]})
    assert call(served, "POST", "/predict", json=[[1]]).json()["error"].endswith("a body that passes: [[0,0,0,0]]")
