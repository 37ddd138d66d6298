"""Models that hang, hold the interpreter or end their process: what they cost, and for how long."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time

import httpx
import pytest

from tests.e2e.server import PATIENCE_SECONDS, Server

pytestmark = pytest.mark.slow
OPTIONS = ("--trust", "unsafe", "--inference-timeout", "1", "--grpc-port", "off")
SLEEP, HOLD, ABORT, MATCH = 1, 2, 3, 4
CODE = """
import ctypes, os, re, time
AT_LOAD = {at_load!r}
calls = 0

def load(path, options):
    if AT_LOAD == "load":
        time.sleep(1e6)
    return predict

def predict(arrays):
    global calls
    calls += 1
    what = arrays["x"][0]
    if what == 4:
        re.match("(a|aa)+b", "a" * 60)  # it holds the interpreter, and looks for signals
    elif what == 1 or (AT_LOAD == "first prediction" and calls > 2):
        time.sleep(1e6)
    elif what == 2:
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):  # the second time for ever, without letting others run
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    elif what == 3 or (AT_LOAD == "trial aborts" and what not in (0, 5)):
        os.abort()
    elif AT_LOAD == "trial lasts" and what != 5:
        time.sleep(abs(float(what)))
    return {{"y": arrays["x"]}}
"""


def kit(folder, at_load=""):
    """The reference of a kit, served as `m`, whose first value says what a prediction does."""
    folder.mkdir()
    (folder / "k.py").write_text(CODE.format(at_load=at_load))
    (folder / "model.bin").write_text("x")
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    model = {"name": "m", "path": "model.bin", "framework": "python",
             "parameters": {"serving": {"inputs": inputs, "options": {"entrypoint": "k:load"}}}}  # fmt: skip
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "m"}, "code": [{"path": "k.py"}], "model": model}
    (folder / "Kitfile").write_text(json.dumps(kitfile))
    return f"m={folder}"


@contextlib.contextmanager
def server_of_one(folder):
    """A server with one worker and a deadline of a second, which tries no rows of its own."""
    with Server(kit(folder / "kit"), *OPTIONS, "--batching", "off", cache=folder / "cache") as server:
        server.event("worker.ready")
        yield server
        assert server.stop(signal.SIGINT) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server for tests that cost it one worker each, four of them by a request: a fifth would pause it."""
    with server_of_one(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def news(served):
    """Waits for the first event of a name since the test began. The worker is ready then, and has to be at the end."""
    return served.news()


def ask(server, *values):
    """The status of one prediction on a connection of its own, 0 if there was no answer, and the body."""
    values = values or (0,)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}]}
    url = server.event("server.ready")["address"] + "/v2/models/m/infer"
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.post(url, json=body, timeout=PATIENCE_SECONDS)
        return answer.status_code, answer.text
    return 0, ""


def test_a_prediction_that_never_returns_costs_its_worker(served, news):
    assert ask(served, *[SLEEP] * 100)[0] == 504  # no size that is known as cheap: in a thread
    assert news("worker.stuck")["worker"] == 1
    news("worker.ready")
    assert ask(served)[0] == 200
    status, text = ask(served, *[SLEEP] * 100)
    assert (status, "error id" in text) == (500, True)
    assert "retry" not in text


def test_one_on_the_event_loop_is_broken_off(tmp_path):
    with server_of_one(tmp_path) as server:
        asked = 0
        for what in (SLEEP, MATCH):
            on_loop = 0
            while on_loop < 10:  # in a row: a busy machine makes a cheap model look slow, which goes to a thread then
                assert ask(server)[0] == 200
                asked += 1
                on_loop = 0 if server.event("request.answered", count=asked)["queued"] else on_loop + 1
            assert ask(server, what)[0] == 504
        assert ask(server)[0] == 200
        assert not {"worker.stuck", "worker.died"} & set(server.names())


def test_one_that_holds_the_interpreter_too_and_its_client_is_told_but_no_other(served, news):
    address = httpx.URL(served.event("server.ready")["address"])
    with socket.create_connection((address.host, address.port), timeout=PATIENCE_SECONDS) as idle:
        for request, status in ((b"POST /v2/models/m/infer", b"400"), (b"GET /v2/health/ready", b"200")):
            idle.sendall(request + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert idle.recv(65536).startswith(b"HTTP/1.1 " + status)
        assert ask(served, HOLD) == (504, '{"error":"deadline exceeded: no answer within 1 s"}')
        assert idle.recv(65536) == b""
    assert "event loop has not run" in news("worker.stuck")["reason"]
    news("worker.ready")
    assert [ask(served)[0], ask(served, HOLD)[0]] == [200, 500]


def test_a_request_that_kills_is_not_run_twice(served, news):
    refused, deaths = poisoned(served), served.names().count("worker.died")
    assert ask(served, ABORT)[0] == 0
    assert news("worker.died")["poisoned"] == 1
    news("worker.ready")
    for _ in range(6):
        assert ask(served, ABORT)[0] == 500
    assert ask(served)[0] == 200
    assert poisoned(served) == refused + 6
    assert served.names().count("worker.died") == deaths + 1


def poisoned(server):
    """The requests that were refused since they had ended a worker."""
    metrics = httpx.get(server.event("server.ready")["address"] + "/metrics", timeout=PATIENCE_SECONDS).text
    return float(re.search(r"^runtime_poisoned_requests_total (.*)$", metrics, re.MULTILINE)[1])


def test_as_many_deaths_by_requests_as_a_crash_loop_has_leave_the_server_up(tmp_path):
    with server_of_one(tmp_path) as server:
        for count in range(1, 6):
            assert ask(server, ABORT, count)[0] == 0
            server.event("worker.ready", count=count + 1)
        assert ask(server)[0] == 200


def test_a_stopped_worker_is_replaced(served, news):
    (worker,) = served.workers()
    os.kill(worker, signal.SIGSTOP)
    assert "stopped" in news("worker.stuck")["reason"]
    news("worker.ready")
    assert ask(served)[0] == 200


QUICK_LOOKS = """
import sys
import runtime.supervisor.workers
from runtime.cli import main
runtime.supervisor.workers._LOOK_SECONDS = 0.05
sys.exit(main(sys.argv[4:]))
"""


def test_without_a_deadline_a_worker_that_accepts_nothing_is_replaced_where_there_are_others(tmp_path):
    prefix = (sys.executable, "-c", QUICK_LOOKS)
    options = (*OPTIONS[:2], "--inference-timeout", "0", "--workers", "2", "--drain-delay", "0")
    with Server(kit(tmp_path / "kit"), *options, cache=tmp_path / "cache", prefix=prefix) as server:
        server.event("worker.ready", count=2)
        address = httpx.URL(server.event("server.ready")["address"])
        with contextlib.ExitStack() as clients:

            def connected():
                return clients.enter_context(
                    socket.create_connection(("127.0.0.1", address.port), timeout=PATIENCE_SECONDS)
                )

            body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [HOLD]}]})
            head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connected().sendall((head + body).encode())
            while not any(event["event"] == "worker.not_listening" for event in server.events):
                connected()  # the kernel spreads them, and the worker still accepts until it has read the request
                time.sleep(0.03)
            assert server.event("worker.not_listening")["reason"] == "it has stopped accepting connections"
        server.event("worker.ready", count=3)
        assert server.stop() == 0


def test_a_trial_of_batching_does_not_keep_requests_waiting(tmp_path):
    with Server(kit(tmp_path / "kit", "trial lasts"), *OPTIONS, cache=tmp_path / "cache") as server:
        server.event("server.ready")
        while not any(event["event"].startswith("batching.") for event in server.events):
            assert ask(server, 5)[0] == 200
        assert "a row that it was tried on took" in server.event("batching.off")["reason"]
        assert server.stop(signal.SIGINT) == 0


def test_a_model_that_ends_its_worker_in_a_trial_is_tried_once(tmp_path):
    with Server(kit(tmp_path / "kit", "trial aborts"), *OPTIONS, cache=tmp_path / "cache") as server:
        server.event("worker.ready", count=2)
        assert server.event("batching.off")["reason"] == "a worker ended while the model was tried"
        assert ask(server, 5)[0] == 200
        assert server.names().count("worker.died") == 1
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("at_load", "option"), [("load", "--load-timeout"), ("first prediction", "--inference-timeout")]
)
def test_a_load_has_a_deadline(at_load, option, tmp_path):
    options = ("--trust", "unsafe", option, "0.5")
    with Server(kit(tmp_path / "kit", at_load), *options, cache=tmp_path / "cache") as server:
        code, reason = server.failure()
    assert (code, option in reason) == (70, True)
