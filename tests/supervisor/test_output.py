"""What a process writes to its standard streams, until its end and beyond, as events."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.log import Log
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess
from tests.terminal import Terminal

Report = Callable[..., list[dict[str, Any]]]
Start = Callable[[str, Log], WorkerProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a worker process that runs Python code; what it writes is reported."""

    def start(code: str, log: Log) -> WorkerProcess:
        monkeypatch.setenv("TORCH_LOGS", code)
        worker = WorkerProcess(7, "tests.supervisor.writer")
        worker.finish_output = Output(worker, log).finish
        return worker

    return start


@pytest.fixture
def report(start: Start, tmp_path: Path) -> Report:
    """Runs Python code in a worker process, and returns the events."""

    def run(code: str) -> list[dict[str, Any]]:
        with (tmp_path / "log").open("wb") as file:
            log = Log(file.fileno(), style="json")
            worker = start(code, log)
            select.select([worker.pidfd], [], [], 60.0)
            worker.reap()
            log.close()
        return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    return run


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "worker.printed"]


def test_lines_say_their_worker_and_stream_and_a_last_line_needs_no_end(report: Report) -> None:
    events = report("import os; os.write(1, b'one\\r\\n\\ntwo'); os.write(2, b'\\xff\\x1b[31m'); os.abort()")
    assert [event["event"] for event in events] == ["worker.printed"] * 3
    assert sorted((event["level"], event["worker"], event["stream"], event["text"]) for event in events) == [
        ("info", 7, "stdout", "one"),
        ("info", 7, "stdout", "two"),
        ("warning", 7, "stderr", "\\xff\x1b[31m"),
    ]


def test_long_lines_are_cut_and_what_is_missing_is_said(report: Report) -> None:
    (text, after) = texts(report("import os; os.write(1, b'x' * 300_000 + b'\\nafter\\n')"))
    assert text == f"{'x' * 3000} … (297000 bytes more)"
    assert after == "after"


def test_a_line_without_end_is_cut_as_well(report: Report) -> None:
    (text,) = texts(report("import os; os.write(1, b'x' * 300_000)"))
    assert text == f"{'x' * 3000} … (297000 bytes more)"


def test_a_flood_is_bounded_and_counted_and_its_last_line_is_shown(report: Report) -> None:
    code = "import sys; sys.stdout.write('ok\\n' * 200_000 + 'Fatal: the last words\\n')"
    events = report(code)
    shown = len(texts(events))
    floods = [event for event in events if event["event"] == "worker.flooded"]
    assert shown <= 5000  # 1000 for each second that it took
    assert shown + sum(flood["lines"] for flood in floods) == 200_001
    assert "Fatal: the last words" in {*texts(events), *(flood["last"] for flood in floods)}


@pytest.mark.slow
def test_one_that_writes_for_ever_is_slowed_down_and_killed_as_any_other(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), style="json")
        worker = start("import os\nwhile True: os.write(1, b'x' * 65_536)", log)
        before = os.times()
        time.sleep(0.5)
        after = os.times()
        worker.kill()
        assert worker.reap().startswith("SIGKILL")
        log.close()
    spent = after.user + after.system - before.user - before.system
    assert spent < 0.6 * (after.elapsed - before.elapsed)
    assert (tmp_path / "log").stat().st_size < 100_000


def test_descendants_that_hold_a_stream_open_hold_nothing_up(report: Report) -> None:
    code = (
        "import os, signal\n"
        "reads, writes = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(60)\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"
        "    os.write(writes, b'.')\n"
        "    while True: signal.pause()\n"
        "os.read(reads, 1)\n"
        "os.write(2, b'the parent ends')"
    )
    begun = time.monotonic()
    events = report(code)
    assert time.monotonic() - begun < 30  # seconds: the child would stay for 60
    child, parent = sorted(texts(events))
    assert parent == "the parent ends"
    os.kill(int(child), signal.SIGKILL)


def test_on_a_terminal_it_is_a_line_to_read_and_steers_nothing(start: Start) -> None:
    terminal = Terminal()
    log = Log(terminal.fd, style="text")
    worker = start("print('\x1b[2Jhello')", log)
    select.select([worker.pidfd], [], [], 60.0)
    worker.reap()
    log.close()
    assert terminal.shown() == "worker 7: \\x1b[2Jhello\n"
