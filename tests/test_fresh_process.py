"""What an import brings along, seen in a fresh process: memory and start time are decided here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import MISSING
from tests.places import ROOT

FRAMEWORKS = {
    "catboost",
    "joblib",
    "lightgbm",
    "onnx",
    "onnxruntime",
    "pandas",
    "scipy",
    "skops",
    "sklearn",
    "torch",
    "xgboost",
}
TEST_TOOLS = {"click", "httpx", "hypothesis", "mypy", "psutil", "pytest", "grimp", "uvicorn"}
REGISTRY = {"oras", "requests", "urllib3", "jsonschema"}
TELEMETRY = {"opentelemetry"}
SERVER = {"numpy", "starlette", "uvloop", "httptools", "orjson", "anyio", "prometheus_client", "asyncio"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        pytest.param("runtime.cli", FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | SERVER | {"yaml"}, id="cli"),
        pytest.param(
            "runtime.supervisor.supervisor",
            FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | (SERVER - {"asyncio"}) | {"yaml"},
            id="supervisor",
        ),
        pytest.param(
            "runtime.kit.pull", FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | SERVER | {"yaml"}, id="kit wing"
        ),
        pytest.param(
            "runtime.commands.pull",
            FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | SERVER | {"yaml", "adapters"},
            id="what a pull has before it reads the reference",
        ),
        pytest.param("runtime.serving.app", FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY, id="serving wing"),
        pytest.param("runtime.worker.main", FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY, id="worker"),
        pytest.param(
            "runtime.worker.service",
            FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | {"starlette", "anyio", "prometheus_client"},
            id="what a worker has before it accepts",
        ),
        pytest.param(
            "runtime.serving.grpc.server",
            FRAMEWORKS
            | TEST_TOOLS
            | TELEMETRY
            | REGISTRY
            | {"starlette", "anyio", "prometheus_client", "google", "grpc", "hpack"},
            id="gRPC before its first call",
        ),
        pytest.param("adapters", FRAMEWORKS | TEST_TOOLS | TELEMETRY | REGISTRY | SERVER, id="adapters"),
    ],
)
def test_an_import_brings_only_what_it_needs(module: str, unwanted: set[str]) -> None:
    assert packages_after(f"import {module}") & unwanted == set()


DECOMPRESSION = {"bz2", "gzip", "lzma", "pickletools", "zipfile"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("runtime.supervisor.process", {"enum", "re", "signal", "socket", "typing"}),
     ("runtime.commands.serve", {"adapters", "asyncio"}),
     ("runtime.supervisor.supervisor", DECOMPRESSION | {"importlib.metadata", "pickle", "tempfile"}),
     ("runtime.worker.service",
      DECOMPRESSION | {"email", "importlib.metadata", "multiprocessing", "numpy.random", "numpy.typing"})],
)  # fmt: skip
def test_a_start_waits_for_no_module_that_only_few_kits_or_an_error_need(module: str, unwanted: set[str]) -> None:
    assert modules_after(f"import {module}") & unwanted == set()


@pytest.mark.slow
@pytest.mark.skipif("skops" in MISSING, reason="skops is not installed")
def test_a_skops_file_does_not_bring_torch(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.adapters.kits import unpack
unpack("diabetes-skops", Path({str(tmp_path)!r})).load()
"""
    assert "torch" not in packages_after(program.rstrip())


def packages_after(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    program = f"{code}; import sys; names = sorted(sys.modules); import json; print(json.dumps(names))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.slow
def test_predictions_before_and_after_a_model_is_ready_do_not_wait_for_starlette() -> None:
    program = """
import asyncio
from tests.serving.support import BODY, INFER, StaticHealth, app_of, model

def post(app):
    sent = []
    async def receive(): return {"type": "http.request", "body": BODY}
    async def send(message): sent.append(message)
    asyncio.run(app({"type": "http", "method": "POST", "path": INFER, "headers": []}, receive, send))
    return sent[0]["status"]

assert post(app_of(health=StaticHealth(ready=False)).app) == 503
assert post(app_of(model()).app) == 200
"""
    assert "starlette" not in packages_after(program.rstrip())
