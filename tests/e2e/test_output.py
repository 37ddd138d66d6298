"""What a server's processes write: events on standard error, whatever writes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from loadtests.ports import free_port
from tests.as_init import UNSHARE, require_unshare
from tests.e2e.server import PATIENCE_SECONDS, Server, run
from tests.expected import cases
from tests.lying_registry import flipped, stalled
from tests.places import KITS
from tests.terminal import Terminal

pytestmark = pytest.mark.slow

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
REQUEST = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}

SAYING = """
import asyncio, ctypes, faulthandler, logging, os, sys, threading, warnings

libc = ctypes.CDLL(None)
print("printed")
print("printed to stderr, nicht \\udcff", file=sys.stderr)
libc.printf(b"printf\\n")
os.write(2, b"written to 2\\xff\\n")
logging.getLogger("kit").warning("logged %d", 3)
warnings.warn("a warning")
failing = threading.Thread(target=lambda: 1 / 0)
failing.start()
failing.join()
os.system("echo of a child; echo error of a child >&2")

def load(path, options):
    def predict(arrays):
        if arrays["x"][0] == 2:
            sys.stderr.write("no end of line")
            sys.stderr.flush()
            os.write(1, b"last words")
            os.abort()
        return {"y": arrays["x"]}
    return predict
"""
SPEC = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}], "options": {"entrypoint": "mod:load"}}


@pytest.fixture
def kit(tmp_path: Path) -> Callable[[str], str]:
    """Makes a kit of Python code; returns its reference."""

    def make(code: str) -> str:
        folder = tmp_path / "kit"
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "mod.py").write_text(code)
        (folder / "m.bin").write_text("x")
        model = {"path": "m.bin", "framework": "python", "parameters": {"serving": SPEC}}
        kitfile = {"manifestVersion": "1.0.0", "package": {"name": "k"}, "model": model, "code": [{"path": "src"}]}
        (folder / "Kitfile").write_text(json.dumps(kitfile))
        return str(folder)

    return make


def texts(events: list[dict[str, Any]], stream: str) -> set[str]:
    return {event["text"] for event in events if event["event"] == "worker.printed" and event["stream"] == stream}


def test_deaths_leave_no_thread_where_standard_output_is_blocked(kit, unread, tmp_path):
    os.write(unread, b"x" * 4096)
    options = ("--trust", "unsafe", "--drain-delay", "0")
    with Server(kit(SAYING), *options, cache=tmp_path, stdout=unread) as server:
        threads = []
        for count in (1, 2, 3):
            server.event("worker.ready", count=count)
            threads.append(psutil.Process(server.process.pid).num_threads())
            if count < 3:
                os.kill(server.workers()[0], signal.SIGKILL)
        assert threads[2] == threads[1]
        assert server.stop() == 0


def test_every_line_of_a_kit_is_an_event_and_so_are_the_last_words_of_a_crash(kit, tmp_path):
    with (
        (tmp_path / "out").open("wb") as out,
        Server(kit(SAYING), "--trust", "unsafe", "--sandbox", "off", cache=tmp_path, stdout=out) as server,
    ):
        with server.ready() as client:
            logged = server.event("library.logged")  # by a thread of the worker, which the crash ends too
            assert (logged["logger"], logged["level"], logged["reason"]) == ("kit", "warning", "logged 3")
            assert server.event("library.raised")["error"] == "ZeroDivisionError: division by zero"
            name = server.event("server.ready")["model"]
            body = {"inputs": [{**REQUEST["inputs"][0], "data": [2.0]}]}
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(f"/v2/models/{name}/infer", json=body)
        assert server.event("worker.died")["reason"] == "SIGABRT"
        assert server.stop(signal.SIGINT) == 0
    assert server.other_lines == []
    said = texts(server.events, "stderr")
    assert said >= {"printed to stderr, nicht \\udcff", "written to 2\\xff", "error of a child", "no end of line"}
    assert not any("Traceback" in text for text in said)
    last_words = next(n for n, event in enumerate(server.events) if event.get("text") == "no end of line")
    assert last_words < server.names().index("worker.died")
    printed = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert texts(printed, "stdout") == {"printed", "printf", "of a child", "last words"}


def test_what_libraries_print_while_a_kit_is_examined_is_events_too(kit, tmp_path):
    environ = {"PYTHONWARNINGS": "default", "PYTHONPATH": str(tmp_path / "site")}
    (tmp_path / "site").mkdir()
    # imported by every Python that starts with this path: a library that prints when it is imported
    (tmp_path / "site" / "usercustomize.py").write_text("")
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\nif 'examine' in sys.orig_argv[-1]: os.write(1, b'to 1\\n'); os.write(2, b'to 2'); os.write(2, b'x' * 200_000)"
    )
    done = run("inspect", "--files", kit(SAYING), "--json", "--trust", "unsafe", **environ)
    assert done.returncode == 0
    assert json.loads(done.stdout)["adapter"]["name"] == "python"
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert texts(events, "stdout") == {"to 1"}
    assert [text[:6] for text in texts(events, "stderr")] == ["to 2xx"]


def test_verify_reports_on_standard_output_and_the_kit_prints_in_the_log(kit, tmp_path):
    done = run("verify", kit("print('printed')\n" + SAYING.partition("def load")[1] + SAYING.partition("def load")[2]),
               "--json", "--trust", "unsafe", "--cache-dir", str(tmp_path))  # fmt: skip
    assert json.loads(done.stdout)["passed"] is True
    assert texts([json.loads(line) for line in done.stderr.splitlines()], "stdout") == {"printed"}


FAILING = """
import sys
print("the reason")
print("and half a line", end="")
def load(path, options):
    raise ValueError("no")
"""


def test_what_a_kit_said_before_its_load_failed_arrives_before_the_failure(kit, tmp_path):
    done = run("--kit", kit(FAILING), "--port", "0", "--trust", "unsafe", "--cache-dir", str(tmp_path))
    assert done.returncode == 70
    assert texts([json.loads(line) for line in done.stdout.splitlines()], "stdout") == {"the reason", "and half a line"}
    assert json.loads(done.stderr.splitlines()[-1])["event"] == "runtime.failed"


def test_on_a_terminal_a_kit_prints_lines_to_read(kit, tmp_path):
    terminal = Terminal()
    command = [sys.executable, "-m", "runtime", "--kit", kit(FAILING), "--port", "0", "--trust", "unsafe"]
    process = subprocess.Popen([*command, "--cache-dir", str(tmp_path)], stdout=terminal.fd, stderr=terminal.fd)
    assert process.wait(PATIENCE_SECONDS) == 70
    lines = [line.rpartition("\x1b[K")[2] for line in terminal.shown().splitlines()]
    assert {"worker 1: the reason", "worker 1: and half a line"} <= set(lines)
    assert "runtime: the entry point" in lines[-1]


@pytest.fixture
def unread():
    """A pipe of one page that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield writer
    os.close(reader)
    os.close(writer)


def until_ready(client: httpx.Client) -> None:
    """Waits for a server whose log nobody can read."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("health/ready").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.02)
    raise AssertionError("the server is not ready")


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param("<&- >&- 2>&-", id="closed"),
        pytest.param(">/dev/full 2>/dev/full", id="full"),
        pytest.param("2> >(true)", id="reader gone"),
        pytest.param("2>&{pipe}", id="reader stopped"),
    ],
)
def test_no_state_of_the_standard_streams_ends_a_server_or_gets_lines_into_its_sockets(streams, unread, tmp_path):
    port, streams = free_port(), streams.format(pipe=unread)
    command = f"{sys.executable} -m runtime --kit {IRIS} --port {port} --cache-dir {tmp_path} {streams}"
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], start_new_session=True, pass_fds=[unread])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/", timeout=PATIENCE_SECONDS) as client:
            until_ready(client)
            for _ in range(50):  # more lines than the pipe holds
                assert client.post("models/iris-onnx/infer", json={}).status_code == 400
            assert client.post("models/iris-onnx/infer", json=cases("iris-onnx")[0]["request"]).status_code == 200
        for child in psutil.Process(process.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE:  # as the reader that is gone may be
                assert all(is_harmless(pid, fd) for pid in (process.pid, child.pid) for fd in range(3))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_harmless(pid: int, fd: int) -> bool:
    return Path(f"/proc/{pid}/fd/{fd}").readlink().as_posix().startswith(("/dev/", "pipe:", "/tmp"))


ORPHANS = """
import subprocess

subprocess.run(["sh", "-c", "for _ in 1 2 3 4 5 6 7 8 9; do (sleep 0.$_ &) ; done"], check=True)

def load(path, options):
    return lambda arrays: {"y": arrays["x"]}
"""


@pytest.fixture
def as_process_1(kit, tmp_path):
    """A server that is process 1 of a pid namespace; and that process, as it is called out here."""
    require_unshare()
    options = ("--trust", "unsafe", "--sandbox", "off", "--drain-delay", "60", "--drain-timeout", "60")
    with Server(kit(ORPHANS), *options, cache=tmp_path, prefix=UNSHARE) as server:
        server.event("server.ready")
        (first,) = psutil.Process(server.process.pid).children()
        yield server, first


def test_as_process_1_a_server_keeps_no_orphan_and_drains(as_process_1):
    server, first = as_process_1
    (supervisor,) = [child for child in first.children() if child.name() != "sleep"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while first.children() != [supervisor]:
        assert time.monotonic() < deadline, first.children()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert server.event("server.draining")["signal"] == "SIGINT"
    assert server.other_lines == []


def test_as_process_1_a_second_signal_ends_a_server_now(as_process_1):
    server, first = as_process_1
    first.send_signal(signal.SIGTERM)
    server.event("server.draining")
    first.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_as_process_1_it_ends_with_its_supervisor(as_process_1):
    server, first = as_process_1
    (supervisor,) = [child for child in first.children() if child.name() != "sleep"]
    supervisor.kill()
    assert server.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL


HUNGRY = """
import numpy

held = [numpy.ones(2**27) for _ in range(2)]  # 2 GiB
"""


@pytest.fixture
def small_group():
    """A control group of 192 MiB, as a prefix for commands that run in it."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"runtime-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(192 * 2**20))
            yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
            return
        except OSError:
            continue
        finally:
            ending = [psutil.Process(int(pid)) for pid in (group / "cgroup.procs").read_text().split()]
            psutil.wait_procs(ending, timeout=PATIENCE_SECONDS)
            group.rmdir()
    pytest.skip("this sandbox makes no control groups for memory")


def test_a_worker_that_the_kernel_ended_for_memory_is_known_to_be_that(small_group, kit, tmp_path):
    with Server(kit(HUNGRY), "--trust", "unsafe", cache=tmp_path, prefix=small_group) as server:
        assert server.event("worker.died")["reason"].startswith("SIGKILL by the kernel: out of memory; give")
        assert server.stop(signal.SIGINT) == 0


def test_a_model_that_cannot_get_its_memory_ends_with_one_line(kit, tmp_path):
    code = "def load(path, options):\n    return bytearray(10**14)"
    done = run("--kit", kit(code), "--port", "0", "--trust", "unsafe", "--cache-dir", str(tmp_path))
    assert done.returncode == 70
    reason = json.loads(done.stderr.splitlines()[-1])["reason"]
    assert reason == "the model does not fit into memory; give the process more, or serve a smaller model"


LAYER = "blobs/sha256:e2efdb39975bb174"  # the model layer of iris-onnx:v1


@pytest.mark.parametrize(
    ("command", "lie", "signum", "code", "last"),
    [
        (["pull"], stalled(100), signal.SIGINT, 130, "was cancelled"),
        (["inspect", "--files"], stalled(100), signal.SIGTERM, 143, "was cancelled"),
        (["serve", "--port", "0"], stalled(100), signal.SIGINT, 0, "stopping on SIGINT"),
        (["pull"], flipped(), None, 65, "also when asked again"),
    ],
    ids=["pull stopped", "inspect stopped", "server stopped", "other bytes"],
)
def test_a_bar_is_removed_before_the_line_that_ends_a_command(command, lie, signum, code, last, lying, tmp_path):
    registry = lying("iris-onnx")
    registry.lie(LAYER, lie)
    terminal = Terminal()
    reference = f"{registry.host}/kits/iris-onnx:v1"
    line = [sys.executable, "-m", "runtime", *command, reference, "--cache-dir", str(tmp_path)]
    with subprocess.Popen(line, stderr=terminal.fd, stdout=subprocess.DEVNULL) as process:
        try:
            if signum:
                terminal.wait_for("%")  # the bar, whose rate is not known yet
                process.send_signal(signum)
            assert process.wait(PATIENCE_SECONDS) == code
        finally:
            process.kill()
    lines = [line.rpartition("\r\x1b[K")[2] for line in terminal.shown().split("\n")]
    assert not any("%" in line for line in lines), "no bar is left on a line"
    assert last in lines[-2]
    assert lines[-1] == ""
