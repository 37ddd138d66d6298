"""gRPC beside HTTP, on real servers, with grpcio's client."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter

import grpc
import httpx
import numpy as np
import psutil
import pytest

from loadtests.ports import free_port
from runtime.commands import serve
from runtime.errors import InvalidSetting
from runtime.exits import exit_code
from runtime.settings import Settings
from tests.e2e import hostile
from tests.e2e.server import PATIENCE_SECONDS, Server, scraped_until
from tests.places import KITS
from tests.serving.grpc.client import Client, infer_request
from tests.serving.support import Lines

pytestmark = pytest.mark.slow
IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
ASK = infer_request("iris-onnx")
ON = ("--grpc-port", "0")


def address(server: Server) -> str:
    return server.event("server.ready")["grpc"]


def test_both_protocols_answer_alike_from_all_workers_and_large_tensors_pass(tmp_path):
    with Server(IRIS, "--workers", "2", *ON, "--drain-delay", "0", cache=tmp_path) as server, server.ready() as http:
        server.event("worker.ready", count=2)
        body = {
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 4], "data": [5.1, 3.5, 1.4, 0.2, 6, 3, 5, 2]}]
        }
        wanted = http.post("/v2/models/iris-onnx/infer", json=body).json()["outputs"][0]["data"]
        count = 'runtime_request_duration_seconds_count{model="iris-onnx",outcome="ok",protocol="grpc"} '
        with Client(address(server)) as client:
            client.infer(infer_request("iris-onnx"))
        for _ in range(8):  # each worker tells of it, and one has not heard of gRPC yet
            with httpx.Client(base_url=http.base_url) as scraper:
                scraped_until(scraper, f"{count}1.0")
        for _ in range(20):  # the kernel spreads the connections
            with Client(address(server)) as client:
                answer = client.infer(infer_request("iris-onnx", raw=False))
                assert list(answer.outputs[0].contents.int64_contents) == wanted
                assert client.call("ServerReady").ready
        scraped_until(http, f"{count}21.0")
        listening = Counter(
            pid
            for pid in server.workers()
            for c in psutil.Process(pid).net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and f"{c.laddr.ip}:{c.laddr.port}" == address(server)
        )
        assert set(listening.values()) == {1}
        assert len(listening) == 2
        rows = np.tile(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32), (800_000, 1))  # 12.8 MB
        with Client(address(server)) as client:
            answer = client.infer(infer_request("iris-onnx", rows))
        assert not np.frombuffer(answer.raw_output_contents[0], np.int64).any()
        assert server.stop() == 0
        assert server.other_lines == []


def test_a_port_that_is_taken_ends_the_start_with_one_line_and_the_code_of_any_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with Server(IRIS, "--grpc-port", port, cache=tmp_path) as server:
            code, reason = server.failure()
        with Server(IRIS, "--port", port, cache=tmp_path) as server:
            assert server.failure()[0] == code
    assert reason == (
        f"cannot listen on 127.0.0.1 port {port}: another program listens there; stop it, or give another --grpc-port"
    )


def test_a_default_port_that_is_taken_costs_grpc_alone(monkeypatch):
    lines = Lines()
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(serve, "GRPC_PORT", port := other.getsockname()[1])
        assert serve.listener_for_grpc(Settings.read(["--kit", IRIS], {}), lines.log) is None
    (event,) = lines.events()
    lines.close()
    assert event["event"] == "grpc.off"
    assert event["reason"].startswith(f"cannot listen on 127.0.0.1 port {port}: another program listens there")


def test_http_and_grpc_cannot_have_one_port():
    lines = Lines()
    with pytest.raises(InvalidSetting, match="--grpc-port 8093 cannot be: --port is 8093, too"):
        serve.listener_for_grpc(Settings.read(["--kit", IRIS, "--port", "8093", "--grpc-port", "8093"], {}), lines.log)
    assert serve.listener_for_grpc(Settings.read(["--kit", IRIS, "--port", "8081"], {}), lines.log) is None
    assert [event["reason"] for event in lines.events("grpc.off")] == ["--port is 8081, too"]
    lines.close()


def test_two_servers_never_share_a_port(tmp_path):
    port = str(free_port())
    with Server(IRIS, "--grpc-port", port, "--drain-delay", "0", cache=tmp_path) as first:
        first.event("kit.resolved")  # its worker may not listen yet
        with Server(IRIS, "--grpc-port", port, cache=tmp_path) as second:
            assert "another program listens there" in second.failure()[1]
        first.event("server.ready")
        assert first.stop() == 0
    with Server(IRIS, "--grpc-port", port, "--drain-delay", "0", cache=tmp_path) as again:
        assert address(again) == f"127.0.0.1:{port}"
        assert again.stop() == 0


class Busy(threading.Thread):
    """Calls, one after another, until the server has gone; what each call that failed was told."""

    def __init__(self, server: str) -> None:
        super().__init__(daemon=True)
        self.server, self.answered = server, 0
        self.failures: list[tuple[str, str]] = []
        self.is_busy = threading.Event()

    def run(self) -> None:
        with Client(self.server) as client:
            while not self.failures:
                try:
                    client.infer(ASK)
                except grpc.RpcError as error:
                    self.failures.append((error.code().name, error.details()))
                else:
                    self.answered += 1
                if self.answered == 5:
                    self.is_busy.set()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_no_call(workers, tmp_path):
    with Server(IRIS, "--workers", workers, *ON, "--drain-delay", "0.2", cache=tmp_path) as server:
        server.event("worker.ready", count=int(workers))
        clients = [Busy(address(server)) for _ in range(6)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.is_busy.wait(PATIENCE_SECONDS)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_SECONDS) == 0
        for client in clients:
            client.join(PATIENCE_SECONDS)
            assert not client.is_alive()
        server._reader.join(PATIENCE_SECONDS)
        # the one failure of each client is that it finds no server any more: nobody took its call
        assert {code for client in clients for code, _ in client.failures} == {"UNAVAILABLE"}
        assert all(text.startswith("failed to connect") for client in clients for _, text in client.failures)
        answered = [event for event in server.events if event["event"] == "request.answered"]
        assert len(answered) == sum(client.answered for client in clients)
        assert server.other_lines == []


def test_a_worker_that_dies_is_replaced_on_the_same_port_and_connections_wait_meanwhile(tmp_path):
    with Server(IRIS, *ON, "--drain-delay", "0", cache=tmp_path) as server, Client(address(server)) as client:
        client.infer(ASK)
        os.kill(server.workers()[0], signal.SIGKILL)
        with Client(address(server)) as other:
            assert other.infer(ASK).outputs[0].shape == [2]
        server.event("worker.ready", count=2)
        assert client.infer(ASK, wait_for_ready=True).outputs[0].shape == [2]
        assert server.stop() == 0


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A server of a model that has taken over its worker."""
    folder, options = tmp_path_factory.mktemp("hostile"), ("--trust", "unsafe", *ON, "--drain-delay", "0")
    with Server(hostile.kit(folder / "kit"), *options, cache=folder / "cache") as server:
        yield server
        assert server.stop() == 0


def test_a_model_binds_no_port(spoilt):
    with spoilt.ready() as http:
        if not spoilt.event("worker.ready")["sandbox"].startswith("landlock"):
            pytest.skip("this kernel has no Landlock")
        answer = http.post("/v2/models/m/infer", json=hostile.request("bind")).json()
    assert answer["outputs"][0]["data"] == [2.0]  # neither that of HTTP nor that of gRPC


def test_a_worker_that_spoils_the_socket_of_grpc_is_replaced(spoilt):
    with spoilt.ready() as http:
        http.post("/v2/models/m/infer", json=hostile.request("shut_last_listener"))
        assert spoilt.event("worker.not_listening")["reason"] == "it has spoilt its listening socket"
        spoilt.event("worker.ready", count=2)
        with Client(address(spoilt)) as client:
            assert client.call("ServerLive").live
        assert http.get("/v2/health/live").status_code == 200


def test_without_the_extra_a_port_that_is_asked_for_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    lines = Lines()
    with pytest.raises(InvalidSetting, match="--grpc-port 8081 cannot be: it needs more packages: ") as refused:
        serve.listener_for_grpc(Settings.read(["--kit", IRIS, "--grpc-port", "8081"], {}), lines.log)
    lines.close()
    assert exit_code(refused.value) == 2


def test_without_the_extra_http_is_served_alone(tmp_path):
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").touch()  # hides google.protobuf, which onnxruntime brings in any case
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with Server(IRIS, cache=tmp_path, PYTHONPATH=path, RUNTIME_GRPC_PORT="") as server:
        assert "it needs more packages: " in server.event("grpc.off")["reason"]
        ready = server.event("server.ready")
        assert "grpc" not in ready
        assert httpx.get(f"{ready['address']}/v2/health/ready").status_code == 200
        assert server.stop(signal.SIGINT) == 0


def test_a_unix_socket_has_no_grpc():
    lines = Lines()
    assert serve.listener_for_grpc(Settings.read(["--kit", IRIS, "--host", "unix:/run/socket"], {}), lines.log) is None
    (event,) = lines.events()
    assert (event["event"], event["reason"]) == ("grpc.off", "it needs a TCP --host")
