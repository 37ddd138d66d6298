"""Calls off the event loop: one call, the threads that run such, and the watch over calls that hold the loop itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Interrupt = Callable[[int], None]


class Job(Generic[T]):
    """`work`, run once by a thread; `answer` is its future on the loop; `ended` is called on the loop when it is over.

    Given up before it began, it never runs and is over at once; given up while it runs, it is over when it returns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], T], ended: Callable[[], None]) -> None:
        self.answer: asyncio.Future[T] = loop.create_future()
        self._loop, self._work, self._ended = loop, work, ended
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._begun = self._given_up = False

    def run(self) -> None:
        """Called by the thread."""
        with self._lock:
            if self._given_up:
                return
            self._begun, self._thread = True, threading.get_ident()
        try:
            outcome: T | BaseException = self._work()
            failed = False
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever awaits the answer
            outcome, failed = error, True
        with self._lock:
            self._thread = None
        try:
            self._loop.call_soon_threadsafe(self._deliver, outcome, failed)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def give_up(self, interrupt: Interrupt | None) -> None:
        """Called on the loop: nobody wants the answer."""
        with self._lock:  # under the lock, so that the thread cannot be at its next job when it is interrupted
            self._given_up = True
            if self._thread is not None and interrupt is not None:
                interrupt(self._thread)
            begun = self._begun
        if not begun:
            self._ended()

    def _deliver(self, outcome: T | BaseException, failed: bool) -> None:
        self._ended()
        if self.answer.done():
            return
        if failed:
            assert isinstance(outcome, BaseException)
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)  # type: ignore[arg-type]  # not failed: it is work's own value


class Lane:
    """At most `threads` jobs at a time, in the order they came. Threads start with the first job.

    Not an executor: its threads are waited for when the interpreter ends, and a predict that never returns would keep
    the process from stopping. These are daemons.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._most = name, threads
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job`, which raises nothing, in one of the threads. Called from one thread only."""
        if self._started < self._most:
            self._started += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put(job)

    def close(self) -> None:
        """Ends the threads once they have nothing left to do; waits for none of them."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or the last job's arrays would live until the next one comes


class Watch:
    """Interrupts a call on the event loop that outlives the deadline: the loop itself cannot, it is held."""

    def __init__(self, interrupt: Interrupt | None, seconds: float) -> None:
        self._interrupt, self._seconds = interrupt, seconds
        self._since = 0.0
        self._holder = 0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def begun(self, now: float) -> None:
        """A call begins on this thread."""
        if self._thread is None and self._interrupt is not None:
            self._start()
        self._since = now

    def ended(self) -> None:
        """It is over."""
        self._since = 0.0

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _start(self) -> None:
        self._holder = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            since = self._since
            # Between the look and the interrupt the call may end and another begin: that one is answered as late, too.
            if since and perf_counter() - since > self._seconds and since == self._since and self._interrupt:
                self._interrupt(self._holder)
