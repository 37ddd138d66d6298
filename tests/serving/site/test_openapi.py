"""The OpenAPI document of real kits: what it promises holds; and the page that shows it, without any other server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from adapters.base import TensorSpec
from tests.e2e.server import Server
from tests.expected import needs_code
from tests.places import KITS, ROOT
from tests.serving.mounted import app as mounted
from tests.serving.support import Served, echo, model, serving
from tests.serving.wire import ask, request

KINDS = ["iris-onnx", "dtypes", "zipmap", "titanic-sklearn", "wine-sklearn", "cnn-torchscript", "iris-lightgbm"]
SWAGGER = ROOT / "runtime/serving/site/swagger"


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


def test_every_page_and_path_is_in_it(served: Served):
    paths = set(document_of(served)["paths"])
    routes = {route.path for route in served.app._starlette.routes}
    ours = {path.replace("{model}", "iris") for path in routes} - {
        "/v2/", "/docs", "/docs/{name}", "/openapi.json",
        "/v2/repository/models/iris/load", "/v2/repository/models/iris/unload",
    }  # fmt: skip
    assert ours == paths


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


@pytest.mark.slow
@pytest.mark.parametrize("kit", KINDS)
def test_the_example_of_a_kit_answers_200_and_its_confined_worker_has_the_page(kit: str, tmp_path: Path):
    options = ("--trust", "unsafe") if needs_code(kit) else ()
    with Server(f"oci:{KITS / kit}:v1", "--drain-delay", "0", *options, cache=tmp_path) as server:
        client = server.ready()
        operation = client.get("/openapi.json").json()["paths"][f"/v2/models/{kit}/infer"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        check(content["example"], content["schema"])
        answer = client.post(f"/v2/models/{kit}/infer", json=content["example"])
        assert answer.status_code == 200, answer.text
        check(answer.json(), operation["responses"]["200"]["content"]["application/json"]["schema"])
        assert client.get("/docs/swagger-ui-bundle.js").content == (SWAGGER / "swagger-ui-bundle.js").read_bytes()
        client.close()
        assert server.stop() == 0
        assert server.other_lines == []


def test_below_a_path_its_server_is_that_path():
    async def exchange() -> tuple[dict[str, Any], dict[str, Any], str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://test") as client:
            document, home = [(await client.get(f"/models/{path}")).json() for path in ("openapi.json", "")]
            return document, home, (await client.get("/models/docs/start.js")).text

    document, home, script = asyncio.run(exchange())
    assert document["servers"] == [{"url": "/models"}]
    assert home["docs"] == "/models/docs"
    assert "SwaggerUIBundle" in script


def test_the_page_asks_for_files_of_this_server_only(served: Served):
    (page,) = ask(served.port, request("GET", "/docs", None))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    named = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.body.decode())
    assert len(named) == 3
    for name in named:
        (answer,) = ask(served.port, request("GET", f"/{name}", None))
        assert answer.status == 200
        assert answer.headers["content-type"] in ("text/css; charset=utf-8", "text/javascript; charset=utf-8")
        assert answer.body == (SWAGGER / name.partition("/")[2]).read_bytes()
    for name in ("page.html", "LICENSE", "x.js", "..%2Fhome.py", "%2e%2e"):
        assert ask(served.port, request("GET", f"/docs/{name}", None))[0].status == 404


def test_the_licence_lies_beside_what_it_is_for():
    assert "Apache License" in (SWAGGER / "LICENSE").read_text()
    assert "SmartBear" in (SWAGGER / "NOTICE").read_text()
    assert "5.35.0" in (SWAGGER / "README.md").read_text()
    assert "5.35.0" in (ROOT / "docs/dependencies.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_without_a_network_shows_every_operation(served: Served, tmp_path: Path):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--dump-dom", f"{served.url}/docs"], capture_output=True, text=True, timeout=100, check=True
    )
    operations = re.findall(r'data-path="([^"]+)"', done.stdout)
    assert "/v2/models/iris/infer" in operations
    assert len(operations) == sum(map(len, document_of(served)["paths"].values()))


@pytest.mark.slow
def test_nothing_of_it_is_imported_before_somebody_asks():
    program = """
import sys
from tests.serving.support import app_of, model
app = app_of(model()).app
app.prepare()
print([name for name in sys.modules if "site." in name and name.startswith("runtime") or name.endswith("openapi")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_no_server_error_and_no_undocumented_status(served: Served, tmp_path: Path):
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--checks", checks]
    done = subprocess.run(
        [*command, "--max-examples=15", "--phases=examples,coverage,fuzzing", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
