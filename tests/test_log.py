import asyncio
import json
import os
import subprocess
import sys
import termios
import threading
import time
from contextlib import closing, contextmanager
from functools import partial

import pytest
import uvloop

from runtime.log import Log
from tests.terminal import Terminal


class Pipe:
    def __init__(self):
        self.read_end, self.write_end = os.pipe()

    def text(self) -> str:
        os.close(self.write_end)
        with os.fdopen(self.read_end) as stream:
            return stream.read()


@pytest.fixture
def pipe():
    return Pipe()


def test_json_lines_carry_time_level_event_and_fields(pipe):
    log = Log(pipe.write_end, style="json")
    log.info("kit.pulled", digest="sha256:aa", count=3)
    log.close()
    line = json.loads(pipe.text())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "kit.pulled", "digest": "sha256:aa", "count": 3}


def test_text_lines_cannot_be_forged_by_what_they_show(pipe):
    log = Log(pipe.write_end, style="text")
    log.info("request.refused", reason="a\nfake line\x1b[31m")
    log.close()
    assert pipe.text() == 'request.refused reason="a\\nfake line\\u001b[31m"\n'


def test_events_below_the_level_are_not_written(pipe):
    log = Log(pipe.write_end, style="json", level="warning")
    log.info("kit.pulled")
    log.error("kit.lost")
    log.close()
    assert [json.loads(line)["event"] for line in pipe.text().splitlines()] == ["kit.lost"]
    assert not log.enabled("info")


def test_the_status_line_gives_way_to_events_and_to_nothing():
    terminal = Terminal()
    log = Log(terminal.fd, style="text")
    log.status("50%")
    log.info("kit.pulled")
    log.status("")
    log.close()
    shown = terminal.shown()
    assert shown.endswith(("kit.pulled\n", "\r\x1b[K"))
    assert shown.count("kit.pulled") == 1


def test_a_status_line_is_no_wider_than_the_terminal():
    terminal = Terminal()
    termios.tcsetwinsize(terminal.fd, (24, 10))
    log = Log(terminal.fd, style="text")
    log.status("50% of a long file")
    terminal.wait_for("50%")
    log.close()
    assert terminal.shown() == "50% of a \r\x1b[K"


def test_a_status_line_is_removed_at_the_end_and_a_later_event_is_still_written():
    terminal = Terminal()
    log = Log(terminal.fd, style="text")
    log.status("50%")
    terminal.wait_for("50%")
    log.close()
    log.info("kit.pulled")
    log.status("a thread that goes on")
    log.close()
    assert terminal.shown() == "50%\r\x1b[Kkit.pulled\n"


def test_a_worker_writes_over_the_status_line_of_its_supervisor():
    terminal = Terminal()
    os.write(terminal.fd, b"50%")
    log = Log(terminal.fd, style="text", gather=True)
    log.info("request.refused")
    log.close()
    assert terminal.shown() == "50%\r\x1b[Krequest.refused\n"


def test_there_is_no_status_line_where_there_is_no_terminal(pipe):
    log = Log(pipe.write_end, style="text")
    log.status("50%")
    log.info("kit.pulled")
    log.close()
    assert pipe.text() == "kit.pulled\n"


def test_lone_surrogates_are_escaped(pipe):
    log = Log(pipe.write_end, style="json")
    log.info("request.refused", reason="\ud800")
    log.close()
    assert json.loads(pipe.text())["reason"] == "\ud800"


def test_a_reader_that_went_away_or_stopped_reading_holds_nothing_up(pipe):
    lost: list[int] = []
    log = Log(pipe.write_end, style="json")
    log.dropped = lost.append
    for number in range(20_000):
        log.info("request.answered", number=number, text="x" * 64)
    log.close(seconds=0.01)
    assert sum(lost) > 0
    os.close(pipe.read_end)


def test_a_full_disk_costs_lines_that_are_counted_and_nothing_else(tmp_path):
    lost: list[int] = []
    with (tmp_path / "log").open("wb") as file:
        full = os.open("/dev/full", os.O_WRONLY)
        log = Log(full, style="json")
        log.dropped = lost.append
        log.info("kit.pulled")
        log.close()
        os.dup2(file.fileno(), full)  # there is space again
        log.info("kit.verified")
        log.close()
        os.close(full)
    assert sum(lost) == 1
    assert json.loads((tmp_path / "log").read_text())["event"] == "kit.verified"


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe):
    os.set_blocking(pipe.write_end, False)
    log = Log(pipe.write_end, style="json")
    for number in range(5_000):
        log.info("request.answered", number=number, text="x" * 64)
    with os.fdopen(pipe.read_end) as stream:
        numbers = [json.loads(stream.readline())["number"] for _ in range(5_000)]
    assert numbers == list(range(5_000))
    log.close()
    os.close(pipe.write_end)


def test_lines_of_two_processes_on_one_slow_pipe_stay_whole(pipe):
    code = (
        "from runtime.log import Log\n"
        f"log = Log({pipe.write_end}, style='json', gather=True)\n"
        "for number in range(4000): log.info('request.answered', text='x' * (number % 100))\n"
        "print('queued', flush=True)\n"
        "log.close(60)"
    )
    options = {"pass_fds": [pipe.write_end], "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == b"queued\n"
    lines = pipe.text().splitlines()
    assert [(process.stdout.close(), process.wait()) for process in processes] == [(None, 0), (None, 0)]
    assert [json.loads(line)["event"] for line in lines] == ["request.answered"] * 8000


@pytest.mark.parametrize(("no_color", "shown"), [("", "\x1b[33mkit.odd\x1b[0m\n"), ("1", "kit.odd\n")])
def test_colours_are_for_terminals_and_for_who_wants_them(no_color, shown, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()
    log = Log(terminal.fd, style="text")
    log.warning("kit.odd")
    log.close()
    assert terminal.shown() == shown


def test_text_elsewhere_has_no_colours(pipe):
    log = Log(pipe.write_end, style="text")
    log.error("kit.lost")
    log.close()
    assert pipe.text() == "kit.lost\n"


@pytest.mark.parametrize(("style", "digits"), [("text", 12), ("json", 64)])
def test_text_has_the_first_digits_of_a_digest_and_json_all(style, digits, pipe):
    log = Log(pipe.write_end, style=style)
    log.info("kit.resolved", reference="host.example/m:v1@sha256:" + "ab" * 32, tag="sha256:abc")
    log.close()
    text = pipe.text()
    assert f"@sha256:{('ab' * 32)[:digits]}" in text
    assert f"{('ab' * 32)[:digits]}a" not in text
    assert "sha256:abc" in text


@contextmanager
def on_a_loop(pipe, **options):
    """A log that a running loop writes, and what it has lost."""
    lost: list[int] = []
    log = Log(pipe.write_end, style="json", gather=True, **options)
    log.dropped = lost.append
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(log.write_with, loop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
    try:
        yield log, lost, loop
    finally:
        loop.call_soon_threadsafe(log.close, 0.1)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_a_loop_writes_the_lines_of_all_threads_and_starts_none(pipe):
    with on_a_loop(pipe) as (log, lost, loop), os.fdopen(os.dup(pipe.read_end)) as stream:
        before = threading.active_count()
        loop.call_soon_threadsafe(partial(log.info, "kit.pulled", number=0))
        assert json.loads(stream.readline())["number"] == 0
        for number in range(1, 3000):
            log.info("kit.pulled", number=number)
        assert [json.loads(stream.readline())["number"] for _ in range(1, 3000)] == list(range(1, 3000))
        assert threading.active_count() == before
        assert os.get_blocking(pipe.write_end)
    assert not lost


def test_a_reader_that_stops_does_not_hold_up_the_loop_and_what_is_lost_is_counted(pipe):
    with on_a_loop(pipe) as (log, lost, loop):
        for number in range(12_000):
            log.info("kit.pulled", number=number, text="x" * 64)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.03), loop).result(10)
        for number in range(12_000, 30_000):
            log.info("kit.pulled", number=number, text="x" * 64)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
        with os.fdopen(os.dup(pipe.read_end)) as stream:
            numbers = [json.loads(stream.readline())["number"] for _ in range(30_000 - sum(lost))]
        assert sum(lost) > 0
        assert sorted(set(numbers)) == numbers


def test_a_reader_that_leaves_costs_the_lines_that_a_loop_writes(pipe):
    with on_a_loop(pipe) as (log, lost, loop):
        os.close(pipe.read_end)
        log.info("kit.pulled")
        deadline = time.monotonic() + 10
        while not lost and time.monotonic() < deadline:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(10)
        assert sum(lost) == 1


def test_what_waits_when_a_loop_ends_is_still_written(pipe):
    with on_a_loop(pipe) as (log, lost, _loop):
        log.info("kit.pulled")
    log.info("kit.verified")
    log.close()
    assert [json.loads(line)["event"] for line in pipe.text().splitlines()] == ["kit.pulled", "kit.verified"]
    assert not lost


def test_a_log_that_is_no_pipe_is_written_by_a_thread(tmp_path):
    with (tmp_path / "log").open("wb") as file, closing(uvloop.new_event_loop()) as loop:
        log = Log(file.fileno(), style="json", gather=True)
        log.write_with(loop)
        log.info("kit.pulled")
        log.close()
    assert json.loads((tmp_path / "log").read_text())["event"] == "kit.pulled"


@pytest.mark.parametrize("style", ["json", "text"])
def test_an_answer_is_logged_as_any_event(pipe, style):
    log = Log(pipe.write_end, style=style)
    log.always = {"worker": 3}
    log.answers("request.answered", model='a"b', protocol="v1")('abc-"1', 2, 80, 0.125, 0.0, 0.1)
    log.info("request.answered", model='a"b', protocol="v1", id='abc-"1', rows=2, bytes=80, milliseconds=0.125,
             queued=0.0, computed=0.1)  # fmt: skip
    log.close()
    lines = pipe.text().splitlines()
    one, other = (json.loads(line) if style == "json" else line for line in lines)
    if style == "json":
        assert one.keys() == other.keys() > {"worker"}
        assert len(one.pop("time")) == len(other.pop("time")) == len("2026-11-27T22:00:00.000Z")
    assert one == other


def test_an_answer_is_not_logged_below_its_level(pipe):
    log = Log(pipe.write_end, style="json", level="warning")
    log.answers("request.answered", model="a")("abc-1", 2, 80, 0.125, 0.0, 0.1)
    log.close()
    assert pipe.text() == ""


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("access", "answered", "refused"), [(1.0, 200, 1), (0.25, 50, 1), (0.0, 0, 1), (-1.0, 0, 0)], ids=["all", "sample", "errors", "off"]
)  # fmt: skip
def test_the_access_log_is_chosen_and_faults_are_always_logged(pipe, access, answered, refused, fast):
    log = Log(pipe.write_end, style="json")
    log.access = access
    write = log.answers("request.answered", model="iris")
    for number in range(200):
        if fast:
            write("abc", number, 80, 0.5, 0.0, 0.4)
        else:
            log.info("request.answered", number=number)
    log.info("request.refused")
    log.error("request.refused", status=500)
    log.info("kit.pulled")
    log.close()
    events = [json.loads(line) for line in pipe.text().splitlines()]
    names = [(event["event"], event["level"]) for event in events]
    assert names.count(("request.answered", "info")) == answered
    assert names.count(("request.refused", "info")) == refused
    assert names[-2:] == [("request.refused", "error"), ("kit.pulled", "info")]


def test_a_refused_request_is_logged_by_its_status_and_counted(pipe):
    log, counted = Log(pipe.write_end, style="json", level="warning"), []
    log.counted = counted.append
    for status, reason in ((400, "invalid_input"), (503, "overloaded"), (500, "model_failed")):
        log.refused(status, reason, id="abc-1")
    log.close()
    events = [json.loads(line) for line in pipe.text().splitlines()]
    assert [(event["level"], event["status"], event["error"]) for event in events] == [
        ("warning", 503, "overloaded"),
        ("error", 500, "model_failed"),
    ]
    assert counted == ["invalid_input", "overloaded", "model_failed"]
