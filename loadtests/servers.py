"""Servers to measure: processes on loopback, each on cores of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
_ALL_CORES = os.sched_getaffinity(0)
CORE = max(_ALL_CORES)
"""Where servers run that are measured."""
_PATIENCE_SECONDS = 60.0
_ALL_THREADS = 2
"""CPUCLOCK_SCHED in the kernel's posix-timers_types.h: with the complement of a pid, the clock of that process."""


@dataclass(frozen=True)
class Server:
    """A server that has answered a prediction."""

    name: str
    port: int
    path: str
    process: psutil.Process

    @property
    def processes(self) -> list[psutil.Process]:
        """It and all that it has started."""
        return [self.process, *self.process.children(recursive=True)]

    @property
    def workers(self) -> list[psutil.Process]:
        """Those of its children that lead a session, which what a worker leaves for a moment does not."""
        return [child for child in self.process.children() if os.getsid(child.pid) == child.pid]

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far, by their own clocks: /proc counts hundredths of a second."""
        return sum(time.clock_gettime((~process.pid << 3) | _ALL_THREADS) for process in self.processes)

    def memory_mb(self) -> float:
        """Resident memory of all its processes."""
        return float(sum(process.memory_info().rss for process in self.processes)) / 1e6

    def request(self, body: bytes, head: str = "") -> bytes:
        """A prediction's request as bytes; `head` are further lines of its head."""
        lines = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n{head}"
        return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def starlette(name: str, model: Path, body: bytes, headers: dict[str, str], core: int | None = None,
              **variables: str) -> Iterator[Server]:  # fmt: skip
    """The floor (`u3.py`) with a model file; `body` with `headers` is a request that it answers once it is ready."""
    port = free_port()
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    command = ["-m", "uvicorn", "loadtests.u3:app", "--port", str(port), "--lifespan", "off", *options]
    with started([sys.executable, *command], core=core, MODEL=str(model), **variables) as process:
        yield Server(name, port, ready(port, "/v2/models/u3/infer", body, headers), process)


@contextmanager
def runtime(name: str, reference: str, body: bytes, headers: dict[str, str], *options: str,
            core: int | None = None) -> Iterator[Server]:  # fmt: skip
    """The runtime with everything on; `reference` has the model's name in front, as in `iris=oci:…`."""
    port = free_port()
    command = ["-m", "runtime", "--kit", reference, "--port", str(port), "--grpc-port", "off"]
    with (
        tempfile.TemporaryDirectory() as cache,
        started([sys.executable, *command, "--cache-dir", cache, "--drain-delay", "0", *options], core=core) as process,
    ):
        metadata = f"/v2/models/{reference.partition('=')[0]}"
        server = Server(name, port, ready(port, f"{metadata}/infer", body, headers), process)
        while json.loads(ask(port, metadata))["properties"].get("batching") == "being tried":
            time.sleep(0.05)
        yield server


@contextmanager
def started(command: list[str], *, core: int | None = None, **variables: str) -> Iterator[psutil.Process]:
    """A process that prints into a pipe, as in a container; the last of it is shown if something fails."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log) as reader:
        # A session of its own for each: Linux schedules by session, and a worker of the runtime has its own.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=reader.stdin,
            stderr=reader.stdin,
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            yield psutil.Process(process.pid)
        except BaseException:
            log.seek(0)
            sys.stderr.buffer.writelines(log.readlines()[-20:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_SECONDS)
            finally:  # some leave processes behind, which hold the pipe
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def apart() -> Iterator[None]:
    """Keeps this process off the core of the servers, where there are others."""
    os.sched_setaffinity(0, _ALL_CORES - {CORE} or {CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, _ALL_CORES)


def ready(port: int, path: str, body: bytes, headers: dict[str, str]) -> str:
    """Returns the path, once a prediction answers there."""
    ends = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            ask(port, path, body, headers)
        except OSError as error:
            if time.monotonic() > ends or getattr(error, "code", 503) not in (404, 503):
                raise
            time.sleep(0.05)
        else:
            return path


def ask(
    port: int, path: str, body: bytes | None = None, headers: Iterable[tuple[str, str]] | dict[str, str] = ()
) -> bytes:
    """Returns the body of one answer."""
    headers = {"Content-Type": "application/json", **dict(headers)} if body else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
        return bytes(answer.read())
