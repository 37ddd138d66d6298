"""The right answers of the golden kits (tests/kits/README.md), and whether an answer is one."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import jsonschema
from jsonschema import Draft202012Validator

from adapters.values import DTYPES
from runtime.serving.statuses import Response
from tests.places import KITS, ROOT
from tests.serving.protocol.v2.tensors import framed, json_array, outputs, raw, tensor

EXPECTED = KITS / "expected"
Case = dict[str, Any]


def cases(kit: str) -> list[Case]:
    """The requests of a kit with the outputs that have to come back."""
    return _document(kit)["cases"]


def needs_code(kit: str) -> bool:
    """Whether the answers hold only where the kit's own Python code may run."""
    return _document(kit).get("needs_trust") == "code"


def refused_global(kit: str) -> str:
    """The global that the refusal of a pickle has to name."""
    return str(_document(kit)["refused"])


def probabilities(kit: str) -> list[list[float]]:
    """One row per input row, classes in alphabetical order: of a converted classifier's maps, within 1e-4."""
    return _document(kit)["probabilities"]


def fitted(case: Case, metadata: dict[str, Any]) -> Case:
    """The case with the model's own name for its one input, where the framework has none."""
    if not case.get("input_name_free"):
        return case
    (given,), (known,) = case["request"]["inputs"], metadata["inputs"]
    return {**case, "request": {**case["request"], "inputs": [{**given, "name": known["name"]}]}}


def assert_right(answer: dict[str, Any], case: Case) -> None:
    """Every output that the case wants is there: datatype and shape equal, values within the case's tolerance."""
    got = {tensor["name"]: tensor for tensor in answer["outputs"]}
    if case["request"].get("outputs"):
        assert [tensor["name"] for tensor in answer["outputs"]] == [o["name"] for o in case["request"]["outputs"]]
    if case.get("output_name_free"):
        (want,), (seen,) = case["outputs"], answer["outputs"]
        got[want["name"]] = seen
    for want in case["outputs"]:
        seen = got[want["name"]]
        assert (seen["datatype"], seen["shape"]) == (want["datatype"], want["shape"]), want["name"]
        assert len(seen["data"]) == len(want["data"]), want["name"]
        for left, right in zip(seen["data"], want["data"], strict=True):
            assert _same(left, right, case["rtol"], case["atol"]), (want["name"], left, right)


def ask_both_ways(client: httpx.Client, path: str, case: Case) -> None:
    """The model answers the case rightly, asked in JSON and with binary tensors in both directions."""
    request = case["request"]
    answer = client.post(path, json=request)
    assert answer.status_code == 200, answer.text
    assert_right(answer.json(), case)
    arrays = [
        json_array(given["data"], DTYPES[given["datatype"]]).reshape(given["shape"]) for given in request["inputs"]
    ]
    inputs = [
        tensor(given["name"], given["datatype"], array, binary=True)
        for given, array in zip(request["inputs"], arrays, strict=True)
    ]
    headers, body = framed({**request, "inputs": inputs, "parameters": {"binary_data_output": True}}, *map(raw, arrays))
    binary = client.post(path, content=body, headers=headers)
    assert binary.status_code == 200, binary.text
    found = outputs(Response(200, tuple(binary.headers.raw), binary.content))
    for name, array in found.items():
        (wanted,) = (output for output in answer.json()["outputs"] if output["name"] == name)
        assert raw(json_array(wanted["data"], array.dtype).reshape(wanted["shape"])) == raw(array), name


def ask_as_documented(client: httpx.Client, kit: str) -> None:
    """Examples in the OpenAPI document are answered as the document says, and the page that shows it is there."""
    paths = client.get("/openapi.json").json()["paths"]
    for path in (f"/v2/models/{kit}/infer", f"/v1/models/{kit}:predict", "/predict"):
        operation = paths[path]["post"]
        content = operation["requestBody"]["content"]
        example = content["application/json"]["example"]
        jsonschema.validate(example, content["application/json"]["schema"], Draft202012Validator)
        answer = client.post(path, json=example)
        assert answer.status_code == 200, answer.text
        wanted = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), wanted, Draft202012Validator)
    if "example" in (table := content.get("text/csv", {})):
        answer = client.post("/predict", content=table["example"], headers={"Content-Type": "text/csv"})
        assert answer.status_code == 200, answer.text
    script = client.get("/docs/swagger-ui-bundle.js")
    assert script.content == (ROOT / "runtime/serving/site/swagger/swagger-ui-bundle.js").read_bytes()


def _document(kit: str) -> dict[str, Any]:
    return json.loads((EXPECTED / f"{kit}.json").read_text())


def _same(got: Any, want: Any, rtol: float, atol: float) -> bool:
    if isinstance(want, float) and isinstance(got, int | float):
        return math.isclose(got, want, rel_tol=0, abs_tol=atol + rtol * abs(want)) or got == want
    return type(got) is type(want) and got == want
