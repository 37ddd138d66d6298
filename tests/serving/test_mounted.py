"""The application below a path of a Starlette application: in process, under a bare uvicorn and under hypercorn."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import websocket
from starlette.websockets import WebSocketDisconnect

from tests.serving.mounted import app
from tests.serving.support import BODY, DIGEST, INFER, app_of, model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx's successor
    from starlette.testclient import TestClient

REQUESTS = [
    pytest.param("GET", "/", 200, "theirs", id="the other application"),
    pytest.param("GET", "/models/v2", 200, "modelkit-runtime", id="metadata"),
    pytest.param("GET", "/models/v2/health/ready", 200, '"ready":true', id="ready"),
    pytest.param("POST", "/models" + INFER, 200, '"outputs":[', id="infer"),
    pytest.param("GET", "/models" + INFER, 405, "this path answers POST", id="wrong method"),
    pytest.param("GET", "/models/nothing", 404, "not found: '/nothing'", id="unknown"),
    pytest.param("GET", "/models/metrics", 200, "runtime_workers_ready", id="metrics"),
]
SERVERS = {
    "uvicorn": ["uvicorn", "tests.serving.mounted:app", "--port", "0", "--no-access-log", "--ws", "wsproto"],
    "hypercorn": ["hypercorn", "tests.serving.mounted:app", "--bind", "127.0.0.1:0"],
}


def check(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    assert text in answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/json"
    if answer.request.method == "POST":
        assert answer.headers["modelkit-digest"] == DIGEST


@pytest.mark.parametrize(("method", "path", "status", "text"), REQUESTS)
def test_below_a_path_of_starlette_everything_is_as_at_the_root(method: str, path: str, status: int, text: str):
    async def exchange() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            content: Any = BODY if method == "POST" else None
            return [await client.request(method, path, content=content) for _ in range(2)]

    for answer in asyncio.run(exchange()):
        check(answer, status, text)


def test_starlettes_test_client_starts_asks_and_stops_it():
    with TestClient(app_of(model()).app) as client:
        assert client.post(INFER, content=BODY).json()["outputs"][0]["data"] == [0]
        assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}


PATHS = [INFER, "/", "/nothing", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
def test_a_websocket_on_any_path_is_refused_before_it_is_accepted(path: str):
    with TestClient(app_of(model()).app) as client:
        client.post(INFER, content=BODY)  # the path is known by now
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server's process as anybody would start it, and its address; it may say nothing but that it runs."""
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", *SERVERS[request.param]], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = next(filter(None, (re.search(r"http://[\d.]+:\d+", line) for line in process.stderr)))
            reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))  # or a full pipe would stop it
            reader.start()
            yield found[0]
        finally:
            process.terminate()
            assert process.wait(20) in (0, -15)
            reader.join(20)
    assert not [line for line in said if "Traceback" in line or "ERROR" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "status", "text"), REQUESTS)
def test_any_asgi_server_serves_it(url: str, method: str, path: str, status: int, text: str):
    with httpx.Client(base_url=url) as client:
        for _ in range(2):
            check(client.request(method, path, content=BODY if method == "POST" else None), status, text)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_a_websocket_is_refused_under_any_asgi_server(url: str, path: str):
    for below in ("/models", ""):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(url.replace("http", "ws") + below + path, timeout=10)
        assert refused.value.status_code in (403, 404)
