"""The image as it is meant to be run: hardened, from a registry, stopped under load, and when things go wrong."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest

from tests.expected import assert_right, cases
from tests.image.engine import HARDENED, Container, Engine
from tests.registries import Registry, digest_of

MEMORY = "--memory=512m"
CASE = cases("iris-onnx")[0]
INFER = "/v2/models/iris-onnx/infer"


@pytest.fixture(scope="module")
def kit(registry: Registry, kits: Path) -> str:
    return registry.push(kits / "iris-onnx", "v1")


def hardened(port: int, *more: str) -> list[str]:
    return [*HARDENED, MEMORY, f"--env=PORT={port}", *more]


def test_a_kit_from_a_registry_is_served_hardened(engine: Engine, image: str, kit: str, kits: Path, port: int) -> None:
    with Container(engine, image, ["--kit", kit], hardened(port)) as container, container.ready(port) as client:
        answer = client.post(INFER, json=CASE["request"])
        assert_right(answer.json(), CASE)
        assert answer.headers["modelkit-digest"] == digest_of(kits / "iris-onnx", "v1")
        status = container.exec("cat", "/proc/1/status")
        assert ("CapEff:\t0000000000000000" in status, "NoNewPrivs:\t1" in status) == (True, True)
        assert engine.finished("healthcheck", "run", container.id).returncode == 0
        engine("stop", container.id)
        assert container.wait() == 0


def test_any_user_may_run_it(engine: Engine, image: str, kit: str, port: int) -> None:
    with (
        Container(engine, image, ["--kit", kit], hardened(port, "--user=1234567:0")) as container,
        container.ready(port),
    ):
        assert container.exec("id", "-u").strip() == "1234567"


def test_process_1_reaps_the_orphans_of_the_container(engine: Engine, image: str, kit: str, port: int) -> None:
    with Container(engine, image, ["--kit", kit], hardened(port)) as container, container.ready(port):
        # the inner shell ends first, so its child becomes process 1's; one that nobody reaps stays in /proc
        program = "(sh -c 'sleep 0.2 & echo $!') | { read child; while [ -e /proc/$child ]; do sleep 0.05; done; }"
        container.exec("timeout", "20", "sh", "-c", program)


def test_a_stop_under_load_loses_no_request(engine: Engine, image: str, kit: str, port: int) -> None:
    with Container(engine, image, ["--kit", kit], hardened(port)) as container, container.ready(port) as client:
        clients = [Client(str(client.base_url)) for _ in range(4)]
        for each in clients:
            each.start()
        assert all(each.warm.wait(30) for each in clients)
        engine("stop", container.id)
        for each in clients:
            each.join(30)
        assert [each.lost for each in clients] == [[]] * 4
        assert sum(each.answered for each in clients) > 100
        assert container.wait() == 0


class Client(threading.Thread):
    """Sends one request after another, as a load balancer lets it: until readiness says no."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address, self.answered, self.lost = address, 0, list[str]()
        self.warm = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            while client.get("/v2/health/ready").status_code == 200:
                for _ in range(10):
                    self.send(client)

    def send(self, client: httpx.Client) -> None:
        try:
            answer = client.post(INFER, json=CASE["request"])
        except httpx.TransportError as error:
            self.lost.append(repr(error))
        else:
            self.answered += 1
            if answer.status_code != 200:
                self.lost.append(answer.text)
        if self.answered == 20:
            self.warm.set()


def test_too_little_memory_ends_in_one_line_and_an_exit_code(
    engine: Engine, image: str, tmp_path: Path, port: int
) -> None:
    """The model takes its memory late: while a supervisor itself starts, the kernel may end it before a worker's is free."""
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "large.py").write_text("def load(path, options):\n    bytes(b'x' * 2**30)\n")
    (kit / "model.bin").write_text("x")
    serving = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}], "options": {"entrypoint": "large:load"}}
    model = {"path": "model.bin", "framework": "python", "parameters": {"serving": serving}}
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "m"}, "code": [{"path": "large.py"}], "model": model}
    (kit / "Kitfile").write_text(json.dumps(kitfile))
    kit.chmod(0o755)
    options = [*HARDENED, "--memory=160m", f"--env=PORT={port}", f"--volume={kit}:/kit:ro"]
    with Container(engine, image, ["--kit", "/kit", "--trust", "unsafe"], options) as container:
        assert container.wait() == 71
        last = json.loads(container.logs().splitlines()[-1])
        assert "SIGKILL by the kernel: out of memory" in last["reason"]


def test_a_blob_with_other_bytes_is_refused(
    engine: Engine, image: str, kit: str, registry: Registry, kits: Path, port: int
) -> None:
    reference = registry.push(kits / "iris-bare", "v1")
    manifest = json.loads(
        (kits / "iris-bare/blobs/sha256" / digest_of(kits / "iris-bare", "v1").partition(":")[2]).read_text()
    )
    (stored,) = registry.storage.rglob(manifest["layers"][0]["digest"].partition(":")[2] + "/data")
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with Container(engine, image, ["--kit", reference], hardened(port)) as container:
        assert container.wait() == 65
        assert manifest["layers"][0]["digest"] in container.logs()


def test_without_a_place_to_write_it_says_so(engine: Engine, image: str, kit: str) -> None:
    options = [option for option in HARDENED if "tmpfs" not in option]
    with Container(engine, image, ["--kit", kit], [*options, "--read-only-tmpfs=false"]) as container:
        assert container.wait() == 74


def test_threads_follow_the_limit_of_the_container(engine: Engine, image: str) -> None:
    program = (
        "from runtime.supervisor.cgroups import allowance; a = allowance(); print(a.cores, a.memory_bytes, a.threads)"
    )
    limits = ["--cpus=0.5", "--memory=256m", "--network=none"]
    out = engine("run", "--rm", *limits, "--entrypoint=python", image, "-c", program)
    assert out.split() == ["0.5", str(256 * 2**20), "1"]
