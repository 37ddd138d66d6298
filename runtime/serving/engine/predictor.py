"""One model and everything around its `predict`: permits, deadline, the choice between loop and thread.

A request gets a permit or is refused at once. Where the model is known to be cheap for inputs of that size it runs
right there, on the event loop, and the answer is a value; else it runs in a thread and the answer is an awaitable. A
call that outlives its deadline is answered with that, interrupted where the framework can, and keeps its permit until
it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from adapters.base import WrongInput
from runtime.errors import DeadlinePassed, InvalidInput, Overloaded, PredictFailed
from runtime.serving.engine.costs import Costs
from runtime.serving.engine.threads import Job, Lane, Watch
from runtime.serving.protocol.example import advice, example_request
from runtime.serving.protocol.v2.decode import Request, Signature, decode
from runtime.serving.protocol.v2.encode import Form, encode
from runtime.serving.statuses import JSON

if TYPE_CHECKING:
    from adapters.base import Arrays, Model
    from runtime.link.metrics import Meter
    from runtime.serving.engine.limits import Limits
    from runtime.serving.journal import Log
    from runtime.serving.provenance import Provenance

T = TypeVar("T")
_SERIAL = 3
"""A model that takes one call at a time may hold the loop so much longer: most such hold the interpreter, and then a
thread gains nothing but the cost of changing between the two, a third of a millisecond a request."""
_WARM_UPS = 5
_WARM_UP_SECONDS = 0.5


class Predictor:
    """A served model. Everything but `warm_up` and `rehearse` is called on the event loop's thread."""

    def __init__(self, model: Model, provenance: Provenance, limits: Limits, meter: Meter, log: Log) -> None:
        self.model, self.provenance, self.limits, self.meter, self.log = model, provenance, limits, meter, log
        self.signature = Signature.of(model)
        self.form = Form.of(model, provenance.name, provenance.version)
        self.headers = provenance.headers()
        self.ok_headers = (JSON, *self.headers)
        self.advice = advice(model, provenance.name)
        self.in_flight = 0
        self._threaded = 0
        self._costs = Costs(limits.inline_seconds * (1 if model.threadsafe else _SERIAL))
        self._lane = Lane(f"predict-{provenance.name}", limits.threads if model.threadsafe else 1)
        self._parsing = Lane(f"parse-{provenance.name}", 1)
        self._watch = Watch(model.interrupt, limits.deadline_seconds)

    def predict(self, request: Request, finish: Callable[[Arrays], T]) -> T | Awaitable[T]:
        """`finish` of the model's outputs: a value if the model is cheap for these inputs, else an awaitable of it.

        `finish` runs where the model ran. Raises (also when awaited) Overloaded, DeadlinePassed, PredictFailed, and
        InvalidInput for what only the model could find wrong.
        """
        self._admit()
        size = _size(request.inputs)
        if self._costs.cheap(size) and (self.model.threadsafe or not self._threaded):
            return self._inline(request, finish, size)
        self.in_flight += 1
        self._threaded += 1
        work = partial(self._timed, request, finish, size)
        return self._off_loop(self._lane, work, self._end_threaded)

    def parse(self, work: Callable[[], T]) -> Awaitable[T]:
        """`work`, the parsing of a large body, in a thread of its own, under a permit."""
        self._admit()
        self.in_flight += 1
        return self._off_loop(self._parsing, work, self._end_parsing)

    def rehearse(self, body: bytes) -> bytes:
        """The answer to a request, in no account of any kind; raises what decoding and the model raise.

        For the thread that loads the model, before the first request.
        """
        request = decode(body, self.signature, self.limits)
        return encode(self.form, "rehearsal", request.wanted, self._call(request))

    def warm_up(self, body: bytes | None = None) -> None:
        """Predicts `body`, or the signature's example, a few times and notes what it took; as `rehearse` else."""
        request = decode(body or orjson.dumps(example_request(self.model)), self.signature, self.limits)
        began, least = perf_counter(), float("inf")
        for _ in range(_WARM_UPS):
            started = perf_counter()
            encode(self.form, "warm-up", request.wanted, self._call(request))
            least = min(least, perf_counter() - started)
            if perf_counter() - began > _WARM_UP_SECONDS:
                break
        self._costs.seed(_size(request.inputs), least)

    def close(self) -> None:
        """Lets go of the threads, waiting for none."""
        for part in (self._lane, self._parsing, self._watch):
            part.close()

    def _admit(self) -> None:
        if self.in_flight >= self.limits.in_flight:
            raise Overloaded(
                f"overloaded: {self.in_flight} requests in flight, at most {self.limits.in_flight}; try again"
            )

    def _end_threaded(self) -> None:
        self.in_flight -= 1
        self._threaded -= 1

    def _end_parsing(self) -> None:
        self.in_flight -= 1

    def _call(self, request: Request) -> Arrays:
        try:
            return self.model.predict(request.inputs, request.wanted)
        except WrongInput as error:
            raise InvalidInput(str(error)) from error
        except (Exception, SystemExit) as error:  # a model that asks the process to end is answered like any failure
            raise PredictFailed("the model raised") from error

    def _inline(self, request: Request, finish: Callable[[Arrays], T], size: int) -> T:
        started = perf_counter()
        self._watch.begun(started)
        try:
            answer = finish(self._call(request))
        except PredictFailed:
            if perf_counter() - started > self.limits.deadline_seconds:
                raise self._too_late() from None
            raise
        finally:
            self._watch.ended()
        self._costs.ran_inline(size, perf_counter() - started)
        return answer

    def _timed(self, request: Request, finish: Callable[[Arrays], T], size: int) -> T:
        started = perf_counter()
        answer = finish(self._call(request))
        self._costs.ran_in_thread(size, perf_counter() - started)
        return answer

    def _too_late(self) -> DeadlinePassed:
        return DeadlinePassed(f"deadline exceeded: no answer within {self.limits.deadline_seconds:g} s")

    def _off_loop(self, lane: Lane, work: Callable[[], T], ended: Callable[[], None]) -> Awaitable[T]:
        loop = asyncio.get_running_loop()
        job = Job(loop, work, ended)
        timer = loop.call_later(self.limits.deadline_seconds, self._expire, job)

        def over(answer: asyncio.Future[T]) -> None:
            timer.cancel()
            if answer.cancelled():  # nobody waits: if it has not begun it never will, and its permit is free
                job.give_up(None)

        job.answer.add_done_callback(over)
        lane.submit(job.run)
        return job.answer

    def _expire(self, job: Job[Any]) -> None:
        if not job.answer.done():
            job.answer.set_exception(self._too_late())
            job.give_up(self.model.interrupt)


def _size(inputs: Arrays) -> int:
    """Bit length of the inputs' bytes; of strings, which are elsewhere, only their pointers count."""
    count = 0
    for array in inputs.values():
        count += array.nbytes
    return count.bit_length()
