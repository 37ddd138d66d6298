"""The docker lines of README and docs, word for word, against a real Docker daemon.

Added are only what this kind of machine needs: the host's network, its certificates, and a registry that exists.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.doc_commands import PAGES, REGISTRY, blocks
from tests.expected import assert_right, cases
from tests.image.engine import HARDENED, Container, Engine, certificates
from tests.places import ROOT
from tests.registries import Registry

COMMANDS = list(
    dict.fromkeys(command for page in PAGES for block in blocks(page, "console docker") for command in block)
)
PORT = 8080
CASE = cases("iris-onnx")[0]


@pytest.fixture(scope="module")
def kit(registry: Registry, kits: Path) -> str:
    registry.push(kits / "iris-onnx", "v1", "org/iris", "v1")
    return registry.host


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("docker build")])
def test_the_build_line_builds(docker: Engine, command: str) -> None:
    docker("build", "--network=host", *certificates(), *shlex.split(command)[2:])


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("docker run")])
def test_the_run_line_serves_and_stops(docker: Engine, kit: str, command: str) -> None:
    words = [word.replace(REGISTRY, kit) for word in shlex.split(command)[2:]]
    line = [docker.program, "run", "--network=host", *words]
    process = subprocess.Popen(
        line, env=docker.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        answer = first_answer(process)
        assert_right(answer.json(), CASE)
        assert docker("ps", "--format={{.Status}}").startswith("Up")
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


@pytest.mark.parametrize("name", ["wine-sklearn", "titanic-sklearn"])
def test_the_scikit_learn_image_serves_hardened(docker: Engine, kits: Path, port: int, name: str) -> None:
    options = [*HARDENED, "--memory=1g", f"--env=PORT={port}", f"--volume={kits / name}:/kit:ro"]
    with (
        Container(docker, "runtime:sklearn", ["--kit", f"{name}=oci:/kit:v1"], options) as container,
        container.ready(port) as client,
    ):
        for case in cases(name):
            answer = client.post(f"/v2/models/{name}/infer", json=case["request"])
            assert_right(answer.json(), case)


def test_make_image_builds_it_and_leaves_its_bill_of_materials_beside_it(docker: Engine) -> None:
    flags = " ".join(["--network=host", *certificates()])
    make = ["make", "image", f"ENGINE={docker.program}", f"BUILD={flags}"]
    subprocess.run(make, env=docker.environ, cwd=ROOT, check=True, capture_output=True)
    bill = json.loads((ROOT / "build/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert "onnxruntime" in {component["name"] for component in bill["components"]}


def first_answer(process: subprocess.Popen[str]) -> httpx.Response:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.post(f"http://127.0.0.1:{PORT}/v2/models/iris/infer", json=CASE["request"])
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 200:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"no answer: {process.args}")


def test_every_docker_line_is_one_that_is_run() -> None:
    assert [command for command in COMMANDS if not command.startswith(("docker build ", "docker run "))] == []
    assert len(COMMANDS) >= 3
    assert os.access("/usr/bin/docker", os.X_OK) or not os.environ.get("CI")


def test_the_health_check_reaches_healthy(docker: Engine, kit: str) -> None:
    options = ["--detach", "--network=host", "--health-interval=1s", f"--env=PORT={PORT}"]
    container = docker("run", *options, "runtime", "--kit", f"{kit}/org/iris:v1").strip()
    try:
        deadline = time.monotonic() + 60
        while docker("inspect", "--format={{.State.Health.Status}}", container).strip() != "healthy":
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        docker("rm", "--force", container)
