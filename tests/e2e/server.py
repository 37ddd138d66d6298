"""A real `runtime` process, its events as they come, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import httpx

PATIENCE_SECONDS = 60.0

Event = dict[str, Any]


class Server:
    """`runtime --kit REF …` with JSON events, on a free port; `port=None`: on the one that the environment names.
    As a context manager it leaves nothing running."""

    def __init__(
        self,
        reference: str,
        *options: str,
        cache: Path,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        prefix: Sequence[str] = (),
        port: int | None = 0,
        program: Sequence[str] = (sys.executable, "-m", "runtime"),
        **environ: str,
    ) -> None:
        command = [
            *prefix,
            *program,
            "--kit",
            reference,
            *(("--port", str(port)) if port is not None else ()),
            "--cache-dir",
            str(cache),
            *options,
        ]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_")}
        variables["RUNTIME_GRPC_PORT"] = "off"  # the port that it else has is one for all
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=stdout, env={**variables, **environ}, text=True
        )
        self.events: list[Event] = []
        self.other_lines: list[str] = []
        self._news = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        self.process.stderr.close()

    def event(self, name: str, *, count: int = 1, seconds: float = PATIENCE_SECONDS) -> Event:
        """Waits for the `count`-th event called `name`."""

        def found() -> list[Event]:
            return [event for event in self.events if event["event"] == name]

        with self._news:
            self._news.wait_for(lambda: self._closed or len(found()) >= count, seconds)
            assert len(found()) >= count, f"no {name} (x{count}) among {self.events} {self.other_lines}"
            return found()[count - 1]

    def names(self) -> list[str]:
        """What all events so far are called."""
        return [event["event"] for event in self.events]

    def news(self) -> Callable[[str], Event]:
        """Gives what waits for the first event of a name after this moment."""
        before = Counter(self.names())
        return lambda name: self.event(name, count=before[name] + 1)

    def ready(self) -> httpx.Client:
        """Waits until the model answers; gives a client of the server."""
        return httpx.Client(base_url=self.event("server.ready")["address"], timeout=PATIENCE_SECONDS)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Sends the signal and waits for the exit code."""
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_SECONDS)

    def failure(self) -> tuple[int, str]:
        """Waits for the end of a server that cannot serve: its exit code, and the one line that says why."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self.other_lines == []
        return code, self.event("runtime.failed")["reason"]

    def workers(self) -> list[int]:
        """The process identifiers of the children that lead a session, which what a worker left does not."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [pid for pid in map(int, children.split()) if os.getsid(pid) == pid]

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._news:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.other_lines.append(line)
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A `runtime` command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environ},
        check=False,
    )


def scraped_until(client: httpx.Client, *wanted: str) -> str:
    """The metrics, once all of `wanted` is there: each worker counts what it has answered within 50 ms."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(text in (scrape := client.get("/metrics").text) for text in wanted):
        assert time.monotonic() < deadline, scrape
    return scrape
