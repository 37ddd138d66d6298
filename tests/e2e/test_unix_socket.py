"""`--host unix:PATH`: the same server, reached through a file."""

import json
import os
import select
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from loadtests.ports import free_port
from runtime.commands.health import run as ask_health
from runtime.settings import Settings
from tests.e2e.server import PATIENCE_SECONDS, Server, run
from tests.expected import cases
from tests.places import KITS
from tests.serving.wire import Wire, request

pytestmark = pytest.mark.slow

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
INFER = "/v2/models/iris-onnx/infer"
BODY = json.dumps(cases("iris-onnx")[0]["request"]).encode()


def client(path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE_SECONDS)


def health(*options: str) -> tuple[int, list[str]]:
    """What `runtime health` does, without a process."""
    return ask_health(Settings.read(["health", *options], {}))


def test_a_server_at_a_socket_file_from_its_first_line_to_its_last(tmp_path):
    path = tmp_path / "runtime.sock"
    with Server(IRIS, "--host", f"unix:{path}", "--drain-delay", "0", "--workers", "2", cache=tmp_path) as server:
        ready = server.event("server.ready")
        assert ready["address"] == f"unix:{path}"
        shown = subprocess.run(["bash", "-c", ready["example"]], capture_output=True, text=True, check=True)
        assert json.loads(shown.stdout)["outputs"]
        server.event("worker.ready", count=2)
        with client(path) as http:
            answers = [http.post(INFER, content=BODY) for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}
            assert http.get("/v2/health/live").json() == {"live": True}
        healthy = run("health", "--host", f"unix:{path}")
        assert (healthy.returncode, json.loads(healthy.stdout)) == (0, {"ready": True, "live": True})
        os.kill(server.workers()[0], signal.SIGKILL)
        server.event("worker.ready", count=3)
        assert health("--host", f"unix:{path}")[0] == 0
        assert server.stop() == 0
        assert server.other_lines == []
    assert not path.exists()
    assert health("--host", f"unix:{path}") == (
        1,
        [f"no server answers on unix:{path}: No such file or directory"],
    )


def test_a_killed_servers_file_is_replaced_and_a_live_ones_is_not(tmp_path):
    path = tmp_path / "runtime.sock"
    options = ("--host", f"unix:{path}", "--drain-delay", "0")
    with Server(IRIS, *options, cache=tmp_path) as server:
        server.event("server.ready")
        workers = [os.pidfd_open(pid) for pid in server.workers()]
        server.process.kill()
        for worker in workers:
            assert select.select([worker], [], [], PATIENCE_SECONDS)[0]  # its end
            os.close(worker)
    assert path.is_socket()
    with Server(IRIS, *options, cache=tmp_path) as second:
        second.event("server.ready")
        with Server(IRIS, *options, cache=tmp_path) as third:
            code, reason = third.failure()
            assert code == 3
            assert reason == (
                f"cannot listen on unix:{path}: another program listens there; stop it, or give another path"
            )
        with client(path) as http:
            assert http.post(INFER, content=BODY).status_code == 200
        assert second.stop() == 0
    assert not path.exists()


def test_a_server_that_cannot_start_leaves_no_file(tmp_path):
    path = tmp_path / "runtime.sock"
    with Server(f"oci:{KITS / 'empty'}:v1", "--host", f"unix:{path}", cache=tmp_path) as server:
        code, _ = server.failure()
    assert code == 65
    assert not path.exists()


def test_a_stop_under_load_loses_no_request(tmp_path):
    path = tmp_path / "runtime.sock"
    options = ("--host", f"unix:{path}", "--drain-delay", "0", "--workers", "2")
    lost, counts, begun = [], [], threading.Event()

    def ask() -> None:
        """Asks on new and on old connections, until nobody listens any more."""
        count = 0
        while True:
            try:
                wire = Wire(str(path), PATIENCE_SECONDS)
            except FileNotFoundError:
                counts.append(count)
                return
            with wire:
                for _ in range(7):
                    try:
                        answer = wire.send(request(path=INFER, body=BODY)).answer()
                    except (OSError, EOFError) as error:
                        lost.append(error)
                        return
                    assert answer.status == 200
                    count += 1
                    if count == 50:
                        begun.set()
                    if answer.headers.get("connection") == "close":
                        break

    with Server(IRIS, *options, cache=tmp_path) as server:
        server.event("worker.ready", count=2)
        clients = [threading.Thread(target=ask) for _ in range(16)]
        for one in clients:
            one.start()
        assert begun.wait(PATIENCE_SECONDS)
        assert server.stop() == 0
        for one in clients:
            one.join(PATIENCE_SECONDS)
    assert lost == []
    assert len(counts) == 16


@pytest.mark.parametrize("host", ["a..b", "unix:/nowhere/s", "unix:/" + "x" * 120])
def test_a_host_that_cannot_be_one_ends_with_its_code_and_a_line(tmp_path, host):
    done = run("--kit", IRIS, "--host", host, "--cache-dir", str(tmp_path))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["reason"].startswith(f"cannot listen on {host}")


def test_an_ipv6_address_may_have_its_brackets(tmp_path):
    port = str(free_port())
    with Server(IRIS, "--host", "[::1]", "--port", port, "--drain-delay", "0", cache=tmp_path) as server:
        ready = server.event("server.ready")
        assert ready["address"] == f"http://[::1]:{port}"
        shown = subprocess.run(["bash", "-c", ready["example"]], capture_output=True, text=True, check=True)
        assert json.loads(shown.stdout)["outputs"]
        for host in ("::1", "[::1]"):
            assert health("--host", host, "--port", port)[0] == 0
        assert server.stop() == 0
