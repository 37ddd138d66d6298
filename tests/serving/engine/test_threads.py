"""A call in a thread is over once, whatever comes together."""

from __future__ import annotations

import asyncio
import threading

import pytest

from runtime.serving.engine.threads import Job


async def given_up(when: str) -> list[str]:
    """What happened to a job that was given up at some moment of its life."""
    seen: list[str] = []
    job = Job(asyncio.get_running_loop(), lambda: seen.append("ran"), lambda: seen.append("over"))
    thread = threading.Thread(target=job.run)
    if when == "before":
        job.give_up(None)
    thread.start()
    thread.join()
    if when == "when its result is on the way":
        job.give_up(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    if when == "after":
        job.give_up(None)
    job.answer.cancel()
    return seen


@pytest.mark.parametrize(
    ("when", "seen"),
    [("before", ["over"]), ("when its result is on the way", ["ran", "over"]), ("after", ["ran", "over"])],
)
def test_a_job_is_over_once_whenever_it_is_given_up(when: str, seen: list[str]):
    assert asyncio.run(given_up(when)) == seen
