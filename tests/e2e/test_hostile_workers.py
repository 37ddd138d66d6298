"""Workers in the hands of their model: what they do costs at most themselves."""

import contextlib
import json
import os
import signal
import socket
import time

import httpx
import psutil
import pytest

from tests.e2e import hostile
from tests.e2e.server import PATIENCE_SECONDS, Server, run

pytestmark = pytest.mark.slow
INFER = "/v2/models/m/infer"


TWO = ("--trust", "unsafe", "--workers", "2", "--drain-delay", "0", "--drain-timeout", "2")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server for what costs at most two workers."""
    with two_workers(tmp_path_factory.mktemp("shared")) as server:
        yield server


@contextlib.contextmanager
def two_workers(folder):
    """A server of the hostile kit with two workers, both ready; afterwards it has to end as it should."""
    with Server(hostile.kit(folder / "kit"), *TWO, cache=folder / "cache") as server:
        server.event("worker.ready", count=2)
        yield server
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert server.stop() == 0
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        assert not alive
        assert server.other_lines == []


def ask(server, attack=""):
    """One prediction on a connection of its own: the value, or None if its worker was lost."""
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.post(address(server) + INFER, json=hostile.request(attack), timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"][0]["data"][0]
    return None


def address(server):
    return server.event("server.ready")["address"]


def assert_sound(server):
    """Whoever asks is answered, and nothing says otherwise."""
    for _ in range(8):
        assert ask(server) == -1.0
    ready = httpx.get(address(server) + "/v2/health/ready", timeout=PATIENCE_SECONDS)
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    metrics = httpx.get(address(server) + "/metrics", timeout=PATIENCE_SECONDS)
    assert metrics.status_code == 200
    assert "runtime_workers_ready 2.0" in metrics.text
    assert not {"NaN", "+Inf"} & {line.rpartition(" ")[2] for line in metrics.text.splitlines()}


def test_what_a_worker_writes_and_says_costs_nobody_anything(shared):
    supervisor = psutil.Process(shared.process.pid)
    descriptors = supervisor.num_fds()
    workers = set(shared.workers())
    assert ask(shared, "scribble") == 2.0  # it can write to the metrics, not to what the supervisor says
    assert_sound(shared)
    assert ask(shared, "truncate") == 4.0  # Python holds two descriptors of what it maps
    for attack in ("garbage", "deep", "forged_ready"):
        assert ask(shared, attack) == -1.0
    assert ask(shared, "limits") == 1.0
    assert ask(shared, "steer") == 2.0
    assert ask(shared, "filter_listener") == 1.0
    assert shared.event("worker.not_understood")
    assert_sound(shared)
    assert set(shared.workers()) == workers
    assert supervisor.num_fds() == descriptors


def test_what_a_worker_starts_ends(shared):
    for attack in ("orphan", "forks"):
        assert ask(shared, attack) == -1.0
    assert shared.event("worker.left_a_process")
    assert_sound(shared)


def test_a_worker_that_goes_too_far_is_replaced(shared):
    replaced(shared, "shut_listener", "odd_signal")


def test_workers_that_go_too_far_are_replaced_up_to_a_crash_loop(tmp_path):
    with two_workers(tmp_path) as server:
        replaced(server, "flood", "descriptors", "fail", "half_closed")  # the fifth within a minute would end it


def replaced(server, *attacks):
    """Each attack costs the worker that it takes over, and nobody else."""
    descriptors = psutil.Process(server.process.pid).num_fds()
    for attack in attacks:
        news = server.news()
        ask(server, attack)
        news("worker.died")
        while (answer := ask(server)) is None:  # the backlog of the dead worker is closed after its end is logged
            pass
        assert answer == -1.0  # the other worker's
        news("worker.ready")
    assert_sound(server)
    assert psutil.Process(server.process.pid).num_fds() == descriptors


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """A server with one worker, which sends nonsense while it loads the model."""
    folder = tmp_path_factory.mktemp("lone")
    with Server(hostile.kit(folder / "kit", "garbage()"), "--trust", "unsafe", cache=folder / "cache") as server:
        server.event("worker.ready")
        yield server
        assert server.stop(signal.SIGINT) == 0


def test_nonsense_while_loading_is_passed_over(lone):
    assert ask(lone) == -1.0


def test_a_worker_that_ends_by_itself_is_reported_with_its_own_exit_code(lone):
    news = lone.news()
    assert ask(lone, "crash") is None
    assert news("worker.died")["reason"] == "exit code 7"
    news("worker.ready")


def test_connections_wait_for_the_replacement_of_a_lone_worker(lone):
    news, port = lone.news(), httpx.URL(address(lone)).port
    (worker,) = lone.workers()
    os.kill(worker, signal.SIGSTOP)  # what arrives from here on is in the backlog, in no worker's hands
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as waiting:
        waiting.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        os.kill(worker, signal.SIGKILL)
        assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
    news("worker.ready")


def test_a_worker_that_reads_no_order_is_killed_after_the_drain(tmp_path):
    options = ("--trust", "unsafe", "--drain-delay", "0", "--drain-timeout", "0.5")
    with Server(hostile.kit(tmp_path / "kit"), *options, cache=tmp_path / "cache") as server:
        assert ask(server, "freeze") == -1.0
        (worker,) = map(psutil.Process, server.workers())
        while worker.status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # the kernel tells only its parent
        assert server.stop() == 0
        assert server.event("server.drain_timed_out")["workers"] == 1


def test_a_lone_worker_that_spoils_its_socket_is_replaced_with_the_socket(tmp_path):
    options = ("--trust", "unsafe", "--sandbox", "off")  # which would not let it
    with Server(hostile.kit(tmp_path / "kit"), *options, cache=tmp_path / "cache") as server:
        server.event("server.ready")
        ask(server, "filter_listener")
        server.event("worker.not_listening")
        server.event("worker.ready", count=2)
        assert ask(server) == -1.0
        assert server.stop(signal.SIGINT) == 0


def test_a_unix_socket_that_one_worker_spoils_is_made_afresh_for_all(tmp_path):
    path = tmp_path / "s"
    options = ("--trust", "unsafe", "--workers", "2", "--host", f"unix:{path}", "--drain-delay", "0")
    with Server(hostile.kit(tmp_path / "kit"), *options, cache=tmp_path / "cache") as server:
        server.event("worker.ready", count=2)

        def asked(attack=""):
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE_SECONDS) as client:
                return client.post("http://localhost" + INFER, json=hostile.request(attack))

        with contextlib.suppress(httpx.TransportError):
            asked("shut_listener")
        server.event("worker.ready", count=4)
        for _ in range(8):
            assert asked().status_code == 200
        assert server.names().count("worker.not_listening") <= 1
        assert server.stop() == 0
        assert not path.exists()


def test_a_worker_that_says_ready_and_cannot_load_is_a_crash_loop(tmp_path):
    kit = hostile.kit(tmp_path / "kit", "forged_ready(); raise OSError('no')")
    with Server(kit, "--trust", "unsafe", cache=tmp_path / "cache") as server:
        code, reason = server.failure()
    assert (code, "5 times" in reason) == (71, True)


def test_code_that_raises_what_is_no_exception_cannot_be_loaded(tmp_path):
    kit = hostile.kit(tmp_path / "kit", "raise KeyboardInterrupt")
    with Server(kit, "--trust", "unsafe", cache=tmp_path / "cache") as server:
        code, reason = server.failure()
    assert (code, "failed: KeyboardInterrupt" in reason) == (70, True)


def test_a_model_that_raises_what_is_no_exception_has_failed_and_its_worker_lives(shared):
    workers = set(shared.workers())
    for attack in ("cancel", "close", "interrupt"):
        answer = httpx.post(address(shared) + INFER, json=hostile.request(attack), timeout=PATIENCE_SECONDS)
        assert (answer.status_code, "inference failed" in answer.text) == (500, True)
    assert_sound(shared)
    assert set(shared.workers()) == workers


def test_a_server_whose_model_never_loads_stops_when_told_to(tmp_path):
    kit = hostile.kit(tmp_path / "kit", "orphan(); time.sleep(1e6)")
    with Server(kit, "--trust", "unsafe", cache=tmp_path / "cache") as server:
        server.event("worker.left_a_process")
        assert server.stop() == 0
        assert server.other_lines == []


def test_verify_says_what_the_supervisor_knows_on_one_line_each(tmp_path):
    kit = hostile.kit(tmp_path / "kit", "forged_ready(); time.sleep(1e6)")
    done = run("verify", kit, "--trust", "unsafe", "--json", "--cache-dir", str(tmp_path / "cache"))
    report = json.loads(done.stdout)
    assert (report["name"], report["reference"], report["passed"]) == ("m", str(tmp_path / "kit"), False)
    assert (done.returncode, "forged" in done.stdout) == (70, False)  # no adapter has that name


# samples as large as pictures


PICTURE = """
def load(path, options):
    return lambda arrays: {"y": arrays["x"].mean(axis=(1, 2, 3), dtype="float64")}
"""


def test_a_sample_of_3_megabytes_is_replayed_and_the_ready_line_stays_short(tmp_path):
    size = 240
    data = [number / 7 for number in range(3 * size * size)]
    picture = {"name": "x", "datatype": "FP64", "shape": [1, 3, size, size], "data": data}
    answer = {"name": "y", "datatype": "FP64", "shape": [1], "data": [sum(data) / len(data)]}
    samples = [{"request": {"inputs": [picture]}, "response": {"outputs": [answer]}, "rtol": 1e-9}]
    text = json.dumps({"samples": samples})
    assert len(text) > 3 * 10**6
    serving = {"samples": "samples.json", "options": {"entrypoint": "picture:load"}}
    (tmp_path / "kit").mkdir()
    for name, content in {"picture.py": PICTURE, "model.bin": "x", "samples.json": text}.items():
        (tmp_path / "kit" / name).write_text(content)
    model = {"name": "m", "path": "model.bin", "framework": "python", "parameters": {"serving": serving}}
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "m"}, "code": [{"path": "picture.py"}], "model": model}
    (tmp_path / "kit" / "Kitfile").write_text(json.dumps(kitfile))
    with Server(f"m={tmp_path / 'kit'}", "--trust", "unsafe", cache=tmp_path / "cache") as server:
        example = server.event("server.ready")["example"]
        assert len(example) < 500
        assert "/v2/models/m/example | curl" in example
        assert httpx.post(address(server) + INFER, json=samples[0]["request"], timeout=60).status_code == 200
        assert server.stop(signal.SIGINT) == 0
