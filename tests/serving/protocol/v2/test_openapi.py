"""What `/openapi.json` says of V2 is what a real server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from adapters.base import TensorSpec
from runtime.serving.protocol.v2.codec import V2_JSON
from tests.serving.support import Served, echo, model, serving
from tests.serving.wire import ask, request


def check(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(value)


def document_of(served: Served) -> dict[str, Any]:
    return ask(served.port, request("GET", "/openapi.json", None))[0].json  # type: ignore[no-any-return]


def call(served: Served, path: str, verb: str, operation: dict[str, Any]) -> None:
    """Sends what the document shows, and compares the answer with what it promises."""
    path = path.replace("{version}", "1")
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    body = None if content is None else json.dumps(content["example"]).encode()
    if content is not None:
        check(content["example"], content["schema"])
    (answer,) = ask(served.port, request(verb.upper(), path, body))
    assert answer.status == 200, (path, answer.body)
    promised = operation["responses"]["200"]["content"]
    assert answer.headers["content-type"].partition(";")[0] in promised
    if "application/json" in promised:
        check(answer.json, promised["application/json"]["schema"])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


def test_every_operation_answers_what_it_says_to_the_example_that_it_shows(served: Served):
    document = document_of(served)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "ModelKit Runtime: iris"
    operations = [(path, *one) for path, item in document["paths"].items() for one in item.items()]
    assert len(operations) > 20
    for path, verb, operation in operations:
        call(served, path, verb, operation)


def test_every_page_and_path_of_v2_is_in_it(served: Served):
    paths = set(document_of(served)["paths"])
    pages = (*V2_JSON.pages, *V2_JSON.later_pages())
    answered = {path.replace("{model}", "iris") for path in (*V2_JSON.paths, *(page.path for page in pages))}
    refused = {f"/v2/repository/models/iris/{verb}" for verb in ("load", "unload")}
    assert answered - {"/v2/", *refused} == set(V2_JSON.describe(served.app._models)) <= paths


def test_statuses_that_are_promised_are_the_documented_ones(served: Served):
    document = document_of(served)
    known = set(document["components"]["responses"])
    named = {ref for item in document["paths"].values() for one in item.values() for ref in one["responses"]}
    assert named - {"200"} <= known
    check({"error": "x"}, document["components"]["responses"]["400"]["content"]["application/json"]["schema"])
    assert "400" in document["paths"]["/v2/models/iris/infer"]["post"]["responses"]


def test_names_datatypes_shapes_and_labels_of_the_model_are_in_it():
    inputs = (TensorSpec("a", "INT8", (-1, 2)), TensorSpec("b", "BYTES", (), optional=True))
    with serving(model(inputs=inputs), warm=False) as served:
        operation = document_of(served)["paths"]["/v2/models/iris/infer"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    a, b = schema["properties"]["inputs"]["items"]["anyOf"]
    assert (a["properties"]["name"], a["properties"]["datatype"]) == ({"const": "a"}, {"const": "INT8"})
    assert a["properties"]["shape"]["prefixItems"] == [{"type": "integer", "minimum": 0}, {"const": 2}]
    assert a["properties"]["data"]["items"] == {"type": "integer", "minimum": -128, "maximum": 127}
    assert "may be left out" in b["description"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["outputs"]
    assert answer["description"] == "Labels: 0 setosa, 1 versicolor, 2 virginica"


def test_a_request_too_long_to_show_is_not_shown():
    with serving(echo("FP32", (-1, 2**20)), warm=False) as served:
        content = document_of(served)["paths"]["/v2/models/iris/infer"]["post"]["requestBody"]["content"]
    assert set(content["application/json"]) == {"schema"}
