"""Runs calls on one model: permits, the deadline, and the choice between the event loop, a thread and a batch.

A call gets a permit or is refused at once. A model that is known to be cheap for inputs of that size runs on the event
loop at once, and the answer is a value; any other runs later, in a thread or in a batch where that has been shown to be
right, as a job. A call that outlives its deadline is answered with that, interrupted where the
framework can, and keeps its permit until it ends.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic, perf_counter
from typing import Any, TypeVar

import numpy as np

from adapters.base import Model, WrongInput
from adapters.values import Arrays
from adapters.wording import is_ctrl_c
from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, PredictFailed, private
from runtime.link.limits import Limits
from runtime.link.meter import Meter
from runtime.serving.engine import trial_run
from runtime.serving.engine.arrivals import Arrivals
from runtime.serving.engine.batches import Batch, Batches, Verdict
from runtime.serving.engine.call import Call, too_late
from runtime.serving.engine.costs import Costs
from runtime.serving.engine.deadlines import Deadlines
from runtime.serving.engine.pace import Pace
from runtime.serving.engine.request import Request, Signature
from runtime.serving.engine.room import Room
from runtime.serving.engine.threads import Job, Lane, Watch
from runtime.serving.engine.trial import Trial

T = TypeVar("T")
S = TypeVar("S")
_SERIAL = 3
"""Models that are not thread-safe usually hold the GIL, so a thread would only add switching cost (0.3 ms). They may
run on the event loop up to 3 times as long as others."""
_STUCK_SECONDS = 30.0
"""The deadline of a step of a trial."""


class Engine:
    """Runs calls on `model`. Everything but `predict` and `learn` is called on the event loop's thread."""

    def __init__(self, model: Model, signature: Signature, limits: Limits, name: str, meter: Meter) -> None:
        self._model, self._outputs, self._limits, self._meter = model, signature.outputs, limits, meter
        self.in_flight = 0
        """Permits taken by calls off the loop."""
        self.rows, self.bytes = Room(limits.in_flight_rows), Room(limits.in_flight_bytes)
        self._deadlines: Deadlines[Job[Any]] = Deadlines(self._expire)
        self._late: dict[Job[Any], float] = {}
        self.verdict: Verdict | None = None
        """What the trial of batching has shown; None while it runs, or if there is none."""
        inline = limits.inline_seconds * (1 if model.threadsafe else _SERIAL) * model.steady
        self._costs = Costs(inline, limits.alone_seconds if inline else 0.0)
        threads = limits.threads if model.threadsafe else 1
        self._arrivals, self._pace = Arrivals(), Pace(threads)
        self._predicting, self._decoding = Lane(f"predict-{name}", threads), Lane(f"decode-{name}", 1)
        self.batches = Batches(self._predicting, self.predict, model.interrupt, meter, self._note_batch, self._hold)
        meter.set("runtime_running_limit", threads)
        self._watch = Watch(model.interrupt, limits.deadline_seconds)

    def run(self, call: Call[T], *, aside: bool = False) -> T | Job[T]:
        """Returns the answer of `call`: a value if it was decoded and computed at once, else a job that is awaited.
        With `aside` it is decoded in a thread, however short its body is.

        Raises (also when awaited) what decoding and encoding raise, Overloaded, DeadlinePassed, PredictFailed, and
        InvalidInput for what only the model could find wrong.
        """
        if self.in_flight >= (most := self._limits.in_flight):
            raise Overloaded(f"overloaded: {self.in_flight} requests in flight, at most {most}; try again")
        if aside or (call.body_bytes > self._limits.inline_body_bytes and not call.light):
            job = self._job(call)
            self._note_in_flight()
            job.step(self._decoding, partial(self._running, call.decode), partial(self._decoded, job, call))
            return job
        request = call.decode()
        size = _size(request.inputs)
        if self._costs.cheap(size) and self._has_model():
            return self._on_loop(call, request, size)
        joins = self.batches.takes(request)
        if self._may_hold_loop(size):
            if not (joins and self._arrivals.together()):
                return self._on_loop(call, request, size)
        elif self._is_alone() and self._costs.bearable(size):
            self._arrivals.note()
            return self._on_loop(call, request, size, alone=True)
        job = self._job(call)
        self._queue(job, call, request, size, joins)
        return job

    def predict(self, request: Request) -> Arrays:
        """Returns the model's outputs, computed in the thread that calls.

        Raises PredictFailed if the model raises or gives something else than its signature says, InvalidInput for what
        only the model could find wrong.
        """
        model, inputs = self._model, request.inputs
        if not model.takes_nothing:
            for given in inputs.values():
                if not given.size:
                    return self._of_nothing(request)
        try:
            outputs = model.predict(inputs, request.wanted)
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

    def break_off(self) -> None:
        """Raises DeadlinePassed if a call holds the event loop past its deadline. For a signal handler."""
        if self._watch.until < perf_counter():
            raise DeadlinePassed("deadline exceeded")

    def close(self) -> None:
        """Lets go of the threads, waiting for none."""
        for part in (self._predicting, self._decoding, self._watch):
            part.close()

    def _may_hold_loop(self, size: int) -> bool:
        return self._costs.short(size) and self._has_model()

    def _is_alone(self) -> bool:
        return self._arrivals.alone(busy=self.in_flight > 0) and not self._predicting.jobs

    def _has_model(self) -> bool:
        """Returns True unless a thread has the model, and it takes one call at a time."""
        return self._model.threadsafe or not self._predicting.jobs

    def _on_loop(self, call: Call[T], request: Request, size: int, *, alone: bool = False) -> T:
        started, until = perf_counter(), call.arrived + (call.deadline_seconds or inf)
        if started > until:
            raise too_late(call.deadline_seconds)
        self._watch.begun(until)
        try:
            outputs = self.predict(request)
            predicted = perf_counter()
            answer = call.encode(request, outputs)
        except (PredictFailed, DeadlinePassed):
            if (ended := perf_counter()) > until:
                self._costs.ran_alone(size, ended - started)
                raise too_late(call.deadline_seconds) from None
            raise
        finally:
            self._watch.until = inf
        ended = perf_counter()
        call.started, call.computed, call.encoded = started, predicted - started, ended - predicted
        if alone:
            self._costs.ran_alone(size, ended - started)
        else:
            self._costs.ran_inline(size, ended - started)
        if ended > until:
            raise too_late(call.deadline_seconds)
        return answer

    def _queue(self, job: Job[T], call: Call[T], request: Request, size: int, joins: int) -> None:
        rows, room = request.rows, self.rows
        if not room.take(rows):
            job.fail(_no_room(room, rows, "rows"))
            return
        job.rows = rows
        self._note_in_flight()
        if joins:
            self.batches.add(job, call, request, joins, short=self._costs.short(size))
        else:
            work = partial(self._running, partial(self._timed, job, call, request, size))
            job.step(self._predicting, work, partial(self._finish, job, call, rows))

    def _running(self, work: Callable[[], S]) -> S:
        """Does one request's work in a thread."""
        self._meter.running(1)
        try:
            return work()
        finally:
            self._meter.running(-1)

    def _finish(self, job: Job[T], call: Call[T], rows: int, answer: T) -> None:
        self._meter.ran(rows, call.computed)
        job.finish(answer)

    def _hold(self, batch: Batch) -> bool:
        """Runs a batch on the loop. Returns False if a thread has to."""
        if not self._has_model():
            return False
        started = perf_counter()
        self._watch.begun(batch.until)
        try:
            batch.run()
        finally:
            self._watch.until = inf
            self._costs.held_loop(_size(batch.first.inputs), perf_counter() - started)
        return True

    def _note_batch(self, request: Request, seconds: float, members: int) -> None:
        note = self._costs.ran_in_thread if members == 1 else self._costs.ran_joined
        note(_size(request.inputs), seconds)

    def _timed(self, job: Job[T], call: Call[T], request: Request, size: int) -> T:
        started = perf_counter()
        outputs = self.predict(request)
        predicted = perf_counter()
        answer = call.encode(request, outputs)
        ended, call.queued, call.started = perf_counter(), job.queued, started
        call.computed, call.encoded = predicted - started, ended - predicted
        self._costs.ran_in_thread(size, ended - started)
        return answer

    def _decoded(self, job: Job[T], call: Call[T], request: Request) -> None:
        if request.deadline_seconds:
            self._expire_at_deadline(job, call)
        size = _size(request.inputs)
        call.queued, joins = job.queued, self.batches.takes(request)
        if self._may_hold_loop(size) and not joins:
            self._finish(job, call, request.rows, self._on_loop(call, request, size))
        else:
            self._queue(job, call, request, size, joins)

    def _job(self, call: Call[T]) -> Job[T]:
        if not self.in_flight:
            self._pace.begins()
        elif 0 < (longest := self._limits.deadline_seconds) < (seconds := self._pace.seconds_for(self.in_flight)):
            wait = f"{self.in_flight} requests in flight, which take {seconds:.2g} s"
            raise Overloaded(f"overloaded: {wait}, and none may wait longer than {longest:g} s; try again")
        room = self.bytes
        if not room.take(call.body_bytes):
            raise _no_room(room, call.body_bytes, "bytes")
        job: Job[T] = Job(asyncio.get_running_loop(), self._end, self._model.interrupt)
        job.bytes = call.body_bytes
        self.in_flight += 1
        self._expire_at_deadline(job, call)
        return job

    def _expire_at_deadline(self, job: Job[T], call: Call[T]) -> None:
        if seconds := call.deadline_seconds:
            self._deadlines.set(job, call.arrived + seconds, seconds)

    def _end(self, job: Job[Any]) -> None:
        self._pace.ended()
        self.in_flight -= 1
        self.rows.free(job.rows)
        self.bytes.free(job.bytes)
        self._note_in_flight()
        self._forget(job)

    def _note_in_flight(self) -> None:
        self._meter.in_flight(self.in_flight, self.rows.taken, self.bytes.taken)

    def _forget(self, job: Job[Any]) -> None:
        self._deadlines.forget(job)
        self._late.pop(job, None)

    def _expire(self, job: Job[Any], seconds: float) -> None:
        self._late[job] = monotonic()
        if not job.answer.done():  # its client has not left
            job.answer.set_exception(too_late(seconds))
        job.give_up()

    @property
    def late_since(self) -> float:
        """When the oldest call that still runs though its deadline has passed was answered, on the clock of
        `monotonic`; 0: there is none. A model that goes on for long is stuck."""
        return min(self._late.values(), default=0.0)

    async def try_batching(self, trial: Trial) -> Verdict:
        """Tries in the background whether the model may be batched, and batches from then on if it may."""
        verdict = await trial_run.run(trial, self.predict, self._try_in_thread, lambda: self.in_flight > 0)
        self.verdict = verdict
        self.allow(verdict)
        return verdict

    def allow(self, verdict: Verdict) -> None:
        """Has the requests that a trial has shown to be fit joined from now on."""
        self.batches.allow(verdict)
        if verdict.shapes:
            self._costs.may_join()

    def _try_in_thread(self, work: Callable[[], T]) -> Job[T]:
        job: Job[T] = Job(asyncio.get_running_loop(), self._forget, self._model.interrupt)
        self._deadlines.set(job, perf_counter() + _STUCK_SECONDS, _STUCK_SECONDS)
        job.step(self._predicting, work, job.finish)
        return job

    def _of_nothing(self, request: Request) -> Arrays:
        """Returns the outputs for no rows; frameworks abort the process for some of these. Raises InvalidInput."""
        shapes = {spec.name: spec.shape[1:] for spec in self._model.outputs if spec.shape[:1] == (-1,)}
        tell = all(-1 not in shapes.get(name, (-1,)) for name in request.wanted)
        if not (self._model.batch and tell and all(array.shape[:1] == (0,) for array in request.inputs.values())):
            raise InvalidInput("an input has no elements; this model takes at least one row")
        return {name: np.empty((0, *shapes[name]), self._outputs[name]) for name in request.wanted}


def _size(inputs: Arrays) -> int:
    """Returns the bit length of the inputs' bytes; of strings, only the pointers count."""
    count = 0
    for array in inputs.values():
        count += array.nbytes
    return count.bit_length()


def _no_room(room: Room, size: int, what: str) -> Overloaded:
    advice = "send fewer at once" if size > room.most else "try again"  # alone it would be let in, and seldom is
    return Overloaded(f"overloaded: {size} {what} beside {room.taken} in flight, at most {room.most}; {advice}")
