"""Requests per second of the V2 JSON path against the least Starlette app with the same model inline.

Both servers run as processes on loopback, one worker each, ours with everything on (checks, limits, metrics, provenance
headers, one log line a request). Rounds alternate between the two, and a ratio is the median of the rounds' ratios:

    python loadtests/floor.py [--kit NAME] [--seconds 0.5] [--rounds 15] [--clients 1 8 32]

On two cores the clients share the machine with the server, so requests per second measure both; "server CPU" is the
server's own processor time for a request, which clients do not touch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parent.parent
KITS = ROOT / "tests" / "kits"


@dataclass(frozen=True)
class Case:
    """A golden kit, its model file, the app that is its floor, what every client sends, methods for the outputs."""

    kit: str
    model: str
    app: str
    body: bytes
    methods: str = ""


CASES = {
    case.kit: case
    for case in (
        Case(
            "iris-onnx",
            "iris.onnx",
            "loadtests.floor_app:app",
            b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}',
        ),
        Case(
            "wine-sklearn",
            "wine.joblib",
            "loadtests.floor_sklearn:app",
            b'{"inputs":[{"name":"x","shape":[1,13],"datatype":"FP64","data":'
            b"[13.05,2.05,3.22,25.0,124.0,2.63,2.68,0.47,1.92,3.58,1.13,3.2,830.0]}]}",
            "predict,predict_proba",
        ),
        Case(
            "spam-sklearn",
            "spam.joblib",
            "loadtests.floor_sklearn:app",
            b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["win a free prize now"]}]}',
            "predict",
        ),
    )
}


@dataclass
class Contender:
    """A running server, and what was measured of it by number of clients."""

    name: str
    case: Case
    port: int
    path: str
    process: psutil.Process
    rates: dict[int, list[float]] = field(default_factory=dict)
    costs: dict[int, list[float]] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        """What every client sends."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(self.case.body)}\r\n\r\n".encode() + self.case.body

    def cpu_seconds(self) -> float:
        """Processor time of the server's processes so far."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", choices=CASES, default="iris-onnx")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one round of one server")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        case = CASES[arguments.kit]
        floor, ours = stack.enter_context(starlette(case, log)), stack.enter_context(runtime(case, log))
        for clients in arguments.clients:
            for contender in (floor, ours):
                measure(contender, clients, 1.0)  # warm
            for _ in range(arguments.rounds):
                for contender in (floor, ours):
                    rate, cost = measure(contender, clients, arguments.seconds)
                    contender.rates.setdefault(clients, []).append(rate)
                    contender.costs.setdefault(clients, []).append(cost)
            report(floor, ours, clients)


def report(floor: Contender, ours: Contender, clients: int) -> None:
    rates, costs = (floor.rates[clients], ours.rates[clients]), (floor.costs[clients], ours.costs[clients])
    median = statistics.median
    print(
        f"{clients:3} clients: floor {median(rates[0]):7.0f}/s, runtime {median(rates[1]):7.0f}/s, "
        f"ratio {ratio(*rates):.2f}x;  server CPU a request "
        f"{median(costs[0]) * 1e6:5.1f} / {median(costs[1]) * 1e6:5.1f} us, "
        f"ratio {ratio(*costs):.2f}x",
        flush=True,
    )


def ratio(floor: list[float], ours: list[float]) -> float:
    """The median of the rounds' own ratios: what else the machine did in a round, it did to both."""
    return statistics.median(mine / theirs for mine, theirs in zip(ours, floor, strict=True))


def measure(contender: Contender, clients: int, seconds: float) -> tuple[float, float]:
    """Requests per second, and the server's CPU seconds for each."""
    processes = min(2, clients)
    shares = [clients // processes + (index < clients % processes) for index in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        before = contender.cpu_seconds()
        total = sum(pool.starmap(drive, [(contender.port, contender.request, share, seconds) for share in shares]))
        return total / seconds, (contender.cpu_seconds() - before) / total


def drive(port: int, request: bytes, connections: int, seconds: float) -> int:
    """Whole answers that `connections` keep-alive connections, each with one request under way, get in `seconds`."""
    sockets = {}
    poll = select.epoll()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    for connection in sockets.values():
        connection.sendall(request)
    partial: dict[int, bytes] = {}
    count, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for number, _ in poll.poll(1.0):
            answer = partial.pop(number, b"") + sockets[number].recv(65536)
            if whole(answer):
                count += 1
                sockets[number].sendall(request)
            else:
                partial[number] = answer
    for connection in sockets.values():
        connection.close()
    return count


def whole(answer: bytes) -> bool:
    """Whether a 200 has come to its end; uvicorn sends head and body apart."""
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"got {answer[:200]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    return len(body) == int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])


@contextmanager
def starlette(case: Case, log: IO[bytes]) -> Iterator[Contender]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / case.model
        model.write_bytes(model_file(case))
        port = free_port()
        options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        command = ["-m", "uvicorn", case.app, "--port", str(port), "--lifespan", "off", *options]
        with started(command, log, MODEL=str(model), METHODS=case.methods) as process:
            yield Contender("floor", case, port, ready(case, port, "/v2/models/floor/infer"), process)


@contextmanager
def runtime(case: Case, log: IO[bytes]) -> Iterator[Contender]:
    port = free_port()
    command = ["-m", "runtime", "--kit", f"oci:{KITS / case.kit}:v1", "--port", str(port), "--drain-delay", "0"]
    with tempfile.TemporaryDirectory() as cache, started([*command, "--cache-dir", cache], log) as process:
        yield Contender("runtime", case, port, ready(case, port, f"/v2/models/{case.kit}/infer"), process)


@contextmanager
def started(command: list[str], log: IO[bytes], *, core: int | None = None,
            **environment: str) -> Iterator[psutil.Process]:  # fmt: skip
    # A session of its own for each: Linux schedules by session, and a worker of the runtime has its own.
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def ready(case: Case, port: int, path: str) -> str:
    """The path, once a prediction answers there."""
    ends = time.monotonic() + 30
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=case.body)
            with urllib.request.urlopen(request, timeout=5):
                return path
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def model_file(case: Case) -> bytes:
    """The kit's model file, out of the layer that has it."""
    for blob in (KITS / case.kit / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 512 and tarfile.is_tarfile(blob):
            with tarfile.open(blob) as archive:
                for member in archive:
                    if member.name.endswith(case.model):
                        content = archive.extractfile(member)
                        assert content is not None
                        return content.read()
    raise FileNotFoundError(f"no {case.model} in any layer of the kit {case.kit}")


if __name__ == "__main__":
    main()
