"""What stands in front of the server: a prefix, pages of other origins, further routes; at both doors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.link.gateway import Gateway
from tests.serving.support import BODY, DIGEST, INFER, Served, model, serving
from tests.serving.wire import Answer, ask, request

ORIGIN = "https://app.example.com"
GATEWAY = Gateway("/models/iris", (ORIGIN, "http://localhost:3000"), "/v1/endpoints/7:predict", "/v1/endpoints/7")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model(), gateway=GATEWAY) as running:
        yield running


def thrice(served: Served, *, path: str = INFER, **headers: str) -> list[Answer]:
    """Over ASGI, by the connection, and as a known head, unless a header forbids that."""
    sent = request(path=path, headers=headers)
    return ask(served.port, sent, sent, sent)


def test_a_prefix_may_stand_in_paths_or_be_taken_away(served: Served):
    for path in (INFER, "/models/iris" + INFER):
        assert [answer.status for answer in thrice(served, path=path)] == [200] * 3
    for path in (
        "/v2/health/ready",
        "/models/iris/v2/health/ready",
        "/models/iris",
        "/models/iris/",
        "/models/iris/ping",
    ):
        assert ask(served.port, request("GET", path, None))[0].status == 200
    for path in ("/models/irisx/v2", "/other/v2", "/models/iris/models/iris/v2"):
        assert ask(served.port, request("GET", path, None))[0].status == 404
    (wrong,) = ask(served.port, request("GET", "/models/iris/nothing", None))
    assert wrong.error.startswith("not found: '/nothing'")
    (wrong,) = ask(served.port, request("GET", "/models/iris/v2/modelz", None))
    assert wrong.error.startswith("not found: '/v2/modelz'; the nearest: /models/iris/v2/models, ")


def test_pages_of_an_origin_may_read_answers_at_every_door(served: Served):
    for answer in thrice(served, Origin=ORIGIN):
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "Origin" in answer.headers["vary"]
        assert answer.headers["modelkit-digest"] == DIGEST
        assert "modelkit-digest" in answer.headers["access-control-expose-headers"]
    for method, path, body in (("GET", "/v2", None), ("GET", "/nothing", None), ("POST", INFER, b"{")):
        (answer,) = ask(served.port, request(method, path, body, {"Origin": ORIGIN}))
        assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_pages_of_others_and_programs_get_no_such_header(served: Served):
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        for answer in thrice(served, **headers):
            assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)


def preflight(served: Served, origin: str, method: str = "POST") -> Answer:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    return ask(served.port, request("OPTIONS", INFER, None, headers))[0]


def test_a_preflight_is_answered(served: Served):
    answer = preflight(served, ORIGIN)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert answer.headers["access-control-allow-headers"] == "content-type"
    refused = preflight(served, "https://evil.example")
    assert (refused.status, refused.error) == (400, "Disallowed CORS origin")
    assert preflight(served, ORIGIN, "DELETE").error == "Disallowed CORS method"
    (plain,) = ask(served.port, request("OPTIONS", INFER, None))
    assert (plain.status, plain.headers["allow"]) == (405, "POST")


def test_further_routes_predict_and_say_ready(served: Served):
    rows = b'{"instances": [[5.0, 3.5, 1.5, 0.25]], "parameters": {}}'
    predicted = request(path="/v1/endpoints/7:predict", body=rows)
    for answer in ask(served.port, predicted, predicted):
        assert answer.json == {"predictions": [{"label": 0, "scores": [10.25, 5.0, 0.25]}]}
    (ready,) = ask(served.port, request("GET", "/v1/endpoints/7", None))
    assert ready.json == {"ready": True, "live": True}


def test_any_origin_and_a_first_request_from_a_page():
    with serving(model(), gateway=Gateway(cors_origins=("*",))) as served:
        (answer,) = ask(served.port, request(body=BODY, headers={"Origin": "https://anywhere.example"}))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_without_origins_there_are_no_such_headers():
    with serving(model()) as served:
        (answer,) = ask(served.port, request(headers={"Origin": ORIGIN}))
        assert "access-control-allow-origin" not in answer.headers
        assert preflight(served, ORIGIN).status == 405
