"""Calls off the event loop: their steps, the threads that run them, and the watch over calls on the loop itself."""

import asyncio
import threading
from collections.abc import Callable, Generator
from functools import partial
from math import inf
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Generic, TypeVar

from runtime.errors import PredictFailed

T = TypeVar("T")
S = TypeVar("S")
Interrupt = Callable[[int], None]


class Lane:
    """At most `threads` pieces of work at a time, in the order they came. Threads start with the first one.

    Not an executor: the interpreter waits for an executor's threads when it ends, and a predict that never returns
    would keep the process from stopping. These are daemons.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._most = name, threads
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self.jobs = 0
        """How many wait or run; counted on the event loop, by `Job`."""

    def submit(self, work: Callable[[], None]) -> None:
        """Runs `work`, which raises nothing, in one of the threads. Called from one thread only."""
        if self._started < self._most:
            try:
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
                self._started += 1
            except RuntimeError:  # the system has no thread left: those that run already have to do
                if not self._started:
                    raise
        self._work.put(work)

    def close(self) -> None:
        """Ends the threads once they have nothing left to do; waits for none of them."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # the arrays it holds would live until the next one comes


class Job(Generic[T]):
    """One call off the loop: steps, one after another, each in a thread of a lane; `answer` is its future on the loop.
    Who awaits the future itself gives the job up where that is cancelled.

    `ended` is called on the loop once no step waits or runs. Given up before a step began, the step never runs; given
    up during a step, the job ends when the step returns. Everything but the steps is called on the loop.
    """

    __slots__ = ("__weakref__", "_begun", "_ended", "_interrupt", "_lane", "_lock", "_loop", "_since", "_step",
                 "_thread", "answer", "bytes", "given_up", "leave", "queued", "rows")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: "Callable[[Job[T]], None]",
                 interrupt: Interrupt | None = None) -> None:  # fmt: skip
        self.answer: asyncio.Future[T] = loop.create_future()
        self.queued = 0.0
        """Seconds that its steps have waited for a thread."""
        self.rows = self.bytes = 0
        """What it counts against the limits."""
        self.given_up = False
        self.leave: Callable[[], bool] | None = None
        """Takes a job that is given up out of the batch that it is in; returns True if that has not begun."""
        self._loop, self._ended, self._interrupt = loop, ended, interrupt
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._begun = False
        self._lane: Lane | None = None
        self._step: tuple[Callable[[], Any], Callable[[Any], None]] | None = None
        """What waits in the queue. A job that is given up is removed, or a stuck model would keep every request."""
        self._since = 0.0

    def __await__(self) -> Generator[Any, None, T]:
        try:
            return (yield from self.answer)
        finally:
            if self.answer.cancelled():
                self.give_up()

    def step(self, lane: Lane, work: Callable[[], S], then: Callable[[S], None]) -> None:
        """Has a thread of `lane` do `work`, then the loop do `then` with what it returned."""
        self._begun, self._since, self._step = False, perf_counter(), (work, then)
        try:
            lane.submit(self._run)
        except RuntimeError as error:
            self.fail(error)
            return
        self._lane = lane
        lane.jobs += 1

    def finish(self, answer: T) -> None:
        """Ends the job with its answer."""
        self._ended(self)
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Ends the job with what went wrong."""
        self._ended(self)
        if isinstance(error, StopIteration):  # no future takes one
            error, cause = RuntimeError("a step raised StopIteration"), error
            error.__cause__ = cause
        if not self.answer.done():
            self.answer.set_exception(error)

    def give_up(self) -> None:
        """Ends a job whose answer is not wanted any more; interrupts the step that runs, if that is possible."""
        if self.given_up:
            return
        if self.leave is not None:
            self.given_up = True
            if self.leave():
                self._ended(self)
            return
        with self._lock:  # held, so that the thread is not at another job's step when it is interrupted
            self.given_up = True
            if self._thread is not None and self._interrupt is not None:
                self._interrupt(self._thread)
            begun = self._begun
        if not begun:
            self._step = None
            self._left_lane()
            self._ended(self)

    def _run(self) -> None:
        with self._lock:
            if self.given_up or self._step is None:
                return
            (work, then), self._step = self._step, None
            self._begun, self._thread = True, threading.get_ident()
        self.queued += perf_counter() - self._since
        next_step = self._next_step(work, then)
        with self._lock:
            self._thread = None
        try:
            self._loop.call_soon_threadsafe(self._stepped, next_step)
        except RuntimeError:  # the loop is closed
            return
        finally:
            del next_step  # it may hold an error, whose traceback holds this frame

    def _next_step(self, work: Callable[[], S], then: Callable[[S], None]) -> Callable[[], None]:
        """Does `work`, and returns what to do then. No local holds the error: its traceback holds this frame, and the
        two would keep the request until the garbage collector comes."""
        try:
            return partial(then, work())
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            return partial(self.fail, error)
        except BaseException as error:  # noqa: BLE001 - a CancelledError would mean a client that left
            failure = PredictFailed("the model raised")
            failure.__cause__ = error
            return partial(self.fail, failure)

    def _stepped(self, next_step: Callable[[], None]) -> None:
        self._left_lane()
        if self.answer.done():
            self._ended(self)
            return
        try:
            next_step()
        except Exception as error:  # noqa: BLE001 - as in _run
            self.fail(error)

    def _left_lane(self) -> None:
        if self._lane is not None:
            self._lane.jobs -= 1


class Watch:
    """Interrupts a call on the event loop that outlives its deadline: the loop itself cannot, the call holds it."""

    def __init__(self, interrupt: Interrupt | None, seconds: float) -> None:
        """`seconds` is the usual deadline, 0 if there is none."""
        self._interrupt, self._pause = interrupt, min(1.0, seconds / 4) or 1.0
        self.until = inf
        """The deadline of the call that holds the loop, on the clock of `perf_counter`; inf between calls."""
        self._holder = 0
        self._closed = threading.Event()

    def begun(self, until: float) -> None:
        """Notes that a call with this deadline begins on this thread."""
        if not self._holder and self._interrupt is not None and until < inf:
            self._holder = threading.get_ident()
            threading.Thread(target=self._run, name="watch", daemon=True).start()
        self.until = until

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _run(self) -> None:
        assert self._interrupt is not None
        while not self._closed.wait(self._pause):
            until = self.until
            # Between the look and the interrupt the call may end and another begin: that one is answered as late, too.
            if until < perf_counter() and until == self.until:
                self._interrupt(self._holder)
