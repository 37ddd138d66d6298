"""Each job expires at its own deadline, whatever order they were set in, and none that has ended does."""

from __future__ import annotations

import asyncio
from time import perf_counter

from runtime.serving.engine.deadlines import Deadlines


def test_each_expires_once_at_its_own_deadline_and_none_that_was_forgotten():
    async def main() -> list[tuple[str, float]]:
        expired, began, over = list[tuple[str, float]](), perf_counter(), asyncio.Event()

        def expire(job: str, seconds: float) -> None:
            assert perf_counter() >= began + seconds
            expired.append((job, seconds))
            if job == "last":
                over.set()

        deadlines = Deadlines(expire)
        for job, seconds in (("last", 0.06), ("first", 0.01), ("ended", 0.02), ("brought forward", 30.0)):
            deadlines.set(job, began + seconds, seconds)
        deadlines.forget("ended")
        deadlines.forget("unknown")
        deadlines.set("brought forward", began + 0.03, 0.03)
        await asyncio.wait_for(over.wait(), 20)
        assert not deadlines._due
        return expired

    assert asyncio.run(main()) == [("first", 0.01), ("brought forward", 0.03), ("last", 0.06)]


def test_one_that_has_passed_already_expires_in_the_next_turn_of_the_event_loop():
    async def main() -> None:
        over = asyncio.Event()
        Deadlines(lambda _, __: over.set()).set("job", perf_counter() - 1, 0.5)
        await asyncio.wait_for(over.wait(), 20)

    asyncio.run(main())
