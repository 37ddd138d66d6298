"""Batches: requests that wait for the model together are predicted together, and each gets its own rows of the answer.

A thread that is free begins a batch at once, with whatever is in it: an idle server never waits. While all threads are
busy, the batch that waits for one takes every request of its kind, up to the most rows. A batch of short requests runs
on the event loop, as soon as that has read what other clients sent. A batch that fails is halved until the request at
fault is alone.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from adapters.values import Array, Arrays
from runtime.errors import DeadlinePassed
from runtime.link.meter import Meter
from runtime.serving.engine.call import Call, too_late
from runtime.serving.engine.request import Request
from runtime.serving.engine.threads import Interrupt, Job, Lane

T = TypeVar("T")
_LOOK_EVERY = 32
"""Batches of short requests."""


class Shape(NamedTuple):
    """Requests that have been shown to give the same answers joined as alone."""

    inputs: frozenset[str]
    """The names of their inputs: all of these, and no others."""
    outputs: frozenset[str]
    """The outputs that they may want."""
    trailing: frozenset[tuple[str, tuple[int, ...]]] | None
    """Name and shape behind the first axis of each input; None: any."""

    def holds(self, request: Request) -> bool:
        """Returns True if `request` is one of them."""
        if self.inputs != request.inputs.keys() or not self.outputs.issuperset(request.wanted):
            return False
        return self.trailing is None or self.trailing.issuperset(
            (name, a.shape[1:]) for name, a in request.inputs.items()
        )


class Verdict(NamedTuple):
    """What a trial has shown. Without a shape the model is not batched, for that reason."""

    shapes: tuple[Shape, ...] = ()
    most_rows: int = 0
    delay_seconds: float = 0.0
    difference: float = 0.0
    reason: str = ""


class Member(Generic[T]):
    """One request's place in a batch."""

    __slots__ = ("call", "job", "joined", "outcome", "request", "rows")

    def __init__(self, job: Job[T], call: Call[T], request: Request, rows: int) -> None:
        self.job, self.call, self.request, self.rows, self.joined = job, call, request, rows, perf_counter()
        self.outcome: T | Exception | None = None

    @property
    def until(self) -> float:
        """Its deadline on the clock of `perf_counter`; inf if it has none."""
        return self.call.arrived + (self.call.deadline_seconds or inf)

    def expire(self) -> bool:
        """Returns True if its deadline has passed: that is its outcome then. On the event loop no timer says so."""
        late = perf_counter() > self.until
        if late:
            self.outcome = too_late(self.call.deadline_seconds)
        return late


class Batches:
    """The batches of one model. Everything but what is said to run in a thread is called on the event loop."""

    def __init__(self, lane: Lane, predict: Callable[[Request], Arrays], interrupt: Interrupt | None,
                 meter: Meter, ran: Callable[[Request, float, int], None],
                 hold: "Callable[[Batch], bool]") -> None:  # fmt: skip
        """`ran` is told what a batch in a thread took, with one of its requests and how many they were. `hold` runs a
        batch of short requests on the event loop; it returns False if a thread has to."""
        self._lane, self._predict, self.interrupt, self.meter, self.ran = lane, predict, interrupt, meter, ran
        self._hold = hold
        self.shapes: tuple[Shape, ...] = ()
        self.most_rows, self.delay_seconds = 0, 0.0
        self.crowded = False
        """Whether the last batch had several members. Then the next one begins when the event loop has read what other
        clients have sent by now; that makes batches larger by a third."""
        self._waiting: dict[Hashable, Batch] = {}
        self._short = 0

    def takes(self, request: Request) -> int:
        """Returns the rows of a request that may be in a batch; 0: it has to be predicted by itself."""
        if not self.shapes:
            return 0
        rows = _rows(request.inputs)
        return rows if rows < self.most_rows and any(shape.holds(request) for shape in self.shapes) else 0

    def add(self, job: Job[T], call: Call[T], request: Request, rows: int, *, short: bool = False) -> None:
        """Puts a request of `rows`, as `takes` says, into a batch with others that are as `short`."""
        kind = (short, request.wanted, *((name, a.dtype, a.shape[1:]) for name, a in request.inputs.items()))
        member = Member(job, call, request, rows)
        batch = self._waiting.get(kind)
        if batch is None or not batch.take(member):
            batch = self._waiting[kind] = Batch(self, kind, short=short)
            batch.take(member)
            batch.start(self.delay_seconds)

    def allow(self, verdict: Verdict) -> None:
        """Has the requests that a trial has shown to be fit joined from now on."""
        self.shapes, self.most_rows, self.delay_seconds = verdict.shapes, verdict.most_rows, verdict.delay_seconds

    def begin(self, batch: "Batch") -> None:
        """Predicts the batch: on the event loop, or in a thread, until whose beginning it still takes members."""
        if batch.lead.given_up:
            return
        try:
            if batch.short and self._hold(batch):
                batch.deliver()
            else:
                batch.lead.step(self._lane, batch.run, batch.lead.finish)
        except DeadlinePassed as error:  # of `Engine.break_off`, wherever the loop was
            batch.lead.fail(error)

    def looks_again(self) -> bool:
        """Notes a batch of short requests. Returns True for one of many: of that one a request is predicted by itself,
        which shows whether they gain from a batch, or only seemed to when the machine was busy."""
        self._short += 1
        return self._short % _LOOK_EVERY == 0

    def over(self, batch: "Batch") -> None:
        """Forgets a batch that takes no more members."""
        if self._waiting.get(batch.kind) is batch:
            del self._waiting[batch.kind]

    def give_up(self, batch: "Batch") -> None:
        """Ends a batch whose answers are not wanted any more."""
        self.over(batch)
        batch.lead.give_up()

    def predict(self, members: Sequence[Member[Any]]) -> list[Arrays]:
        """Returns the outputs of each member; in a thread. Raises what the model raises."""
        request = members[0].request
        if len(members) == 1:
            return [self._predict(request)]
        outputs = self._predict(joined([member.request for member in members]))
        parts = parted(outputs, request.wanted, [member.rows for member in members])
        if parts is None:  # not what it has been shown to do: never again
            self.shapes = ()
            raise ValueError("the model returned other rows than it was given")
        return parts


class Batch:
    """Requests that are predicted together, in one step of the job `lead`."""

    def __init__(self, batches: Batches, kind: Hashable, *, short: bool) -> None:
        self.kind, self.short, self._batches = kind, short, batches
        self.lead: Job[None] = Job(asyncio.get_running_loop(), lambda _: None, batches.interrupt)
        self.lead.answer.add_done_callback(lambda ended: self.deliver(ended.exception()))
        self._lock = threading.Lock()
        self._members: list[Member[Any]] = []
        self._rows, self._begun = 0, False
        self._timer: asyncio.TimerHandle | None = None
        self._predicted: list[tuple[int, float]] = []
        """The rows of each prediction that it took, and the seconds."""

    def take(self, member: Member[Any]) -> bool:
        """Takes a member, if there is room and no thread has begun."""
        with self._lock:
            if self._begun or self._rows + member.rows > self._batches.most_rows:
                return False
            self._members.append(member)
        self._rows += member.rows
        member.job.leave = partial(self._leave, member)
        if self._rows == self._batches.most_rows and self._timer is not None:
            self._begin()
        return True

    def start(self, delay_seconds: float) -> None:
        """Waits for a thread, after a delay in which further members may come."""
        if delay_seconds:
            self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._begin)
        elif self.short or self._batches.crowded:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._batches.begin, self)
        else:
            self._batches.begin(self)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._batches.begin(self)

    def _leave(self, member: Member[Any]) -> bool:
        with self._lock:
            begun = self._begun
            if not begun:
                self._members.remove(member)
        if not begun:
            self._rows -= member.rows
            member.job.leave = _cannot_leave
        if all(other.job.given_up for other in self._members):
            if self._timer is not None:
                self._timer.cancel()
            self._batches.give_up(self)
        return not begun

    @property
    def until(self) -> float:
        """The soonest deadline of its members, on the clock of `perf_counter`; inf if there is none."""
        return min(member.until for member in self._members)

    @property
    def first(self) -> Request:
        """The request that began it."""
        return self._members[0].request

    def run(self) -> None:
        """Finds the outcome of each member; in a thread, or on the event loop."""
        with self._lock:
            self._begun = True
        began = perf_counter()
        for member in self._members:
            member.call.queued = member.job.queued + began - member.joined
        self._batches.meter.running(len(self._members))
        alone = int(self.short and self._batches.looks_again())
        try:
            self._answer(self._members[:alone])
            self._answer(self._members[alone:])
        finally:
            self._batches.meter.running(-len(self._members))
        for member in self._members:
            member.expire()

    def _answer(self, members: list[Member[Any]]) -> None:
        members = [member for member in members if not (member.job.given_up or member.expire())]
        if not members:
            return
        started = perf_counter()
        try:
            parts = self._batches.predict(members)
        except Exception as error:  # noqa: BLE001 - of whichever member is at fault
            if len(members) == 1:
                members[0].outcome = error
            else:
                middle = len(members) // 2
                self._answer(members[:middle])
                self._answer(members[middle:])
            return
        ended = perf_counter()
        seconds = ended - started
        self._predicted.append((sum(member.rows for member in members), seconds))
        for member, outputs in zip(members, parts, strict=True):
            try:
                member.outcome = member.call.encode(member.request, outputs)
            except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
                member.outcome = error
            call, before, ended = member.call, ended, perf_counter()
            call.started, call.computed, call.encoded = started, seconds, ended - before
        self._batches.ran(members[0].request, ended - started, len(members))

    def deliver(self, failure: BaseException | None = None) -> None:
        """Gives each member its outcome, or `failure`."""
        self._batches.over(self)
        self._batches.crowded = len(self._members) > 1
        for rows, seconds in self._predicted:
            self._batches.meter.ran(rows, seconds)
        for member in self._members:
            member.job.leave = _cannot_leave  # which holds nothing: no arrays wait for the garbage collector
            outcome, member.outcome = member.outcome if failure is None else failure, None
            if isinstance(outcome, BaseException):
                member.job.fail(outcome)
            else:
                member.job.finish(outcome)


def _cannot_leave() -> bool:
    return False


def _rows(inputs: Arrays) -> int:
    """Returns the length of the first axis that all inputs have in common; 0 if there is none."""
    lengths = {len(array) if array.ndim else 0 for array in inputs.values()}
    return lengths.pop() if len(lengths) == 1 else 0


def joined(requests: Sequence[Request]) -> Request:
    """Returns one request with the rows of all, which are of one kind."""
    first = requests[0]
    inputs: Arrays = {name: np.concatenate([request.inputs[name] for request in requests]) for name in first.inputs}
    return Request(inputs, first.wanted)


def parted(outputs: Arrays, wanted: Sequence[str], rows: Sequence[int]) -> list[Arrays] | None:
    """Returns the outputs of each request that was joined, in turn; None if there are not as many rows as went in."""
    total, parts, at = sum(rows), list[Arrays](), 0
    arrays: list[tuple[str, Array]] = [(name, outputs[name]) for name in wanted]
    if any(not array.ndim or len(array) != total for _, array in arrays):
        return None
    for count in rows:
        parts.append({name: array[at : at + count] for name, array in arrays})
        at += count
    return parts
