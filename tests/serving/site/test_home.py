"""`GET /`, and what a wrong path may have meant, on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from runtime.serving.site.home import nearest
from runtime.version import __version__
from tests.serving.support import Served, StaticHealth, model, serving
from tests.serving.wire import ask, request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html", ""])
def test_it_says_where_everything_is_and_that_is_where_it_is(served: Served, accept: str | None):
    headers = {} if accept is None else {"Accept": accept}
    (answer,) = ask(served.port, request("GET", "/", None, headers))
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "accept")
    found = answer.json
    assert found["status"] == "alive"  # KServe's client for V1
    assert (found["name"], found["version"], found["ready"]) == ("modelkit-runtime", __version__, True)
    assert found["models"] == ["/v2/models/iris"]
    assert "/v2/models/iris/infer" in found["predict"]
    for path in [*found["models"], *(found[name] for name in ("docs", "openapi", "health", "metrics"))]:
        assert ask(served.port, request("GET", path, None))[0].status == 200
    for path in found["predict"]:
        assert ask(served.port, request("GET", path, None))[0].headers["allow"] == "POST"


def test_to_a_browser_it_is_a_page_with_links_and_nothing_of_anybody_else(served: Served):
    (answer,) = ask(served.port, request("GET", "/", None, {"Accept": BROWSER}))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = answer.body.decode()
    assert '<a href="/docs">/docs</a>' in text
    assert "POST <code>/v2/models/iris/infer</code>" in text
    assert "http" not in text
    assert "<script" not in text


def test_before_a_model_is_there_it_is_alive_and_has_none():
    with serving(health=StaticHealth(ready=False)) as served:
        answer, page = ask(
            served.port, request("GET", "/", None), request("GET", "/", None, headers={"Accept": BROWSER})
        )
    assert (answer.json["status"], answer.json["ready"], answer.json["models"]) == ("alive", False, [])
    assert "none yet" in page.body.decode()


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v2/model/iris/infer", "/v2/models/iris/infer, "),
        ("/v2/models/iris/inferr", "/v2/models/iris/infer"),
        ("/V2/Models/", "/v2/models"),
        ("/health/ready", "/v2/health/ready"),
        ("/openapi", "/openapi.json"),
        ("/metric", "/metrics"),
        ("/docs/", "/docs"),
        ("/ready", "/v2/health/ready, /v2/models/iris/ready"),
        ("/infer", "/v2/models/iris/infer"),
        ("/api/v1/predict", "/predict"),
    ],
)
def test_a_wrong_path_is_told_the_nearest_ones(served: Served, path: str, near: str):
    (answer,) = ask(served.port, request("GET", path, None))
    assert answer.status == 404
    assert answer.error.startswith(f"not found: {path!r}; the nearest: {near}")


def test_a_path_like_none_is_told_where_they_stand_and_a_long_one_costs_nothing(served: Served):
    strange, long = ask(served.port, request("GET", "/xyzzy", None), request("GET", "/v2" * 1000, None))
    assert strange.error == "not found: '/xyzzy'; / lists the paths"
    assert "nearest" not in long.error
    assert nearest("/v2/models/{model}", ["/v2/models/{model}", "/docs/{name}"], []) == []
    assert json.loads(long.body)
