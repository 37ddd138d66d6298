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

_PAUSE_SECONDS, _PATIENCE = 0.01, 20
"""Between two steps: the least pause, and how many pauses requests may ask for."""

Predict = Callable[[Request], Arrays]
Step = Ran | Verdict


async def run(trial: Trial, predict: Predict, in_thread: Callable[[Callable[[], Step]], Awaitable[Step]],
              busy: Callable[[], bool]) -> Verdict:  # fmt: skip
    """Returns what the trial shows. `in_thread` does a step where the model runs, and raises DeadlinePassed if that
    takes too long; while requests make the model `busy`, the trial waits a little."""
    step: Step | None = None
    while not isinstance(step, Verdict):
        for _ in range(_PATIENCE):
            await asyncio.sleep(_PAUSE_SECONDS)
            if not busy():
                break
        try:
            step = await in_thread(partial(_next, trial, step, predict))
        except DeadlinePassed as error:
            return Verdict(reason=f"the model is stuck on a row that it was tried on: {error}")
    return step


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
