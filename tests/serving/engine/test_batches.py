"""Batches with models that wait for events: who joins, who leaves, what each gets, and what happens when one fails."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from runtime.errors import DeadlinePassed, Overloaded, PredictFailed
from runtime.link.limits import Limits
from runtime.link.totals import Totals
from runtime.serving.engine.batches import Shape, Verdict
from runtime.serving.engine.engine import Engine
from runtime.serving.engine.request import Request
from runtime.serving.engine.threads import Job
from tests.serving.support import app_of, model

OUTPUTS = frozenset({"double", "text"})
ALL = Verdict((Shape(frozenset({"x"}), OUTPUTS, None), Shape(frozenset({"x", "bias"}), OUTPUTS, None)), 8)


class Gated:
    """Doubles x, adds the bias if there is one, and gives the text of each row. Predictions wait until it is open."""

    def __init__(self) -> None:
        self.running, self.open = threading.Semaphore(0), threading.Event()
        self.batches: list[list[float]] = []
        self.threads: set[int] = set()
        self.interrupted = False

    def predict(self, arrays: Any, wanted: Any) -> Any:
        x = arrays["x"]
        self.batches.append(x[:, 0].tolist())
        self.threads.add(threading.get_ident())
        self.running.release()
        assert self.open.wait(20)
        if self.interrupted:
            raise RuntimeError("terminated")
        if (x < 0).any():
            raise ValueError("negative")
        double = 2 * x + arrays.get("bias", np.zeros(len(x), np.float32))[:, None]
        text = np.array([b"%g" % value for value in x[:, 0]], object)
        return {name: array for name, array in (("double", double), ("text", text)) if name in wanted}

    def interrupt(self, thread: int) -> None:
        self.interrupted = True
        self.open.set()

    def engine(self, verdict: Verdict = ALL, limits: Limits | None = None, **changes: Any) -> Engine:
        gated: Model = model(
            self.predict,
            inputs=(TensorSpec("x", "FP32", (-1, -1)), TensorSpec("bias", "FP32", (-1,), optional=True)),
            outputs=(TensorSpec("double", "FP32", (-1, -1)), TensorSpec("text", "BYTES", (-1,))),
            **{"threadsafe": False, "batch": True, **changes},
        )
        engine = app_of(gated, limits=limits, warm=False).model.engine
        engine.allow(verdict)
        return engine


class Call:
    """A request for one or more rows of `value`; its answer is what it gets of each output."""

    light, body_bytes, queued, computed = True, 0, 0.0, 0.0

    def __init__(self, *values: float, wanted: tuple[str, ...] = ("double", "text"), width: int = 1,
                 bias: float | None = None, seconds: float = 30.0) -> None:  # fmt: skip
        self.arrived, self.deadline_seconds, self._wanted = 0.0, seconds, wanted
        self._inputs = {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}
        if bias is not None:
            self._inputs["bias"] = np.full(len(values), bias, np.float32)

    def decode(self) -> Request:
        return Request(self._inputs, self._wanted)

    def encode(self, request: Request, outputs: Any) -> dict[str, Any]:
        return {name: outputs[name].tolist() for name in request.wanted}


async def answer(engine: Engine, call: Call) -> Any:
    call.arrived = perf_counter()
    result = engine.run(call)
    return await result if isinstance(result, Job) else result


async def busy(gated: Gated, engine: Engine) -> asyncio.Task[Any]:
    """A request that a thread has begun."""
    task = asyncio.ensure_future(answer(engine, Call(100)))
    await asyncio.to_thread(gated.running.acquire)
    return task


def test_an_idle_model_begins_at_once_and_what_comes_meanwhile_is_one_batch():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        calls = [Call(1), Call(2, 3), Call(4)]
        tasks = [asyncio.ensure_future(answer(engine, call)) for call in calls]
        await asyncio.sleep(0)
        gated.open.set()
        answers = await asyncio.gather(first, *tasks)
        assert [each["double"] for each in answers] == [[[200]], [[2]], [[4], [6]], [[8]]]
        assert [each["text"] for each in answers] == [[b"100"], [b"1"], [b"2", b"3"], [b"4"]]
        assert gated.batches == [[100], [1, 2, 3, 4]]
        assert all(call.queued > 0 and call.computed > 0 for call in calls)
        assert engine.in_flight == engine.rows.taken == 0
        assert engine.batches._waiting == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("others", "batches"),
    [
        pytest.param([Call(2, width=2)], [[1, 1], [2]], id="another shape"),
        pytest.param([Call(2, wanted=("double",))], [[1, 1], [2]], id="other outputs"),
        pytest.param([Call(2, bias=1), Call(3, bias=2)], [[1, 1], [2, 3]], id="another input"),
        pytest.param([Call(*range(2, 9))], [[1, 1], [2, 3, 4, 5, 6, 7, 8]], id="too many rows to join"),
        pytest.param([Call(*range(2, 11))], [[1, 1], list(range(2, 11))], id="more rows than a batch has"),
    ],
)
def test_only_requests_of_one_kind_are_joined(others: list[Call], batches: list[list[float]]):
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        tasks = [asyncio.ensure_future(answer(engine, call)) for call in (Call(1), Call(1), *others)]
        await asyncio.sleep(0)
        gated.open.set()
        answers = await asyncio.gather(first, *tasks)
        assert gated.batches == [[100], *batches]
        for call, given in zip(others, answers[3:], strict=True):
            bias = call._inputs.get("bias", np.zeros(1))[0]
            assert given["double"] == (2 * call._inputs["x"] + bias).tolist()

    asyncio.run(main())


def test_what_the_trial_has_not_shown_is_predicted_by_itself():
    async def main() -> None:
        gated = Gated()
        shape = Shape(frozenset({"x"}), frozenset({"double"}), frozenset({("x", (1,))}))
        engine = gated.engine(Verdict((shape,), 8))
        first = await busy(gated, engine)
        calls = [Call(1, wanted=("double",)), Call(2, wanted=("double",)), Call(3), Call(4), Call(5, bias=1),
                 Call(6, wanted=("double",), width=2), Call(7, wanted=("double",), width=2)]  # fmt: skip
        tasks = [asyncio.ensure_future(answer(engine, call)) for call in calls]
        await asyncio.sleep(0)
        gated.open.set()
        await asyncio.gather(first, *tasks)
        assert gated.batches == [[100], [1, 2], [3], [4], [5], [6], [7]]

    asyncio.run(main())


@pytest.mark.parametrize("bad", [1, 2, 5])
def test_a_bad_request_in_a_batch_fails_alone_and_in_few_predictions(bad: int):
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        tasks = [asyncio.ensure_future(answer(engine, Call(-n if n == bad else n))) for n in range(8)]
        await asyncio.sleep(0)
        gated.open.set()
        await first
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(bad), PredictFailed)
        assert [each["double"] for each in answers] == [[[2 * n]] for n in range(8) if n != bad]
        assert len(gated.batches) == 1 + 1 + 2 * 3

    asyncio.run(main())


def test_a_model_that_loses_a_row_is_batched_no_more_and_everybody_gets_the_right_answer():
    def shrinking(arrays: Any, wanted: Any) -> Any:
        running.release()
        assert go.wait(20)
        return {"label": arrays["X"][: max(1, len(arrays["X"]) - 1), 0].astype(np.int64)}

    running, go = threading.Semaphore(0), threading.Event()

    async def main() -> None:
        shrinks = model(shrinking, outputs=(TensorSpec("label", "INT64", (-1,)),), threadsafe=False)
        engine = app_of(shrinks, warm=False).model.engine
        engine.batches.allow(Verdict((Shape(frozenset({"X"}), frozenset({"label"}), None),), 8))

        class Iris(Call):
            def decode(self) -> Request:
                return Request({"X": np.repeat(self._inputs["x"], 4, axis=1)}, ("label",))

        tasks = [asyncio.ensure_future(answer(engine, Iris(n))) for n in range(4)]
        await asyncio.to_thread(running.acquire)
        go.set()
        assert [each["label"] for each in await asyncio.gather(*tasks)] == [[0], [1], [2], [3]]
        assert engine.batches.shapes == ()

    asyncio.run(main())


def test_a_client_that_leaves_a_waiting_batch_frees_its_place():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        tasks = [asyncio.ensure_future(answer(engine, Call(n))) for n in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(tasks[3], return_exceptions=True)
        await asyncio.sleep(0)
        assert engine.in_flight == 8
        late = asyncio.ensure_future(answer(engine, Call(8)))
        await asyncio.sleep(0)
        gated.open.set()
        await asyncio.gather(first, late, *tasks[:3], *tasks[4:])
        assert gated.batches == [[100], [0, 1, 2, 4, 5, 6, 7, 8]]

    asyncio.run(main())


def test_a_batch_that_all_have_left_is_never_predicted():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        tasks = [asyncio.ensure_future(answer(engine, Call(n))) for n in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert engine.in_flight == 1
        last = asyncio.ensure_future(answer(engine, Call(9)))
        await asyncio.sleep(0)
        gated.open.set()
        await asyncio.gather(first, last)
        assert gated.batches == [[100], [9]]
        assert engine._predicting.jobs == 0

    asyncio.run(main())


def test_a_deadline_that_passes_in_a_waiting_batch_is_that_requests_own():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        short, long = (asyncio.ensure_future(answer(engine, Call(1, seconds=s))) for s in (0.02, 30.0))
        with pytest.raises(DeadlinePassed, match=r"no answer within 0.02 s"):
            await short
        assert engine.late_since == 0.0
        gated.open.set()
        assert (await long)["double"] == [[2]]
        await first
        assert gated.batches == [[100], [1]]

    asyncio.run(main())


def test_a_running_batch_is_interrupted_when_nobody_waits_for_it_any_more():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine(interrupt=gated.interrupt)
        began, first = perf_counter(), await busy(gated, engine)
        gated.open.set()
        await first
        gated.open.clear()
        tasks = [asyncio.ensure_future(answer(engine, Call(n, seconds=s))) for n, s in ((1, 0.02), (2, 0.1))]
        with pytest.raises(DeadlinePassed):
            await tasks[0]
        assert not gated.interrupted
        assert engine.late_since > 0
        with pytest.raises(DeadlinePassed):
            await tasks[1]
        assert gated.interrupted
        while engine.in_flight:  # noqa: ASYNC110 - a permit is a count
            await asyncio.sleep(0.001)
        assert engine.late_since == 0.0
        assert perf_counter() - began < 15
        assert gated.batches == [[100], [1, 2]]

    asyncio.run(main())


def test_a_delay_lets_others_join_an_idle_model_and_a_full_batch_does_not_wait():
    async def main() -> None:
        gated = Gated()
        gated.open.set()
        engine = gated.engine(ALL._replace(delay_seconds=0.05))
        await asyncio.gather(*(answer(engine, Call(n)) for n in range(3)))
        assert gated.batches == [[0, 1, 2]]
        engine.batches.delay_seconds = 1000.0
        await asyncio.gather(*(answer(engine, Call(n)) for n in range(8)))
        assert gated.batches[1:] == [[0, 1, 2, 3, 4, 5, 6, 7]]
        alone = asyncio.ensure_future(answer(engine, Call(9)))
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        await asyncio.sleep(0)
        assert (engine.in_flight, engine.batches._waiting) == (0, {})

    asyncio.run(main())


def test_rows_and_bytes_of_what_waits_are_bounded_but_never_those_of_one_alone():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine(limits=Limits(in_flight_rows=3, in_flight_bytes=21))
        large = Call(*range(5))
        large.body_bytes = 20
        first = asyncio.ensure_future(answer(engine, large))
        await asyncio.to_thread(gated.running.acquire)
        with pytest.raises(Overloaded, match="overloaded: 1 rows beside 5 in flight, at most 3; try again"):
            await answer(engine, Call(1))
        with pytest.raises(Overloaded, match="overloaded: 4 rows beside 5 in flight, at most 3; send fewer at once"):
            await answer(engine, Call(*range(4)))
        another = Call(1)
        another.body_bytes = 2
        with pytest.raises(Overloaded, match="overloaded: 2 bytes beside 20 in flight, at most 21; try again"):
            await answer(engine, another)
        gated.open.set()
        await first
        await answer(engine, another)
        assert (engine.in_flight, engine.rows.taken, engine.bytes.taken) == (0, 0, 0)

    asyncio.run(main())


def test_small_requests_have_room_beside_large_ones():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine(limits=Limits(in_flight_rows=128))
        running = asyncio.ensure_future(answer(engine, Call(*range(200))))
        await asyncio.to_thread(gated.running.acquire)
        small = [asyncio.ensure_future(answer(engine, Call(1, 2))) for _ in range(9)]
        with pytest.raises(Overloaded, match="overloaded: 2 rows beside 216 in flight, at most 128; try again"):
            await small.pop()
        with pytest.raises(Overloaded, match="overloaded: 3 rows beside 216 in flight, at most 128; try again"):
            await answer(engine, Call(1, 2, 3))
        gated.open.set()
        await asyncio.gather(running, *small)
        assert (engine.in_flight, engine.rows.taken) == (0, 0)
        await asyncio.gather(*(answer(engine, Call(1, 2)) for _ in range(64)))

    asyncio.run(main())


def test_predictions_are_counted_with_their_rows():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        slot = engine._meter.slot
        first = await busy(gated, engine)
        tasks = [asyncio.ensure_future(answer(engine, Call(*range(n)))) for n in (1, 2, 9)]
        await asyncio.sleep(0)
        gated.open.set()
        await asyncio.gather(first, *tasks)
        totals = Totals.of([slot])
        assert [(rows, count) for rows, count, _ in totals.batches] == [(1, 1), (3, 1), (9, 1)]
        assert all(seconds > 0 for *_, seconds in totals.batches)

    asyncio.run(main())


def test_the_arrays_of_a_batch_wait_for_no_garbage_collector():
    async def main() -> None:
        gated = Gated()
        engine = gated.engine()
        first = await busy(gated, engine)
        calls = [Call(n) for n in range(4)]
        released = [asyncio.Event() for _ in calls]
        loop = asyncio.get_running_loop()
        for call, event in zip(calls, released, strict=True):
            weakref.finalize(call._inputs["x"], loop.call_soon_threadsafe, event.set)
        tasks = [asyncio.ensure_future(answer(engine, call)) for call in calls]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gated.open.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)
        calls.clear()
        tasks.clear()
        del call
        async with asyncio.timeout(20):
            await asyncio.gather(*(event.wait() for event in released))

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_batches_return_to_the_event_loop_after_one_held_it_for_long():
    """Where requests always come together, none is ever alone in a thread to show that it is short."""

    async def main() -> None:
        gated, here = Gated(), threading.get_ident()
        gated.open.set()
        predict, threads = gated.predict, list[int]()

        def hiccup(arrays: Any, wanted: Any) -> Any:
            threads.append(threading.get_ident())
            if len(threads) == 5:
                sleep(0.15)
            return predict(arrays, wanted)

        gated.predict = hiccup  # type: ignore[method-assign]
        engine = gated.engine(limits=Limits(inline_seconds=0.01, alone_seconds=0.1))
        engine._costs.seed(8, 0.01)
        while len(threads) < 60 and here not in threads[6:]:
            await asyncio.gather(*(answer(engine, Call(value)) for value in range(4)))
        assert threads[4] == here
        assert threads[5] != here
        assert threads[-1] == here

    asyncio.run(main())
