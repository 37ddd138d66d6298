"""The commands of README and docs, word for word, in a shell: only the port and the addresses of registry and collector are others.

They run as for somebody who has installed the package with the extras that the page names (`tests/installed.py`), in a folder
outside the checkout; `make` runs in a copy of it. What else the pages show runs where it belongs:

| Blocks | Run by |
|---|---|
| `console docker`, `console compose` | tests/image/test_docker.py, tests/image/test_compose.py: they take an engine |
| `console KIT` of predict.md; `console rows` of predict-files.md | tests/e2e/test_predict_page.py; tests/commands/test_predict.py |
| Kitfiles and samples of kitfile.md | tests/commands/test_kitfile_page.py |
| `yaml` of clouds.md | tests/e2e/test_clouds.py: the clouds themselves cannot be had |
| the packages that writing-an-adapter.md and writing-a-protocol.md show | tests/adapters/test_third_party.py, tests/serving/protocol/test_guide.py |
| queries of metrics.md | tests/deploy/test_monitoring.py |
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from loadtests.ports import free_port
from tests.doc_commands import PAGES, REGISTRY, blocks, extras, marks
from tests.extras import MISSING
from tests.installed import OFFLINE, Installed, checkout, environ
from tests.places import ROOT
from tests.registries import Registry

SERVER = re.compile(rf"([A-Z_]+=\S+ )*(make serve|runtime (--kit |/|{re.escape(REGISTRY)}))")
COLLECTOR = "http://collector:4318"
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name)
def test_every_command_of_a_page_works(
    page: Path, registry: Registry, kits: Path, installed: Installed, tmp_path: Path
) -> None:
    from tests.e2e.collector import Collector

    registry.push(kits / "iris-onnx", "v1", "org/iris", "v1")
    with Collector() as collector, Shell(installed.bin(*extras(page)), tmp_path) as shell:
        shell.here |= {REGISTRY: registry.host, COLLECTOR: collector.url}
        for block in blocks(page, "console"):
            for command in block:
                shell.run(command)
        shell.stop()
        assert bool(collector.requests) == (COLLECTOR in page.read_text())


def test_a_model_of_ones_own_takes_two_commands_and_no_file() -> None:
    install, make_one, serve, ask = blocks(ROOT / "README.md", "console")[0]
    assert install == "pip install '.[sklearn]'"
    assert "joblib.dump" in make_one  # for somebody who has no model at hand
    assert serve == "runtime /tmp/model.joblib"
    assert ask.startswith("curl ")


class Shell:
    """Runs one command after another; a server goes on until the next one starts."""

    def __init__(self, programs: Path, folder: Path) -> None:
        port = str(free_port())
        self.here = {"127.0.0.1:8080": f"127.0.0.1:{port}", "/tmp/": f"{folder}/"}
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        self.environ = {**environ(programs, folder), "PORT": port}

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, command: str) -> None:
        if command.startswith("pip install "):
            return  # it made the environment
        serves = SERVER.match(command)
        for there, ours in self.here.items():
            command = command.replace(there, ours)
        if serves:
            self.stop()
            self.start(command)
        else:
            done = subprocess.run(["bash", "-c", command], env=self.environ, cwd=self.folder, capture_output=True,
                                  text=True, timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
            assert (done.returncode, done.stdout.startswith('{"error"')) == (0, False), (
                f"{command}: {done.stdout}{done.stderr}"
            )

    def start(self, command: str) -> None:
        cwd, environ = self.folder, self.environ
        if "unix:" not in command:
            environ = {**environ, "RUNTIME_GRPC_PORT": "0"}  # other tests run beside this one
        if command.startswith("make "):
            cwd, environ = checkout(self.folder / "checkout"), {**environ, **OFFLINE}
        server = subprocess.Popen(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  env=environ, cwd=cwd, text=True, start_new_session=True)  # fmt: skip
        said = []
        for line in server.stderr:
            said.append(line)
            if line.startswith("  curl"):  # what `make serve` says when it is ready, to be pasted
                self.run(line.strip())
            if line.startswith("  curl") or '"server.ready"' in line:
                self.server, self.reader = server, threading.Thread(target=server.stderr.read, daemon=True)
                self.reader.start()
                return
        server.stderr.close()
        raise AssertionError(f"{command} ended with {server.wait(PATIENCE_SECONDS)}: {''.join(said)}")

    def stop(self) -> None:
        if self.server:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(PATIENCE_SECONDS)
            self.reader.join(PATIENCE_SECONDS)
            self.server.stderr.close()
            self.server = None


EXPORTED = """
import runtime, torch
model = torch.nn.Linear(3, 2)
{}
rows = [[1.0, 2.0, 3.0]] * 3
served = runtime.load("./model.pt2")
(given,), (made,) = served.signature.inputs, served.signature.outputs
answer = torch.as_tensor(served.predict({{given: rows}})[made])
assert answer.shape == (3, 2) and answer.allclose(model(torch.tensor(rows)))
"""


@pytest.mark.skipif("torch" in MISSING, reason="PyTorch is not installed")
def test_a_program_is_exported_as_the_page_says_and_answers_any_number_of_rows(
    installed: Installed, tmp_path: Path
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/adapters.md").read_text(), re.MULTILINE | re.DOTALL)
    programs = installed.bin("pytorch")
    done = subprocess.run([programs / "python3", "-c", EXPORTED.format(code)], env=environ(programs, tmp_path),
                          cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_in_a_block_that_no_test_runs(page: Path) -> None:
    assert marks(page) & {"sh", "bash", "shell", "shell-session"} == set()
    indented = re.findall(
        r"^    (?:\w+=\S+ )*(?:\$|pip|runtime|python3?|make|curl|docker|kubectl) .*$", page.read_text(), re.MULTILINE
    )
    assert indented == []
