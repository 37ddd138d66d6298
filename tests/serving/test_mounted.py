"""The application below a path of a Starlette application, in process and under a bare uvicorn."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving.mounted import app
from tests.serving.support import BODY, DIGEST, INFER

REQUESTS = [
    pytest.param("GET", "/", 200, "theirs", id="the other application"),
    pytest.param("GET", "/models/v2", 200, "modelkit-runtime", id="metadata"),
    pytest.param("GET", "/models/v2/health/ready", 200, '"ready":true', id="ready"),
    pytest.param("POST", "/models" + INFER, 200, '"outputs":[', id="infer"),
    pytest.param("GET", "/models" + INFER, 405, "this path answers POST", id="wrong method"),
    pytest.param("GET", "/models/nothing", 404, "not found: '/nothing'", id="unknown"),
    pytest.param("GET", "/models/metrics", 200, "runtime_workers_ready", id="metrics"),
]


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


@pytest.fixture(scope="module")
def uvicorn_url() -> Iterator[str]:
    """A `uvicorn` process as anybody would start it, and its address."""
    command = [sys.executable, "-m", "uvicorn", "tests.serving.mounted:app", "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
            reader = threading.Thread(target=process.stderr.read)  # or a full pipe would stop it
            reader.start()
            yield url
        finally:
            process.terminate()
            assert process.wait(20) in (0, -15)
            reader.join(20)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "status", "text"), REQUESTS)
def test_a_bare_uvicorn_process_serves_it(uvicorn_url: str, method: str, path: str, status: int, text: str):
    with httpx.Client(base_url=uvicorn_url) as client:
        for _ in range(2):
            check(client.request(method, path, content=BODY if method == "POST" else None), status, text)
