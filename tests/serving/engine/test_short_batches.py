"""Short predictions, for which a thread would not pay: joined on the event loop itself, where requests come together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from math import inf
from time import perf_counter
from typing import Any

from runtime.errors import DeadlinePassed, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.engine.engine import Engine
from tests.serving.engine.test_batches import Call, Gated, answer, busy

LIMITS = Limits(inline_seconds=0.2)


def short(gated: Gated, limits: Limits = LIMITS, *, crowded: bool = False, **changes: Any) -> Engine:
    """An engine that knows predictions to be short, and long enough to gain from a batch."""
    engine = gated.engine(limits=limits, **{"threadsafe": True, **changes})
    engine._costs.seed(63, limits.inline_seconds / 2)
    engine._arrivals.crowded_until = inf if crowded else 0.0
    return engine


def now(*values: float, seconds: float = 30.0) -> Call:
    """A request that has just come."""
    call = Call(*values, seconds=seconds)
    call.arrived = perf_counter()
    return call


async def asked(engine: Engine, *calls: Call) -> list[Any]:
    """The answers, or failures, of requests that come together."""
    ran = [engine.run(call) for call in calls]
    results = [each if isinstance(each, Awaitable) else asyncio.sleep(0, each) for each in ran]
    return await asyncio.gather(*results, return_exceptions=True)


def doubles(answers: list[Any]) -> list[Any]:
    return [each if isinstance(each, Exception) else each["double"] for each in answers]


def test_a_model_that_only_seemed_to_gain_from_batches_answers_each_at_once_again():
    async def main() -> None:
        gated = Gated()
        engine = short(gated, crowded=True)  # known to take 0.1 s, as after a moment on a busy machine
        gated.open.set()
        for _ in range(5000):
            if not isinstance(answer := engine.run(now(7)), Awaitable):
                break
            await asyncio.gather(answer, *(asked(engine, now(2)) for _ in range(2)))
        assert doubles([answer]) == [[[14]]]
        assert [7] in gated.batches

    asyncio.run(main())


def test_who_comes_together_is_joined_on_the_loop_and_who_is_alone_is_answered_at_once():
    async def main() -> None:
        gated = Gated()
        engine = short(gated)
        gated.open.set()
        began = perf_counter()
        answers = await asked(engine, *(now(n) for n in range(1, 7)))
        assert doubles(answers) == [[[2 * n]] for n in range(1, 7)]
        assert gated.batches == [[1], [2], [3, 4, 5, 6]]  # the second might be the first client's next
        assert gated.threads == {threading.get_ident()}
        assert engine._arrivals.crowded_until > began
        engine._arrivals.crowded_until = inf  # 50 ms may be over on a busy machine
        again = engine.run(now(7))
        assert isinstance(again, Awaitable)  # others may come, too
        await again
        engine._arrivals.crowded_until = 0.0
        await asyncio.sleep(0.001)
        assert not isinstance(engine.run(now(8)), Awaitable)
        assert engine.in_flight == engine.rows.taken == 0
        assert engine.batches._waiting == {}

    asyncio.run(main())


def test_one_that_fails_fails_alone_and_one_that_has_left_is_not_predicted():
    async def main() -> None:
        gated = Gated()
        engine = short(gated, crowded=True)
        gated.open.set()
        left = asyncio.ensure_future(answer(engine, now(9)))
        await asyncio.sleep(0)
        left.cancel()
        answers = doubles(await asked(engine, now(1), now(-2), now(3)))
        assert (answers[0], type(answers[1]), answers[2]) == ([[2]], PredictFailed, [[6]])
        assert all(9 not in batch for batch in gated.batches)
        assert engine.in_flight == engine.rows.taken == 0

    asyncio.run(main())


def test_a_batch_that_hangs_is_interrupted_and_too_late_for_all_of_it():
    async def main() -> None:
        gated = Gated()
        limits = LIMITS._replace(deadline_seconds=0.1)
        engine = short(gated, limits, crowded=True, interrupt=gated.interrupt)
        answers = await asked(engine, *(now(n, seconds=0.1) for n in (1, 2, 3)))
        assert [type(each) for each in answers] == [DeadlinePassed] * 3
        assert gated.batches == [[1, 2, 3]]
        engine.close()

    asyncio.run(main())


def test_a_batch_that_holds_the_loop_for_long_is_the_last_there():
    async def main() -> None:
        gated = Gated()
        engine = short(gated, Limits(inline_seconds=0.03), crowded=True)
        threading.Timer(0.05, gated.open.set).start()
        await asked(engine, now(1), now(2))
        assert gated.threads == {threading.get_ident()}
        await asked(engine, now(3))
        assert len(gated.threads) == 2

    asyncio.run(main())


def test_a_model_that_a_thread_has_is_waited_for():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine(limits=LIMITS, threadsafe=False)
        first = await busy(gated, engine)
        engine._costs.seed(63, 0.2)
        tasks = [asyncio.ensure_future(answer(engine, now(n))) for n in (1, 2)]
        await asyncio.sleep(0.001)
        gated.open.set()
        assert doubles(await asyncio.gather(first, *tasks)) == [[[200]], [[2]], [[4]]]
        assert gated.batches == [[100], [1, 2]]
        assert threading.get_ident() not in gated.threads

    asyncio.run(main())


def test_what_cannot_be_joined_is_answered_on_the_loop_however_many_come():
    async def main() -> None:
        gated = Gated()
        engine = short(gated, crowded=True)
        gated.open.set()
        assert not isinstance(engine.run(now(*range(1, 9))), Awaitable)

    asyncio.run(main())
