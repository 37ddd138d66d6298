"""deploy/compose.yaml as it stands, with podman-compose: a registry, the runtime, Prometheus.

Images cannot be pulled here, so the registry and Prometheus are Debian's, under the names that the file asks for; and all
share the host's network, where each finds the others by the names that a compose network would give them.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.doc_commands import blocks
from tests.expected import assert_right, cases
from tests.image.conftest import need
from tests.image.engine import BASE, Engine, build_arguments
from tests.places import ROOT

COMPOSE = ROOT / "deploy/compose.yaml"
CASE = cases("iris-onnx")[0]
REGISTRY = """FROM {base}
COPY docker-registry /bin/registry
RUN mkdir -p /etc/docker/registry /var/lib/registry && printf '%s\\n' 'version: 0.1' \\
    'storage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}' 'http: {{addr: ":5000"}}' > /etc/docker/registry/config.yml
ENTRYPOINT ["/bin/registry", "serve", "/etc/docker/registry/config.yml"]
"""
PROMETHEUS = """FROM {base}
COPY prometheus /bin/prometheus
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""


@pytest.fixture
def composed(engine: Engine, image: str, tmp_path: Path) -> Iterator[None]:
    need("docker-registry", "prometheus", "skopeo")
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    stand_in(engine, services["registry"]["image"], "docker-registry", REGISTRY, tmp_path)
    stand_in(engine, services["prometheus"]["image"], "prometheus", PROMETHEUS, tmp_path)
    engine("tag", image, "localhost/modelkit-runtime")
    override = {
        name: {"network_mode": "host", "extra_hosts": [f"{other}:127.0.0.1" for other in services]} for name in services
    }
    (tmp_path / "override.yaml").write_text(yaml.safe_dump({"services": override}))
    try:
        run_the_lines(engine, tmp_path / "override.yaml")
        yield
    finally:
        compose(engine, tmp_path / "override.yaml", "down", "--volumes", check=False)


def stand_in(engine: Engine, name: str, program: str, dockerfile: str, folder: Path) -> None:
    context = folder / program
    context.mkdir()
    shutil.copy(str(shutil.which(program)), context)
    (context / "Dockerfile").write_text(dockerfile.format(base=BASE))
    full = f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"
    engine("build", *build_arguments(), f"--tag={full}", context)


def run_the_lines(engine: Engine, override: Path) -> None:
    """The lines of docs/deploy.md."""
    (lines,) = blocks(ROOT / "docs/deploy.md", "console compose")
    for line in lines:
        words = line.split()
        if words[:2] == ["docker", "compose"]:
            compose(engine, override, *words[4:])
        else:
            wait_for_port(5000)
            subprocess.run([words[0], "--insecure-policy", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def compose(engine: Engine, override: Path, *words: str, check: bool = True) -> None:
    command = [Path(sys.executable).parent / "podman-compose", "-f", COMPOSE, "-f", override, *words]
    done = subprocess.run(
        command, env=engine.environ, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.05)
        else:
            return


def answered(url: str, **question: object) -> httpx.Response:
    """Asks until the answer is 200."""
    deadline = time.monotonic() + 60
    answer: object = None
    while time.monotonic() < deadline:
        try:
            answer = httpx.request("POST" if question else "GET", url, **question)
        except httpx.TransportError as error:
            answer = error
        if isinstance(answer, httpx.Response) and answer.status_code == 200:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{url}: {answer}")


@pytest.mark.usefixtures("composed")
def test_the_three_work_together() -> None:
    answer = answered("http://127.0.0.1:8080/v2/models/iris/infer", json=CASE["request"])
    assert_right(answer.json(), CASE)
    assert scraped() == ["http://runtime:8080/metrics"]
    rules = answered("http://127.0.0.1:9090/api/v1/rules").json()["data"]["groups"]
    assert [group["name"] for group in rules] == ["modelkit-runtime"]


def scraped() -> list[str]:
    """The targets that Prometheus has scraped; it takes its time to begin."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        targets = answered("http://127.0.0.1:9090/api/v1/targets").json()["data"]["activeTargets"]
        if targets and all(target["health"] == "up" for target in targets):
            return [target["scrapeUrl"] for target in targets]
        time.sleep(0.2)
    return []
