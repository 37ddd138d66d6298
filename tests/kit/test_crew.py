"""Jobs in threads, and the thread that waits for them."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from runtime.errors import Cancelled, NotFound
from runtime.kit.crew import Crew
from tests.kit.pulling import AT_ONCE_SECONDS, Recorder


def test_results_come_in_the_order_of_the_jobs() -> None:
    first = threading.Event()

    def second() -> str:
        first.set()
        return "second"

    jobs = [lambda: first.wait(5) and "first", second]
    assert Crew(2).run(jobs, Recorder()) == ["first", "second"]


def test_no_more_threads_run_than_the_crew_has() -> None:
    running, most = [], []

    def job() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()

    Crew(3).run([job] * 12, Recorder())
    assert max(most) <= 3


def test_what_jobs_post_is_called_by_the_waiting_thread_before_run_ends() -> None:
    crew, calls = Crew(4), []
    crew.run([partial(crew.post, lambda: calls.append(threading.get_ident()))] * 20, Recorder())
    assert calls == [threading.get_ident()] * 20


def test_the_first_failure_is_raised_and_stops_the_others() -> None:
    crew = Crew(2)

    def fail() -> None:
        raise NotFound("no such thing")

    def work() -> None:
        while True:
            crew.pause(0.01)

    with pytest.raises(NotFound, match="no such thing"):
        crew.run([work, fail], Recorder())
    with pytest.raises(Cancelled):
        crew.check()


def test_a_cancellation_is_seen_while_a_job_blocks_for_good() -> None:
    blocked = threading.Event()
    crew, told = Crew(1), threading.Event()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        crew.run([lambda: told.set() or blocked.wait()], Recorder(stop=told.is_set))
    assert time.monotonic() - started < AT_ONCE_SECONDS
    blocked.set()


def test_a_pause_ends_when_the_crew_is_dismissed() -> None:
    crew, paused = Crew(1), threading.Event()

    def job() -> None:
        paused.set()
        crew.pause(60)

    started = time.monotonic()
    with pytest.raises(Cancelled):
        crew.run([job], Recorder(stop=paused.is_set))
    assert time.monotonic() - started < AT_ONCE_SECONDS


def test_warnings_reach_the_watch_of_the_run() -> None:
    crew, watch = Crew(1), Recorder()
    crew.run([partial(crew.warn, "blob.spoiled", digest="d")], watch)
    assert watch.warnings == [("blob.spoiled", {"digest": "d"})]
