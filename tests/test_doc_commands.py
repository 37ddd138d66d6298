"""The commands of README and docs, word for word, in a shell: only the port and the registry's address are others.

The docker lines run in tests/image/test_docker.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.doc_commands import PAGES, REGISTRY, blocks, marks
from tests.places import ROOT
from tests.ports import free_port
from tests.registries import Registry

SERVERS = ("make serve", "runtime --kit ", f"runtime {REGISTRY}/", "runtime /tmp/")
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name)
def test_every_command_of_a_page_works(page: Path, registry: Registry, kits: Path, tmp_path: Path) -> None:
    registry.push(kits / "iris-onnx", "v1", "org/iris", "v1")
    with Shell(registry.host, tmp_path) as shell:
        for block in blocks(page, "console"):
            for command in block:
                shell.run(command)


class Shell:
    """Runs one command after another; a server goes on until the next one starts."""

    def __init__(self, registry: str, folder: Path) -> None:
        self.port = str(free_port())
        self.registry, self.folder = registry, folder
        self.server: subprocess.Popen[str] | None = None
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "RUNTIME_"))}
        variables["RUNTIME_GRPC_PORT"] = "off"  # other tests run beside this one
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = {**variables, "PATH": path, "PORT": self.port, "XDG_CACHE_HOME": str(folder)}

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, command: str) -> None:
        serves = command.startswith(SERVERS)
        here = {REGISTRY: self.registry, "127.0.0.1:8080": f"127.0.0.1:{self.port}", "/tmp/": f"{self.folder}/"}
        for there, ours in here.items():
            command = command.replace(there, ours)
        if serves:
            self.stop()
            self.start(command)
        else:
            done = subprocess.run(["bash", "-c", command], env=self.environ, cwd=ROOT, capture_output=True, text=True,
                                  timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
            assert (done.returncode, done.stdout.startswith('{"error"')) == (0, False), (
                f"{command}: {done.stdout}{done.stderr}"
            )

    def start(self, command: str) -> None:
        options = {"env": self.environ, "cwd": ROOT, "text": True, "start_new_session": True}
        self.server = subprocess.Popen(
            ["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options
        )
        assert self.server.stderr
        said = []
        for line in self.server.stderr:
            said.append(line)
            if line.startswith("  curl"):  # what `make serve` says when it is ready, to be pasted
                self.run(line.strip())
            if line.startswith("  curl") or '"server.ready"' in line:
                self.reader = threading.Thread(target=self.server.stderr.read, daemon=True)
                self.reader.start()
                return
        raise AssertionError(f"{command} ended: {said}")

    def stop(self) -> None:
        if self.server:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(PATIENCE_SECONDS)
            self.reader.join(PATIENCE_SECONDS)
            self.server.stderr.close()
            self.server = None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_in_a_block_that_no_test_runs(page: Path) -> None:
    assert marks(page) & {"sh", "bash", "shell", "shell-session"} == set()
