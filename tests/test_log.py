import json
import os

import pytest

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
