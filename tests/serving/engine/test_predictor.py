"""Permits, deadlines, threads and the loop, with models that wait for events instead of time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest

from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, PredictFailed
from runtime.serving.engine.limits import Limits
from runtime.serving.engine.predictor import Predictor
from runtime.serving.protocol.v2.decode import Request
from tests.serving.support import app_of, iris_like, model

ROW = Request(None, {"X": np.ones((1, 4), np.float32)}, ("label", "scores"))


class Held:
    """A model whose calls wait until they are let go; `interrupt` lets go of the one in that thread."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.gates: dict[int, threading.Event] = {}
        self.interrupted: list[int] = []

    def predict(self, arrays: Any, wanted: Any) -> Any:
        gate = self.gates[threading.get_ident()] = threading.Event()
        self.running.release()
        assert gate.wait(20)
        if threading.get_ident() in self.interrupted:
            raise RuntimeError("terminated")
        return iris_like(arrays, wanted)

    def interrupt(self, thread: int) -> None:
        self.interrupted.append(thread)
        self.gates[thread].set()

    async def started(self) -> None:
        await asyncio.to_thread(self.running.acquire)

    def let_go(self) -> None:
        for gate in list(self.gates.values()):
            gate.set()


def predictor_of(
    held: Held | None = None, limits: Limits | None = None, warm: bool = False, **changes: Any
) -> Predictor:
    served = app_of(model(held.predict if held else iris_like, **changes), limits=limits, warm=warm)
    return served.predictors["iris"]


async def settled(predictor: Predictor) -> None:
    while predictor.in_flight:  # noqa: ASYNC110 - a permit is a count, there is no event to wait for
        await asyncio.sleep(0.001)


async def answer(predictor: Predictor) -> Any:
    result = predictor.predict(ROW, lambda arrays: (threading.get_ident(), arrays))
    return await result if isinstance(result, Awaitable) else result


def test_a_cheap_model_runs_on_the_loop_itself_and_an_unknown_one_does_not():
    async def main() -> None:
        thread, arrays = await answer(predictor_of(warm=False))
        assert thread != threading.get_ident()
        thread, arrays = await answer(predictor_of(warm=True, limits=Limits(inline_seconds=1)))
        assert thread == threading.get_ident()
        assert arrays["label"].tolist() == [0]

    asyncio.run(main())


@pytest.mark.parametrize(("threadsafe", "at_once"), [(True, 4), (False, 1)])
def test_a_model_that_is_not_threadsafe_runs_one_call_at_a_time(threadsafe: bool, at_once: int):
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, threadsafe=threadsafe)
        calls = [asyncio.ensure_future(answer(predictor)) for _ in range(6)]
        for _ in range(at_once):
            await held.started()
        assert not await asyncio.to_thread(held.running.acquire, True, 0.05)
        while not all(call.done() for call in calls):
            held.let_go()
            await asyncio.sleep(0.001)
        assert predictor.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("threadsafe", [True, False])
def test_a_model_of_one_call_at_a_time_may_hold_the_loop_longer(threadsafe: bool):
    async def main() -> None:
        predictor = predictor_of(threadsafe=threadsafe, limits=Limits(inline_seconds=0.001))
        predictor._costs.seed(63, 0.002)
        thread, _ = await answer(predictor)
        assert (thread == threading.get_ident()) is not threadsafe

    asyncio.run(main())


def test_a_cheap_model_that_is_not_threadsafe_stays_off_the_loop_while_a_thread_has_it():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, threadsafe=False, limits=Limits(inline_seconds=1))
        first = asyncio.ensure_future(answer(predictor))
        await held.started()
        predictor._costs.seed(63, 0.0)
        second = asyncio.ensure_future(answer(predictor))
        held.let_go()
        await first
        await held.started()
        held.let_go()
        thread, _ = await second
        assert thread != threading.get_ident()

    asyncio.run(main())


def test_without_a_free_permit_a_request_is_refused_at_once():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, Limits(in_flight=2))
        calls = [asyncio.ensure_future(answer(predictor)) for _ in range(2)]
        await held.started()
        with pytest.raises(Overloaded, match="overloaded: 2 requests in flight, at most 2; try again"):
            await answer(predictor)
        held.let_go()
        await held.started()
        held.let_go()
        await asyncio.gather(*calls)
        assert predictor.in_flight == 0

    asyncio.run(main())


def test_at_its_deadline_a_call_is_answered_and_interrupted():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, Limits(deadline_seconds=0.5), interrupt=held.interrupt)
        with pytest.raises(DeadlinePassed, match=r"deadline exceeded: no answer within 0.5 s"):
            await answer(predictor)
        assert len(held.interrupted) == 1
        await settled(predictor)

    asyncio.run(main())


def test_a_call_that_cannot_be_interrupted_keeps_its_permit_until_it_ends():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, Limits(deadline_seconds=0.5, in_flight=1))
        with pytest.raises(DeadlinePassed):
            await answer(predictor)
        with pytest.raises(Overloaded):
            await answer(predictor)
        held.let_go()
        await settled(predictor)

    asyncio.run(main())


def test_a_call_whose_deadline_passes_in_the_queue_never_runs():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, Limits(deadline_seconds=0.5), threadsafe=False)
        calls = [asyncio.ensure_future(answer(predictor)) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [DeadlinePassed] * 3
        assert predictor.in_flight == 1
        held.let_go()
        await settled(predictor)
        assert len(held.gates) == 1

    asyncio.run(main())


def test_a_call_that_holds_the_loop_itself_past_the_deadline_is_interrupted_by_the_watch():
    async def main() -> None:
        held = Held()
        predictor = predictor_of(held, Limits(deadline_seconds=0.1, inline_seconds=1), interrupt=held.interrupt)
        predictor._costs.seed(63, 0.0)
        with pytest.raises(DeadlinePassed):
            await answer(predictor)
        assert held.interrupted == [threading.get_ident()]
        predictor.close()

    asyncio.run(main())


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), MemoryError()], ids=repr)
@pytest.mark.parametrize("inline", [True, False])
def test_whatever_the_model_raises_is_one_failure_with_its_cause(error: BaseException, inline: bool):
    def failing(arrays: Any, wanted: Any) -> Any:
        raise error

    async def main() -> None:
        predictor = app_of(model(failing), warm=False).predictors["iris"]
        if inline:
            predictor._costs.seed(63, 0.0)
        with pytest.raises(PredictFailed, match="the model raised") as failure:
            await answer(predictor)
        assert failure.value.__cause__ is error

    asyncio.run(main())


def test_what_only_the_adapter_could_find_wrong_with_the_inputs_is_the_clients_mistake():
    from adapters.base import WrongInput

    def picky(arrays: Any, wanted: Any) -> Any:
        raise WrongInput("input 'X': not today")

    async def main() -> None:
        with pytest.raises(InvalidInput, match="input 'X': not today"):
            await answer(app_of(model(picky), warm=False).predictors["iris"])

    asyncio.run(main())


def test_warm_up_raises_what_the_model_raises_and_counts_nothing():
    def failing(arrays: Any, wanted: Any) -> Any:
        raise ValueError("no")

    served = app_of(model(failing), warm=False)
    with pytest.raises(PredictFailed):
        served.predictors["iris"].warm_up()
    assert served.slots.slot(1).tolist() == [0.0] * len(served.slots.slot(1))


def test_warm_up_finds_a_model_that_does_not_give_what_it_promises():
    served = app_of(model(lambda arrays, wanted: {"label": np.zeros(1, np.int64)}), warm=False)
    with pytest.raises(PredictFailed, match="the model did not return its output 'scores'"):
        served.predictors["iris"].warm_up()
