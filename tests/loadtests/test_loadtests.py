"""The load tests run, find all answers right, and lose none; what they measure in a test's time says nothing."""

from __future__ import annotations

import re
import resource
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest

from loadtests.plot import Bar, plotted
from tests.places import ROOT

pytestmark = pytest.mark.slow


Run = Callable[..., str]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a load test as the program that it is, in this process, which has imported much of what it needs; returns
    what it prints."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def run(name: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"loadtests.{name}", run_name="__main__")
        assert int(ended.value.code or 0) in codes
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    yield run
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_bench_measures_every_server_and_compares_the_answers(tmp_path):
    page = tmp_path / "ratios.md"
    page.write_text("before\n<!-- results: written by make bench -->\nold\n<!-- /results -->\nbehind\n")
    options = ("--rounds", "1", "--seconds", "0.1", "--clients", "2", "--page", str(page))
    command = [sys.executable, "-m", "loadtests.bench", "--only", "W1", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    assert done.stderr == ""
    printed = done.stdout
    rows = [line.strip("| ").split(" | ")[:2] for line in printed.splitlines() if line.startswith("| 2 ")]
    assert [server for _, server in rows] == ["loop", "u3", "runtime"]
    assert re.search(r"\d+/s \| runtime \|", printed)
    assert "128 answers compared: all right" in printed
    lines = page.read_text().splitlines()
    assert (lines[0], lines[2], lines[-1]) == ("before", "| | | 2 clients |", "behind")
    assert re.fullmatch(r"\| W1 \| runtime \| [\d.]+ \([\d.]+\) \|", lines[4])
    assert len(ET.fromstring(page.with_suffix(".svg").read_text()).findall("{*}rect")) == 1


def test_no_answer_is_wrong_and_no_request_lost_in_chaos(ran):
    printed = ran("chaos", "--predictions", "300", "--stops", "1", "--kill-seconds", "0.3", "--kills", "1")
    assert printed.endswith("all right\n")
    assert "kills" in printed


@pytest.mark.parametrize(
    ("name", "options", "promises"),
    [
        ("overload", ("--only", "W1", "--seconds", "0.2", "--clients", "100"), 4),
        ("slow_clients", ("--clients", "50", "--rounds", "1", "--seconds", "0.2"), 1),
        ("sandbox", ("--rounds", "1", "--seconds", "0.1"), 1),
        ("busy", ("--workers", "1", "--takes", "0.05", "--seconds", "0.2"), 4),
        ("soak", ("--only", "W1", "--minutes", "0.005"), 6),
    ],
)
def test_a_promise_is_judged(name, options, promises, ran):
    judged = re.findall(r" wanted at (?:most|least) \S+ +(kept|NOT KEPT)\n", ran(name, *options, codes=(0, 1)))
    assert len(judged) == promises


def test_a_long_bar_is_cut_and_says_how_long_it_is():
    texts = [text.text for text in ET.fromstring(plotted([Bar("W4", 8, "a <peer>", 40.0)])).findall("{*}text")]
    assert texts[1:] == ["W4, 8 clients", "40.00 a <peer>"]
