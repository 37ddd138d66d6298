"""The page that shows the OpenAPI document without any other server. Those of real kits: `ask_as_documented`."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import pytest

from tests.campaign import Campaign
from tests.installed import Installed
from tests.places import ROOT
from tests.serving.mounted import app as mounted
from tests.serving.protocol.v2.test_openapi import document_of
from tests.serving.support import Served, model, serving
from tests.serving.wire import ask, request

SWAGGER = ROOT / "runtime/serving/site/swagger"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


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
def test_the_wheel_has_the_files_and_their_licences(installed: Installed):
    names = set(ZipFile(installed.wheel()).namelist())
    assert {f"runtime/serving/site/swagger/{path.name}" for path in SWAGGER.iterdir()} <= names


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
assert "runtime.serving.protocol.v2.management" not in sys.modules
app.prepare()
print([name for name in sys.modules if "site." in name and name.startswith("runtime") or name.endswith("openapi")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_no_server_error_and_no_undocumented_status(
    served: Served, tmp_path: Path, campaign: Campaign
):
    """With what the schemas allow and forbid; random cases too in CI. The examples: `ask_as_documented`."""
    examples = campaign(1, 30, 3_000)
    how = (f"--max-examples={examples}", f"--phases={'coverage' if examples == 1 else 'examples,coverage,fuzzing'}")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--checks", checks]
    done = subprocess.run(
        [*command, *how, "--warnings=off", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
