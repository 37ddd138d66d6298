"""Routes, methods, metadata and health, over ASGI without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runtime.link.limits import Limits
from runtime.serving.protocol.v2.codec import EXTENSIONS
from tests.serving.asking import call
from tests.serving.support import BODY, DIGEST, INFER, PROVENANCE, Served, StaticHealth, app_of, model


@pytest.fixture
def served() -> Served:
    return app_of(model())


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_says_what_it_is(served: Served, path: str):
    assert call(served, "GET", path).json() == {
        "name": "modelkit-runtime",
        "version": "0.1.0",
        "extensions": list(EXTENSIONS),
    }


@pytest.mark.parametrize(
    "path", ["/v2/models/iris", "/v2/models/iris/versions/v1", f"/v2/models/iris/versions/{DIGEST}"]
)
def test_the_model_says_what_it_takes_and_where_it_came_from(served: Served, path: str):
    answer = call(served, "GET", path)
    assert answer.json() == {
        "name": "iris",
        "versions": ["v1", DIGEST, "1"],
        "platform": "test_numpy",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ],
        "properties": {
            "made_by": "hand",
            "max_body_bytes": "67108864",
            "max_in_flight": "1024",
            "inference_timeout": "30.0",
            "reference": PROVENANCE.reference,
            "digest": DIGEST,
            "framework": "onnx",
            "adapter": "onnx",
            "trust": "restricted",
            "sandbox": "off",
            "verified": "true",
            "labels": '["setosa","versicolor","virginica"]',
        },
    }
    assert answer.headers["modelkit-digest"] == DIGEST
    assert answer.headers["modelkit-reference"] == PROVENANCE.reference
    assert answer.headers["modelkit-verified"] == "true"


def test_the_model_says_what_its_author_says_of_it():
    about = {
        "package": "iris 1.0",
        "description": "Tells irises apart",
        "authors": "A, B",
        "license": "MIT",
        "trust": "me",
    }
    said = call(app_of(model(), provenance=PROVENANCE._replace(about=about)), "GET", "/v2/models/iris").json()[
        "properties"
    ]
    assert {key: said[key] for key in about} == {**about, "trust": "restricted"}


def test_a_model_has_a_request_that_it_answers():
    sample = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
    for given in (None, sample):
        served = app_of(model(), sample=given)
        example = call(served, "GET", "/v2/models/iris/example")
        assert call(served, "POST", INFER, content=example.content).status_code == 200
        assert given is None or example.json() == sample


def test_models_and_readiness_are_listed(served: Served):
    assert call(served, "GET", "/v2/models").json() == {"models": ["iris"]}
    for path in ("/v2/models/iris/ready", "/v2/models/iris/versions/1/ready"):
        assert call(served, "GET", path).json() == {"name": "iris", "ready": True}
    assert call(served, "GET", "/v2/health/live").json() == {"live": True}
    assert call(served, "GET", "/v2/health/ready").json() == {"ready": True, "live": True}


def test_what_only_a_receipt_says_is_called_so_everywhere():
    served = app_of(model(), provenance=PROVENANCE._replace(verified="receipt"))
    answer = call(served, "POST", INFER, content=BODY)
    assert answer.headers["modelkit-digest"] == DIGEST
    assert answer.headers["modelkit-verified"] == "receipt"
    assert call(served, "GET", "/v2/models/iris").json()["properties"]["verified"] == "receipt"


def test_a_model_without_a_digest_or_tag_has_version_1_and_no_digest_header():
    plain = PROVENANCE._replace(digest=None, versions=("1",), reference="/a folder/with\nline", verified="false")
    served = app_of(model(), provenance=plain)
    answer = call(served, "POST", INFER, content=BODY)
    assert answer.json()["model_version"] == "1"
    assert "modelkit-digest" not in answer.headers
    assert answer.headers["modelkit-reference"] == "/a%20folder/with%0Aline"
    assert answer.headers["modelkit-verified"] == "false"
    assert call(served, "GET", "/v2/models/iris").json()["properties"]["verified"] == "false"
    assert call(served, "POST", "/v2/models/iris/versions/1/infer", content=BODY).status_code == 200


GETS = [
    "/",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/iris",
    "/v2/models/iris/ready",
    "/metrics",
]


@pytest.mark.parametrize("path", GETS)
def test_row_45_head_is_get_without_a_body(served: Served, path: str):
    get, head = call(served, "GET", path), call(served, "HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(("path", "allow"), [*((path, "GET, HEAD") for path in GETS), (INFER, "POST")])
def test_row_44_a_wrong_method_is_told_the_right_ones(served: Served, method: str, path: str, allow: str):
    answer = call(served, method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json() == {"error": f"method not allowed; this path answers {allow}"}
    assert answer.headers["content-type"] == "application/json"


def test_get_of_an_infer_path_and_post_of_health_are_wrong_methods_too(served: Served):
    assert call(served, "GET", INFER).headers["allow"] == "POST"
    assert call(served, "POST", "/v2/health/ready").headers["allow"] == "GET, HEAD"
    assert call(served, "POST", INFER, content=BODY).status_code == 200
    assert call(served, "GET", INFER).status_code == 405  # the path is known by now


@pytest.mark.parametrize(
    "path", ["/v1", "/v2x", "/v2/model", "/v2/models/", "/v2/models/iris/x", "/health", "/favicon.ico"]
)
def test_an_unknown_path_is_404_in_json(served: Served, path: str):
    answer = call(served, "GET", path)
    assert answer.status_code == 404
    assert answer.json()["error"].partition("; ")[0] == f"not found: '{path}'"


def test_row_41_an_unknown_model_or_version_names_what_there_is(served: Served):
    answer = call(served, "GET", "/v2/models/other")
    assert (answer.status_code, answer.json()) == (404, {"error": "unknown model 'other'; this server has 'iris'"})
    answer = call(served, "GET", "/v2/models/iris/versions/v9")
    assert answer.json()["error"].startswith("unknown version 'v9' of model 'iris'; it has 'v1', ")
    assert "modelkit-digest" in answer.headers


@pytest.mark.parametrize("names", [("iris",), ()])
@pytest.mark.parametrize(
    "send", [lambda s: call(s, "POST", INFER, content=BODY), lambda s: call(s, "GET", "/v2/models/iris")]
)
def test_row_64_while_the_model_loads_it_is_503_and_the_server_lives(
    names: tuple[str, ...], send: Callable[[Served], httpx.Response]
):
    served = app_of(health=StaticHealth(ready=False, model_names=names))
    answer = send(served)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "model 'iris' is not ready: pulling; try again"}
    assert call(served, "GET", "/v2/health/live").status_code == 200
    ready = call(served, "GET", "/v2/health/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert ready.json() == {
        "ready": False,
        "live": True,
        "reason": "pulling",
        "progress": {"bytes": 1, "total_bytes": 2},
    }


def test_while_a_model_loads_another_name_is_unknown():
    served = app_of(health=StaticHealth(ready=False, model_names=("iris",)))
    answer = call(served, "POST", "/v2/models/other/infer", content=BODY)
    assert (answer.status_code, answer.json()) == (404, {"error": "unknown model 'other'; this server has 'iris'"})


def test_a_model_that_comes_later_is_served_when_it_is_there(served: Served):
    late = app_of(health=StaticHealth(ready=False))
    assert call(late, "POST", INFER, content=BODY).status_code == 503
    late.models.update(served.models)
    late.health.ready = True
    assert call(late, "POST", INFER, content=BODY).status_code == 200


def test_while_draining_requests_are_answered_and_readiness_is_gone(served: Served):
    served.health.ready, served.health.reason = False, "draining"
    assert call(served, "POST", INFER, content=BODY).status_code == 200
    assert call(served, "GET", "/v2/health/ready").status_code == 503
    model_ready = call(served, "GET", "/v2/models/iris/ready")
    assert (model_ready.status_code, model_ready.json()) == (503, {"error": "model 'iris' is not ready: draining"})


def test_metrics_are_scraped(served: Served):
    assert call(served, "POST", INFER, content=BODY).status_code == 200
    answer = call(served, "GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'runtime_rows_total{model="iris"} 1.0' in answer.text


@pytest.mark.parametrize("log_inputs", [False, True])
def test_health_and_metrics_are_never_logged_and_every_other_refusal_once(log_inputs: bool):
    served = app_of(model(), limits=Limits(log_inputs=log_inputs))
    served.health.ready = False
    for path in ("/v2/health/ready", "/v2/health/live", "/metrics", "/v2/models/iris/ready"):
        call(served, "GET", path)
        call(served, "DELETE", path)
    call(served, "GET", "/nothing%0A", headers={"x-request-id": "mine-7"})
    (event,) = served.lines.events()
    assert event["event"] == "request.refused"
    assert (event["id"], event["status"], event["method"]) == ("mine-7", 404, "GET")
    if log_inputs:
        assert (event["path"], event["reason"]) == ("'/nothing\\n'", "not found: '/nothing\\n'; / lists the paths")
    else:
        assert ("path" in event, event["reason"]) == (False, "not found: ***; / lists the paths")


def test_an_app_below_a_path_serves_below_it(served: Served):
    async def exchange() -> int:
        transport = httpx.ASGITransport(served.app, root_path="/under")
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.post("/under" + INFER, content=BODY)).status_code

    assert asyncio.run(exchange()) == 200


def test_lifespan_is_acknowledged(served: Served):
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return next(incoming)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(served.app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_every_error_is_one_member_and_exactly_json(served: Served):
    for answer in (call(served, "POST", INFER, content=b"{"), call(served, "GET", "/x"), call(served, "PUT", "/v2")):
        assert list(json.loads(answer.content)) == ["error"]
        assert answer.headers["content-type"] == "application/json"
