"""Jobs in threads, and the thread that waits for them."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from runtime.errors import Cancelled, NotFound
from runtime.kit.threads import Threads
from tests.kit.pulling import AT_ONCE_SECONDS, Recorder


def test_results_come_in_the_order_of_the_jobs() -> None:
    first = threading.Event()

    def second() -> str:
        first.set()
        return "second"

    jobs = [lambda: first.wait(5) and "first", second]
    assert Threads(2).run(jobs, Recorder()) == ["first", "second"]


def test_no_more_threads_run_than_were_asked_for() -> None:
    running, most = [], []

    def job() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()

    Threads(3).run([job] * 12, Recorder())
    assert max(most) <= 3


def test_what_jobs_post_is_called_by_the_waiting_thread_before_run_ends() -> None:
    threads, calls = Threads(4), []
    threads.run([partial(threads.post, lambda: calls.append(threading.get_ident()))] * 20, Recorder())
    assert calls == [threading.get_ident()] * 20


def test_the_first_failure_is_raised_and_stops_the_others() -> None:
    threads = Threads(2)

    def fail() -> None:
        raise NotFound("no such thing")

    def work() -> None:
        while True:
            threads.pause(0.01)

    with pytest.raises(NotFound, match="no such thing"):
        threads.run([work, fail], Recorder())
    with pytest.raises(Cancelled):
        threads.check()


@pytest.mark.slow
def test_a_cancellation_is_seen_while_a_job_blocks_for_good() -> None:
    blocked = threading.Event()
    threads, told = Threads(1), threading.Event()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        threads.run([lambda: told.set() or blocked.wait()], Recorder(stop=told.is_set))
    assert time.monotonic() - started < AT_ONCE_SECONDS
    blocked.set()


def test_a_pause_ends_when_the_work_is_stopped() -> None:
    threads, paused = Threads(1), threading.Event()

    def job() -> None:
        paused.set()
        threads.pause(60)

    started = time.monotonic()
    with pytest.raises(Cancelled):
        threads.run([job], Recorder(stop=paused.is_set))
    assert time.monotonic() - started < AT_ONCE_SECONDS


def test_warnings_reach_the_observer_of_the_run() -> None:
    threads, watch = Threads(1), Recorder()
    threads.run([partial(threads.warn, "blob.spoiled", digest="d")], watch)
    assert watch.warnings == [("blob.spoiled", {"digest": "d"})]
