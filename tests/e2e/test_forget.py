"""What the supervisor knows no more once it serves."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.server import PATIENCE_SECONDS, Server
from tests.places import KITS
from tests.registries import PASSWORD, USER, basic, docker_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a process that is not dumpable"),
]


def in_memory(pid: int, text: bytes) -> bool:
    found = False
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" in line.split()[1]:
                memory.seek(begin)
                try:
                    found |= text in memory.read(end - begin)
                except OSError:  # a guard page
                    continue
    return found


def test_a_password_is_gone_once_the_kit_is_there(make_registry, tmp_path):
    registry = make_registry(auth="basic")
    registry.push(KITS / "iris-onnx", "v1")
    config = docker_config(tmp_path, {registry.host: (USER, PASSWORD)})
    reference = f"{registry.host}/kits/iris-onnx:v1"
    with Server(reference, cache=tmp_path / "cache", DOCKER_CONFIG=str(config)) as server:
        server.event("server.ready")
        ends = time.monotonic() + PATIENCE_SECONDS
        secrets = [PASSWORD.encode(), basic(USER, PASSWORD).removeprefix("Basic ").encode()]
        while any(in_memory(server.process.pid, secret) for secret in secrets):
            assert time.monotonic() < ends, "a password is still in memory"
            time.sleep(0.05)
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
        assert server.stop(signal.SIGINT) == 0
