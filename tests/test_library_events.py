"""What libraries say in a process of ours is events, one a line, whatever way they say it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SAYING = """
import asyncio, gc, logging, sys, threading, warnings
from runtime.library_events import listen
from runtime.log import Log

log = Log(2, style="json", level=sys.argv[1])
listen(log, stderr=True)

class Broken:
    def __del__(self):
        raise ValueError("in __del__")

async def fail():
    raise KeyError("never asked for")

async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: 1 / 0)
    task = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()

warnings.warn("an old\\nfunction", DeprecationWarning)
logging.getLogger("urllib3.pool").warning("the pool is %s", "full")
logging.getLogger("x").error("does not fit %d", "a text")
logging.getLogger("x").info("of no interest")
print("printed\\nin two lines, and a", "x" * 5000, file=sys.stderr)
print("and half a line", end="", file=sys.stderr)
print(" with its end", file=sys.stderr)
Broken()
thread = threading.Thread(target=lambda: [].pop(), name="worker bee")
thread.start()
thread.join()
asyncio.run(main())
log.close()
"""


def said(level: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", SAYING, level], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def short(event: dict[str, Any]) -> tuple[str, str, str]:
    text = event.get("reason") or event.get("text") or event["where"]
    return event["event"], event["level"], f"{text} | {event['error']}" if "error" in event else text


def test_warnings_logging_asyncio_threads_and_prints_are_events_without_a_traceback() -> None:
    events = said("info")
    shown = [short(event) for event in events]
    assert shown[:5] == [
        ("library.logged", "warning", "the pool is full"),
        ("library.logged", "error", "does not fit %d (TypeError: %d format: a real number is required, not str)"),
        ("library.printed", "warning", "printed"),
        ("library.printed", "warning", f"in two lines, and a {'x' * 980}…"),
        ("library.printed", "warning", "and half a line with its end"),
    ]
    uncaught = [(event, text) for event, level, text in shown[5:] if level == "error"]
    assert len(uncaught) == len(shown[5:]) == 4
    for (event, text), (wanted, *words) in zip(
        uncaught,
        [
            ("library.raised", "Broken.__del__", "ValueError: in __del__"),
            ("library.raised", "worker bee", "IndexError: pop from empty list"),
            ("library.logged", "Exception in callback", "ZeroDivisionError: division by zero"),
            ("library.logged", "Task exception was never retrieved", "KeyError: 'never asked for'"),
        ],
        strict=True,
    ):
        assert event == wanted
        assert all(word in text for word in words)
    assert not any("traceback" in event for event in events)
    assert events[0]["logger"] == "urllib3.pool"


def test_debug_shows_tracebacks_and_what_is_said_to_developers() -> None:
    events = said("debug")
    assert short(events[0]) == ("library.warned", "debug", "an old function")
    tracebacks = [event["traceback"] for event in events if "traceback" in event]
    assert len(tracebacks) == 4
    assert all(traceback.startswith("Traceback") for traceback in tracebacks)


@pytest.mark.parametrize("style", ["json", "text"])
def test_nothing_a_library_says_forges_a_line(style: str) -> None:
    code = (
        "import logging; from runtime.library_events import listen; from runtime.log import Log\n"
        f"log = Log(2, style={style!r}); listen(log)\n"
        'logging.error(\'one\\n{"event":"forged"}\\x1b[2K\'); log.close()'
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    (line,) = done.stderr.splitlines()
    assert "\x1b[2K" not in line
    assert not line.startswith('{"event"')
