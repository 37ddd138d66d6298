"""A call in a thread is over once, whatever comes together; and threads that the system does not give."""

from __future__ import annotations

import asyncio
import threading
import weakref

import numpy as np
import pytest

from runtime.errors import PredictFailed
from runtime.serving.engine.threads import Job, Lane


async def given_up(when: str) -> list[str]:
    """What happened to a job that was given up at some moment of its life."""
    seen: list[str] = []
    job: Job[None] = Job(asyncio.get_running_loop(), lambda _: seen.append("over"))
    lane, go, ran = Lane("test", 1), threading.Event(), threading.Event()
    lane.submit(lambda: go.wait(20) and None)
    job.step(lane, lambda: seen.append("ran"), job.finish)
    lane.submit(ran.set)
    if when == "before":
        job.give_up()
    go.set()
    assert ran.wait(20)
    if when == "when its result is on the way":
        job.give_up()
        job.answer.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    if when == "after":
        job.give_up()
    job.answer.cancel()
    assert lane.jobs == 0
    lane.close()
    return seen


@pytest.mark.parametrize(
    ("when", "seen"),
    [("before", ["over"]), ("when its result is on the way", ["ran", "over"]), ("after", ["ran", "over"])],
)
def test_a_job_is_over_once_whenever_it_is_given_up(when: str, seen: list[str]):
    assert asyncio.run(given_up(when)) == seen


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()], ids=repr)
def test_a_step_that_raises_what_is_no_exception_fails_and_is_no_cancellation(error: BaseException):
    def step() -> None:
        raise error

    async def main() -> None:
        lane, job = Lane("test", 1), Job[None](asyncio.get_running_loop(), lambda _: None)
        job.step(lane, step, job.finish)
        with pytest.raises(PredictFailed) as failure:
            await asyncio.wait_for(job.answer, 20)
        assert failure.value.__cause__ is error
        lane.close()

    asyncio.run(main())


def test_a_job_given_up_before_it_began_keeps_nothing_of_its_request():
    async def main() -> bool:
        lane, go = Lane("test", 1), threading.Event()
        lane.submit(lambda: go.wait(20) and None)
        array = np.zeros(1)
        job, kept = Job[int](asyncio.get_running_loop(), lambda _: None), weakref.ref(array)
        job.step(lane, array.sum, job.finish)
        del array
        job.give_up()
        left = kept() is not None
        go.set()
        lane.close()
        return left

    assert not asyncio.run(main())


def test_a_step_that_raises_stop_iteration_fails_its_job_once():
    async def main() -> list[str]:
        ended: list[str] = []
        lane, job = Lane("test", 1), Job[int](asyncio.get_running_loop(), lambda _: ended.append("over"))
        job.step(lane, lambda: next(iter(())), job.finish)
        with pytest.raises(RuntimeError) as raised:
            await asyncio.wait_for(job.answer, 10)
        assert isinstance(raised.value.__cause__, StopIteration)
        lane.close()
        return ended

    assert asyncio.run(main()) == ["over"]


@pytest.mark.parametrize("threads_already", [0, 1])
def test_without_a_thread_left_a_call_fails_or_waits_for_those_that_run(threads_already: int):
    async def main() -> str:
        ended: list[str] = []
        lane, job = Lane("test", 2), Job[str](asyncio.get_running_loop(), lambda _: ended.append("over"))
        if threads_already:
            lane.submit(lambda: None)
        size = threading.stack_size(2**46)  # more than there is address space: no thread can start
        try:
            job.step(lane, lambda: "ran", job.finish)
        finally:
            threading.stack_size(size)
        answers = await asyncio.gather(job.answer, return_exceptions=True)
        assert (ended, lane.jobs) == (["over"], 0)
        lane.close()
        return str(answers[0])

    assert asyncio.run(main()) == ("ran" if threads_already else "can't start new thread")


def test_a_step_that_returns_after_the_loop_is_closed_ends_in_silence():
    lane, running, go = Lane("test", 1), threading.Event(), threading.Event()

    async def main() -> None:
        job: Job[bool] = Job(asyncio.get_running_loop(), lambda _: None)
        job.step(lane, lambda: running.set() or go.wait(20), job.finish)  # type: ignore[func-returns-value]
        await asyncio.to_thread(running.wait)

    asyncio.run(main())
    after = threading.Event()
    lane.submit(after.set)
    go.set()
    assert after.wait(20)
    lane.close()
