"""Runs a trial of batching, a step at a time, between the requests that come meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

import numpy as np

from adapters.values import Arrays
from adapters.wording import with_class
from runtime.errors import DeadlinePassed
from runtime.serving.engine.batches import Verdict
from runtime.serving.engine.request import Request
from runtime.serving.engine.trial import Ran, Trial

_PAUSE_SECONDS, _PATIENCE_SECONDS = 0.01, 0.2
"""Between two steps: the least pause, and the least time that a busy model is left alone."""
_SHARE = 100
"""A busy model is left alone this many times as long as the longest step took."""

Predict = Callable[[Request], Arrays]
Step = Ran | Verdict


async def run(trial: Trial, predict: Predict, in_thread: Callable[[Callable[[], Step]], Awaitable[Step]],
              busy: Callable[[], bool]) -> Verdict:  # fmt: skip
    """Returns what the trial shows. `in_thread` does a step where the model runs, and raises DeadlinePassed if that
    takes too long. While requests make the model `busy`, the trial takes at most a hundredth of the time."""
    step: Step | None = None
    longest = 0.0
    while not isinstance(step, Verdict):
        await _rest(busy, longest)
        try:
            step = await in_thread(partial(_next, trial, step, predict))
        except DeadlinePassed as error:
            return Verdict(reason=f"the model is stuck on a row that it was tried on: {error}")
        if isinstance(step, Ran):
            longest = max(longest, step.seconds)
    return step


async def _rest(busy: Callable[[], bool], seconds: float) -> None:
    """Leaves the model alone for a while, after steps that took up to `seconds`."""
    until = perf_counter() + max(_PATIENCE_SECONDS, _SHARE * seconds)
    await asyncio.sleep(max(_PAUSE_SECONDS, seconds))
    while busy() and perf_counter() < until:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(_PAUSE_SECONDS)


def _next(trial: Trial, ran: Ran | None, predict: Predict) -> Step:
    """Has the trial go on with what the last step gave; in a thread."""
    try:
        request = next(trial) if ran is None else trial.send(ran)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    except Exception as error:  # noqa: BLE001 - what the model answered makes no sense
        return Verdict(reason=f"its answers cannot be compared: {with_class(error)}")
    started, outputs = perf_counter(), None
    try:
        with np.errstate(all="ignore"):  # warnings about values that no client sent
            outputs = predict(request)
    except Exception:  # noqa: BLE001, S110 - a model may refuse what it is tried on
        pass
    return Ran(outputs, perf_counter() - started)
