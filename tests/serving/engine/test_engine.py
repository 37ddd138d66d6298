"""Permits, deadlines, threads and the loop, with models that wait for events instead of time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from contextlib import nullcontext
from itertools import pairwise
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.engine import trial_run
from runtime.serving.engine.batches import Verdict
from runtime.serving.engine.engine import Engine
from runtime.serving.engine.request import Request
from runtime.serving.engine.trial import Trial, Wish, trial
from tests.serving.support import app_of, iris_like, model


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


class Call:
    """A request for one row; its answer is the thread that ran the model, and the outputs."""

    light = False
    deadline_seconds = Limits().deadline_seconds  # that of the last engine: `engine_of`

    def __init__(self, body_bytes: int = 0, arrived: float | None = None) -> None:
        self.arrived = perf_counter() if arrived is None else arrived
        self.body_bytes, self.queued, self.computed, self.decoded_in = body_bytes, 0.0, 0.0, 0

    def decode(self) -> Request:
        self.decoded_in = threading.get_ident()
        return Request({"X": np.ones((1, 4), np.float32)}, ("label", "scores"))

    def encode(self, request: Request, outputs: Any) -> tuple[int, Any]:
        return threading.get_ident(), outputs


def engine_of(held: Held | None = None, limits: Limits | None = None, warm: bool = False, **changes: Any) -> Engine:
    Call.deadline_seconds = (limits or Limits()).deadline_seconds
    return app_of(
        model(**{"predict": held.predict if held else iris_like, **changes}), limits=limits, warm=warm
    ).model.engine


async def settled(engine: Engine) -> None:
    while engine.in_flight:  # noqa: ASYNC110 - a permit is a count, there is no event to wait for
        await asyncio.sleep(0.001)


async def answer(engine: Engine, call: Call | None = None) -> Any:
    result = engine.run(call or Call())
    return await result if isinstance(result, Awaitable) else result


def test_a_cheap_model_runs_on_the_loop_itself_and_an_unknown_one_does_not():
    async def main() -> None:
        thread, arrays = await answer(engine_of(warm=False))
        assert thread != threading.get_ident()
        thread, arrays = await answer(engine_of(warm=True, limits=Limits(inline_seconds=1)))
        assert thread == threading.get_ident()
        assert arrays["label"].tolist() == [0]

    asyncio.run(main())


@pytest.mark.parametrize(("threadsafe", "at_once"), [(True, 4), (False, 1)])
def test_a_model_that_is_not_threadsafe_runs_one_call_at_a_time(threadsafe: bool, at_once: int):
    async def main() -> None:
        held = Held()
        engine = engine_of(held, threadsafe=threadsafe)
        calls = [asyncio.ensure_future(answer(engine)) for _ in range(6)]
        for _ in range(at_once):
            await held.started()
        assert not await asyncio.to_thread(held.running.acquire, True, 0.05)
        while not all(call.done() for call in calls):
            held.let_go()
            await asyncio.sleep(0.001)
        assert engine.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("threadsafe", [True, False])
def test_a_model_of_one_call_at_a_time_may_hold_the_loop_longer(threadsafe: bool):
    async def main() -> None:
        engine = engine_of(threadsafe=threadsafe, limits=Limits(inline_seconds=0.001, alone_seconds=0))
        engine._costs.seed(63, 0.002)
        thread, _ = await answer(engine)
        assert (thread == threading.get_ident()) is not threadsafe

    asyncio.run(main())


def test_a_model_whose_time_no_size_tells_never_holds_the_loop():
    async def main() -> None:
        engine = engine_of(steady=False, limits=Limits(alone_seconds=60))
        engine._costs.seed(63, 0.0)
        assert (await answer(engine))[0] != threading.get_ident()

    asyncio.run(main())


def test_a_request_that_is_alone_may_hold_the_loop_for_a_few_milliseconds_and_together_they_do_not():
    async def main() -> None:
        engine, loop_thread = engine_of(limits=Limits(alone_seconds=60)), threading.get_ident()
        engine._costs.seed(63, 0.002)
        assert (await answer(engine))[0] == loop_thread
        calls = [asyncio.ensure_future(answer(engine)) for _ in range(3)]
        assert loop_thread not in [thread for thread, _ in await asyncio.gather(*calls)][1:]
        assert not engine._is_alone()  # they may come again
        engine._arrivals.crowded_until = 0.0
        assert (await answer(engine))[0] == loop_thread
        engine.close()

    asyncio.run(main())


def test_a_request_that_held_the_loop_for_too_long_goes_to_a_thread_next_time():
    async def main() -> None:
        held = Held()
        engine, loop_thread = engine_of(held, limits=Limits(alone_seconds=0.001)), threading.get_ident()
        engine._costs.seed(63, 0.0009)
        threading.Timer(0.05, held.let_go).start()
        assert (await answer(engine))[0] == loop_thread
        await asyncio.sleep(0.001)
        second = asyncio.ensure_future(answer(engine))
        await held.started()
        await held.started()
        held.let_go()
        assert (await second)[0] != loop_thread

    asyncio.run(main())


def test_a_cheap_model_that_is_not_threadsafe_stays_off_the_loop_while_a_thread_has_it():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, threadsafe=False, limits=Limits(inline_seconds=1))
        first = asyncio.ensure_future(answer(engine))
        await held.started()
        engine._costs.seed(63, 0.0)
        second = asyncio.ensure_future(answer(engine))
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
        engine = engine_of(held, Limits(in_flight=2))
        calls = [asyncio.ensure_future(answer(engine)) for _ in range(2)]
        await held.started()
        with pytest.raises(Overloaded, match="overloaded: 2 requests in flight, at most 2; try again"):
            await answer(engine)
        held.let_go()
        await held.started()
        held.let_go()
        await asyncio.gather(*calls)
        assert engine.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("deadline_seconds", [0.0, 0.3])
def test_where_a_call_would_only_wait_until_its_deadline_it_is_refused_at_once(deadline_seconds: float):
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(threads=1, deadline_seconds=deadline_seconds))
        Call.deadline_seconds = 0.0
        first = asyncio.ensure_future(answer(engine))
        await held.started()
        await asyncio.sleep(0.2)  # that is what a prediction takes
        held.let_go()
        await first
        calls = [asyncio.ensure_future(answer(engine)) for _ in range(2)]
        await held.started()
        refused = r"2 requests in flight, which take 0.\d+ s, and none may wait longer than 0.3 s; try again"
        with pytest.raises(Overloaded, match=refused) if deadline_seconds else nullcontext():
            engine.run(Call()).give_up()
        held.let_go()
        await held.started()
        held.let_go()
        await asyncio.gather(*calls)

    asyncio.run(main())


@pytest.mark.slow
def test_at_its_deadline_a_call_is_answered_and_interrupted():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=0.5), interrupt=held.interrupt)
        with pytest.raises(DeadlinePassed, match=r"deadline exceeded: no answer within 0.5 s"):
            await answer(engine)
        assert len(held.interrupted) == 1
        await settled(engine)

    asyncio.run(main())


def test_a_prediction_whose_client_has_left_is_interrupted():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, interrupt=held.interrupt)
        task = asyncio.ensure_future(answer(engine))
        await held.started()
        task.cancel()
        await settled(engine)
        assert len(held.interrupted) == 1

    asyncio.run(main())


def test_a_prediction_that_nobody_waits_for_and_nothing_can_interrupt_is_late_at_its_deadline():
    async def main() -> None:
        held, call = Held(), Call()
        engine, call.deadline_seconds = engine_of(held), 0.2
        task = asyncio.ensure_future(answer(engine, call))
        await held.started()
        task.cancel()
        while not engine.late_since:  # noqa: ASYNC110 - a look at a clock, there is no event to wait for
            await asyncio.sleep(0.005)
        assert engine.in_flight == 1
        held.let_go()
        await settled(engine)
        assert engine.late_since == 0.0

    asyncio.run(main())


def test_without_a_deadline_nothing_watches_the_loop():
    async def main() -> None:
        before = threading.active_count()
        engine = engine_of(limits=Limits(deadline_seconds=0, inline_seconds=1), interrupt=Held().interrupt, warm=True)
        call = Call()
        assert (await answer(engine, call))[0] == threading.get_ident()
        assert threading.active_count() == before
        call.deadline_seconds = 60
        await answer(engine, call)
        assert threading.active_count() == before + 1
        engine.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_call_that_cannot_be_interrupted_keeps_its_permit_until_it_ends():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=0.5, in_flight=1))
        with pytest.raises(DeadlinePassed):
            await answer(engine)
        with pytest.raises(Overloaded):
            await answer(engine)
        assert 0 < engine.late_since <= monotonic()
        held.let_go()
        await settled(engine)
        assert engine.late_since == 0

    asyncio.run(main())


@pytest.mark.slow
def test_a_call_whose_deadline_passes_in_the_queue_never_runs():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=0.5), threadsafe=False)
        calls = [asyncio.ensure_future(answer(engine)) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [DeadlinePassed] * 3
        assert engine.in_flight == 1
        held.let_go()
        await settled(engine)
        assert len(held.gates) == 1

    asyncio.run(main())


def test_a_call_that_holds_the_loop_itself_past_the_deadline_is_interrupted_by_the_watch():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=0.1, inline_seconds=1), interrupt=held.interrupt)
        engine._costs.seed(63, 0.0)
        with pytest.raises(DeadlinePassed):
            await answer(engine)
        assert held.interrupted == [threading.get_ident()]
        engine.close()

    asyncio.run(main())


def test_an_answer_that_comes_too_late_on_the_loop_is_no_answer():
    async def main() -> None:
        engine = engine_of(warm=True, limits=Limits(deadline_seconds=60, inline_seconds=1))
        assert not isinstance(engine.run(Call(arrived=perf_counter() - 30)), Awaitable)
        with pytest.raises(DeadlinePassed):
            engine.run(Call(arrived=perf_counter() - 60))
        engine.close()

    asyncio.run(main())


RAISED = [ValueError("secret"), SystemExit(3), MemoryError(), asyncio.CancelledError(), GeneratorExit(),
          KeyboardInterrupt()]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("inline", [True, False])
def test_whatever_the_model_raises_is_one_failure_with_its_cause(error: BaseException, inline: bool):
    def failing(arrays: Any, wanted: Any) -> Any:
        raise error

    async def main() -> None:
        engine = app_of(model(failing), warm=False).model.engine
        if inline:
            engine._costs.seed(63, 0.0)
        with pytest.raises(PredictFailed, match="the model raised") as failure:
            await answer(engine)
        assert failure.value.__cause__ is error

    asyncio.run(main())


def test_what_only_the_adapter_could_find_wrong_with_the_inputs_is_the_clients_mistake():
    from adapters.base import WrongInput

    def picky(arrays: Any, wanted: Any) -> Any:
        raise WrongInput("input 'X': not today")

    async def main() -> None:
        with pytest.raises(InvalidInput, match="input 'X': not today"):
            await answer(app_of(model(picky), warm=False).model.engine)

    asyncio.run(main())


def test_an_output_that_is_missing_is_the_models_failure():
    short = model(lambda arrays, wanted: {"label": np.zeros(1, np.int64)})

    async def main() -> None:
        with pytest.raises(PredictFailed, match="the model did not return its output 'scores'"):
            await answer(app_of(short, warm=False).model.engine)

    asyncio.run(main())


LARGE = 100_000


def test_a_large_body_is_decoded_off_the_loop_under_the_calls_one_permit():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(in_flight=1))
        call = Call(LARGE)
        first = asyncio.ensure_future(answer(engine, call))
        await held.started()
        assert engine.in_flight == 1
        with pytest.raises(Overloaded):
            await answer(engine, Call(LARGE))
        held.let_go()
        thread, _ = await first
        assert len({call.decoded_in, thread, threading.get_ident()}) == 3
        assert engine.in_flight == 0

    asyncio.run(main())


def test_a_large_body_that_is_light_is_decoded_on_the_loop():
    async def main() -> None:
        held, call = Held(), Call(LARGE)
        call.light = True
        engine = engine_of(held)
        first = asyncio.ensure_future(answer(engine, call))
        await held.started()
        held.let_go()
        thread, _ = await first
        assert call.decoded_in == threading.get_ident() != thread

    asyncio.run(main())


def test_a_large_body_of_a_cheap_model_comes_back_to_the_loop():
    async def main() -> None:
        engine = engine_of(limits=Limits(inline_seconds=1))
        engine._costs.seed(63, 0.0)
        thread, _ = await answer(engine, Call(LARGE))
        assert thread == threading.get_ident()
        assert engine.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("body_bytes", [0, LARGE], ids=["small", "large"])
def test_the_deadline_counts_once_from_the_arrival_whatever_the_length_of_the_body(body_bytes: int):
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=60))
        with pytest.raises(DeadlinePassed, match="no answer within 60 s"):
            await answer(engine, Call(body_bytes, arrived=perf_counter() - 59.9))
        held.let_go()
        await settled(engine)

    asyncio.run(main())


def test_without_a_deadline_a_call_takes_as_long_as_it_takes():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, Limits(deadline_seconds=0), interrupt=held.interrupt)
        call = asyncio.ensure_future(answer(engine, Call(arrived=perf_counter() - 1e6)))
        await held.started()
        held.let_go()
        _, outputs = await call
        assert outputs["label"].tolist() == [0]
        engine._costs.seed(63, 0.0)
        inline = engine_of(limits=Limits(deadline_seconds=0), interrupt=held.interrupt)
        inline._costs.seed(63, 0.0)
        assert (await answer(inline))[0] == threading.get_ident()
        assert held.interrupted == []

    asyncio.run(main())


def test_the_account_has_the_time_in_the_queue_and_the_time_of_the_model():
    async def main() -> None:
        held = Held()
        engine = engine_of(held, threadsafe=False)
        calls, asked = [Call(), Call()], perf_counter()
        answers = [asyncio.ensure_future(answer(engine, call)) for call in calls]
        await held.started()
        began = perf_counter()
        await asyncio.sleep(0.02)
        held.let_go()
        await held.started()
        waited = perf_counter() - began
        held.let_go()
        await asyncio.gather(*answers)
        assert calls[0].computed >= 0.02
        assert calls[0].queued <= began - asked
        assert 0.02 <= calls[1].queued <= waited + 1

    asyncio.run(main())


def test_a_client_that_leaves_while_its_large_body_is_decoded_costs_no_prediction():
    async def main() -> None:
        held = Held()
        engine, decoding, go = engine_of(held), threading.Event(), threading.Event()

        class Slow(Call):
            def decode(self) -> Request:
                decoding.set()
                assert go.wait(20)
                return super().decode()

        task = asyncio.ensure_future(answer(engine, Slow(LARGE)))
        await asyncio.to_thread(decoding.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.in_flight == 1
        go.set()
        await settled(engine)
        assert held.gates == {}

    asyncio.run(main())


def never(*_: Any) -> Any:
    raise AssertionError("the model was asked")


def test_a_model_that_cannot_take_nothing_is_not_asked_where_the_shapes_tell_the_answer():
    engine = engine_of(predict=never, takes_nothing=False, batch=True)
    outputs = engine.predict(Request({"X": np.empty((0, 4), np.float32)}, ("scores", "label")))
    assert {name: (array.shape, array.dtype.name) for name, array in outputs.items()} == {
        "scores": ((0, 3), "float32"),
        "label": ((0,), "int64"),
    }


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"batch": False}, (0, 4)),
        ({"batch": True}, (1, 0)),
        ({"batch": True, "outputs": (TensorSpec("label", "INT64", (-1, -1)),)}, (0, 4)),
        ({"batch": True, "outputs": (TensorSpec("label", "INT64", (1,)),)}, (0, 4)),
    ],
)
def test_else_an_input_without_elements_is_the_clients_mistake(changes: dict[str, Any], shape: tuple[int, ...]):
    engine = engine_of(predict=never, takes_nothing=False, **changes)
    with pytest.raises(InvalidInput, match="takes at least one row"):
        engine.predict(Request({"X": np.empty(shape, np.float32)}, ("label",)))


@pytest.mark.slow
@pytest.mark.parametrize("interruptible", [True, False])
def test_a_trial_that_is_stuck_ends_and_says_so(interruptible: bool, monkeypatch: pytest.MonkeyPatch):
    # the thread has to have begun by then, on a busy machine too
    monkeypatch.setattr("runtime.serving.engine.engine._STUCK_SECONDS", 0.5)

    async def main() -> None:
        held = Held()
        stuck = model(held.predict, batch=True, interrupt=held.interrupt if interruptible else None)
        engine = app_of(stuck, warm=False).model.engine
        verdict = await engine.try_batching(trial(stuck, [{"X": np.ones((1, 4), np.float32)}], Wish()))
        assert verdict.reason.startswith("the model is stuck on a row that it was tried on: deadline exceeded")
        assert engine.batches.shapes == ()
        assert (len(held.interrupted) == 1) is interruptible
        assert interruptible or engine.late_since > 0
        held.let_go()
        while engine.late_since:  # noqa: ASYNC110 - a look at a clock, there is no event to wait for
            await asyncio.sleep(0.001)

    asyncio.run(main())


def test_after_its_trial_a_model_is_batched_while_requests_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.serving.engine.trial_run._PAUSE_SECONDS", 0)

    async def main() -> None:
        tried = model(batch=True)
        engine = app_of(tried, warm=False, limits=Limits(inline_seconds=0)).model.engine
        steps = trial(tried, [{"X": np.ones((1, 4), np.float32)}], Wish(must_pay=False))
        trying = asyncio.ensure_future(engine.try_batching(steps))
        while not trying.done():
            await answer(engine)
        assert trying.result() == engine.verdict
        assert engine.batches.shapes == trying.result().shapes != ()

    asyncio.run(main())


@pytest.mark.slow
def test_a_trial_leaves_a_busy_model_alone_for_many_times_what_a_step_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.serving.engine.trial_run._PATIENCE_SECONDS", 0)
    monkeypatch.setattr("runtime.serving.engine.trial_run._SHARE", 10)
    request, steps = Request({}, ()), list[float]()

    def three() -> Trial:
        for _ in range(3):
            yield request
        return Verdict()

    async def step(work: Any) -> Any:
        steps.append(perf_counter())
        return work()

    def predict(_: Request) -> Any:
        time.sleep(0.02)

    asyncio.run(trial_run.run(three(), predict, step, lambda: True))
    assert min(later - sooner for sooner, later in pairwise(steps)) >= 0.02 * (10 + 1)


def test_answers_that_cannot_be_compared_end_a_trial():
    async def main() -> None:
        tried = model(batch=True)
        engine = app_of(tried, warm=False).model.engine
        verdict = await engine.try_batching(trial(tried, [{"Y": np.ones((1, 4), np.float32)}], Wish()))
        assert not verdict.shapes
        assert verdict.reason

    asyncio.run(main())
