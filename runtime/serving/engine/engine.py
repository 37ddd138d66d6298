"""Runs calls on one model: permits, the deadline, and the choice between the event loop and a thread.

A call gets a permit or is refused at once. A model that is known to be cheap for inputs of that size runs on the event
loop, and the answer is a value; any other runs in a thread, and the answer is an awaitable. A call that outlives its
deadline is answered with that, interrupted where the framework can, and keeps its permit until it ends.
"""

import asyncio
from collections.abc import Awaitable
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

from adapters.base import Model, WrongInput
from adapters.values import Arrays
from adapters.wording import is_ctrl_c
from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, PredictFailed, private
from runtime.link.limits import Limits
from runtime.serving.engine.costs import Costs
from runtime.serving.engine.request import Request, Signature
from runtime.serving.engine.threads import Job, Lane, Watch

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_SERIAL = 3
"""Models that are not thread-safe usually hold the GIL, so a thread would only add switching cost (0.3 ms). They may
run on the event loop up to 3 times as long as others."""


class Call(Protocol[T_co]):
    """One request, as far as the engine needs to know it: how to read it, how to answer it, and its account."""

    arrived: float
    """`perf_counter()` when the request was whole: the deadline counts from here."""
    body_bytes: int
    deadline_seconds: float
    """Its deadline after that; 0: none. The request may have an earlier one: `decode` writes it here."""
    queued: float
    """Seconds that it waited for threads; written by the engine."""
    computed: float
    """Seconds that the model and the encoding took; written by the engine."""

    @property
    def light(self) -> bool:
        """Whether even a long body is decoded in microseconds."""

    def decode(self) -> Request:
        """Returns the request. Called once, in a thread if the body is long and not light."""

    def encode(self, request: Request, outputs: Arrays, /) -> T_co:
        """Returns the answer. Called once, in the thread where the model ran."""


class Engine:
    """Runs calls on `model`. Everything but `predict` and `learn` is called on the event loop's thread."""

    def __init__(self, model: Model, signature: Signature, limits: Limits, name: str) -> None:
        self._model, self._outputs, self._limits = model, signature.outputs, limits
        self.in_flight = 0
        """Permits taken by calls off the loop."""
        self._late: dict[Job[Any], float] = {}
        self._costs = Costs(limits.inline_seconds * (1 if model.threadsafe else _SERIAL))
        self._predicting = Lane(f"predict-{name}", limits.threads if model.threadsafe else 1)
        self._decoding = Lane(f"decode-{name}", 1)
        self._watch = Watch(model.interrupt, limits.deadline_seconds)

    def run(self, call: Call[T], *, aside: bool = False) -> T | Awaitable[T]:
        """Returns the answer of `call`: a value if it was decoded and computed on the loop, else an awaitable of it.
        With `aside` it is decoded in a thread, however short its body is.

        Raises (also when awaited) what decoding and encoding raise, Overloaded, DeadlinePassed, PredictFailed, and
        InvalidInput for what only the model could find wrong.
        """
        if self.in_flight >= (most := self._limits.in_flight):
            raise Overloaded(f"overloaded: {self.in_flight} requests in flight, at most {most}; try again")
        if aside or (call.body_bytes > self._limits.inline_body_bytes and not call.light):
            job = self._job(call)
            job.step(self._decoding, call.decode, partial(self._decoded, job, call))
            return job.answer
        request = call.decode()
        size = _size(request.inputs)
        if self._may_hold_loop(size):
            return self._on_loop(call, request, size)
        return self._in_thread(self._job(call), call, request, size)

    def predict(self, request: Request) -> Arrays:
        """Returns the model's outputs, computed in the thread that calls.

        Raises PredictFailed if the model raises or gives something else than its signature says, InvalidInput for what
        only the model could find wrong.
        """
        if not (self._model.takes_nothing or all(array.size for array in request.inputs.values())):
            return self._of_nothing(request)
        try:
            outputs = self._model.predict(request.inputs, request.wanted)
        except WrongInput as error:
            raise InvalidInput(private(str(error))) from error
        except BaseException as error:  # SystemExit and CancelledError of a model are answered like any failure
            if is_ctrl_c(error):
                raise
            raise PredictFailed("the model raised") from error
        for name in request.wanted:
            array = outputs.get(name)
            if array is None:
                raise PredictFailed(f"the model did not return its output {name!r}")
            if array.dtype != (wanted := self._outputs[name]):
                raise PredictFailed(f"the model returned output {name!r} as {array.dtype}, its signature says {wanted}")
        return outputs

    def learn(self, request: Request, seconds: float) -> None:
        """Notes what a request like this one takes, before the first call."""
        self._costs.seed(_size(request.inputs), seconds)

    def close(self) -> None:
        """Lets go of the threads, waiting for none."""
        for part in (self._predicting, self._decoding, self._watch):
            part.close()

    def _may_hold_loop(self, size: int) -> bool:
        return self._costs.cheap(size) and (self._model.threadsafe or not self._predicting.jobs)

    def _on_loop(self, call: Call[T], request: Request, size: int) -> T:
        started = perf_counter()
        self._watch.begun(call.arrived)
        try:
            answer = call.encode(request, self.predict(request))
        except PredictFailed:
            if 0 < call.deadline_seconds < perf_counter() - call.arrived:
                raise too_late(call.deadline_seconds) from None
            raise
        finally:
            self._watch.since = 0.0
        ended = perf_counter()
        call.computed = ended - started
        self._costs.ran_inline(size, call.computed)
        if 0 < call.deadline_seconds < ended - call.arrived:
            raise too_late(call.deadline_seconds)
        return answer

    def _in_thread(self, job: Job[T], call: Call[T], request: Request, size: int) -> Awaitable[T]:
        job.step(self._predicting, partial(self._timed, job, call, request, size), job.finish)
        return job.answer

    def _timed(self, job: Job[T], call: Call[T], request: Request, size: int) -> T:
        started = perf_counter()
        answer = call.encode(request, self.predict(request))
        call.queued, call.computed = job.queued, perf_counter() - started
        self._costs.ran_in_thread(size, call.computed)
        return answer

    def _decoded(self, job: Job[T], call: Call[T], request: Request) -> None:
        size = _size(request.inputs)
        call.queued = job.queued
        if request.deadline_seconds:
            self._limit(job, call)
        if self._may_hold_loop(size):
            job.finish(self._on_loop(call, request, size))
        else:
            self._in_thread(job, call, request, size)

    def _job(self, call: Call[T]) -> Job[T]:
        loop = asyncio.get_running_loop()
        job: Job[T] = Job(loop, self._end)
        self.in_flight += 1
        if call.deadline_seconds:
            self._limit(job, call)
        return job

    def _limit(self, job: Job[T], call: Call[T]) -> None:
        seconds = call.deadline_seconds
        left = max(0.0, call.arrived + seconds - perf_counter())
        timer = asyncio.get_running_loop().call_later(left, self._expire, job, seconds)
        job.answer.add_done_callback(lambda _: timer.cancel())

    def _end(self) -> None:
        self.in_flight -= 1

    def _expire(self, job: Job[Any], seconds: float) -> None:
        if not job.answer.done():
            self._late[job] = monotonic()
            job.answer.set_exception(too_late(seconds))
            job.give_up(self._model.interrupt)

    @property
    def late_since(self) -> float:
        """When the oldest call that still runs though its deadline has passed was answered, on the clock of
        `monotonic`; 0: there is none. A model that goes on for long is stuck."""
        self._late = {job: since for job, since in self._late.items() if job.runs}
        return min(self._late.values(), default=0.0)

    def _of_nothing(self, request: Request) -> Arrays:
        """Returns the outputs for no rows; frameworks abort the process for some of these. Raises InvalidInput."""
        shapes = {spec.name: spec.shape[1:] for spec in self._model.outputs if spec.shape[:1] == (-1,)}
        tell = all(-1 not in shapes.get(name, (-1,)) for name in request.wanted)
        if not (self._model.batch and tell and all(array.shape[:1] == (0,) for array in request.inputs.values())):
            raise InvalidInput("an input has no elements; this model takes at least one row")
        return {name: np.empty((0, *shapes[name]), self._outputs[name]) for name in request.wanted}


def too_late(seconds: float) -> DeadlinePassed:
    """Returns what a client is told whose request took longer than its deadline."""
    return DeadlinePassed(f"deadline exceeded: no answer within {seconds:g} s")


def _size(inputs: Arrays) -> int:
    """Returns the bit length of the inputs' bytes; of strings, only the pointers count."""
    count = 0
    for array in inputs.values():
        count += array.nbytes
    return count.bit_length()
