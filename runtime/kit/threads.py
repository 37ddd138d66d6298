"""Threads that may block, and one thread that does not: the one that pulls.

Requests and hashing run in daemon threads. The pulling thread only waits for what they post, so it calls every method
of the observer itself and sees `cancelled()` within a tenth of a second, whatever a registry does. A thread that hangs
in a request when the work is stopped ends with that request, or with the process.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NoReturn, TypeVar

from runtime.errors import Cancelled
from runtime.kit.observer import Observer

_LOOK_SECONDS: Final = 0.1
_JOIN_SECONDS: Final = 0.3
_T = TypeVar("_T")


class Threads:
    """Runs jobs in up to `size` threads. Stopped for good by a cancellation or by the first job that fails."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._observer: Observer  # of the current `run`
        self._stopped = threading.Event()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.tick: Callable[[], None] = lambda: None
        """Called by the pulling thread at least every tenth of a second, and when all jobs are done."""

    def warn(self, event: str, **fields: object) -> None:
        """Passes a warning on to the observer. From any thread."""
        self.post(lambda: self._observer.warning(event, **fields))

    def post(self, call: Callable[[], None]) -> None:
        """Has the pulling thread call `call`. From any thread; in the order posted."""
        self._inbox.put(call)

    def check(self) -> None:
        """Raises Cancelled if the work was stopped. Jobs call it at every step."""
        if self._stopped.is_set():
            raise Cancelled("the pull was cancelled")

    def pause(self, seconds: float) -> None:
        """Sleeps. Raises Cancelled as soon as the work is stopped."""
        self._stopped.wait(seconds)
        self.check()

    def run(self, jobs: Sequence[Callable[[], _T]], observer: Observer) -> list[_T]:
        """Returns the results of all jobs, in order. Raises what the first failed job raised, or Cancelled."""
        self._observer = observer
        waiting, results = deque(enumerate(jobs)), dict[int, _T]()
        work = partial(self._work, waiting, results)
        threads = [threading.Thread(target=work, name="pull", daemon=True) for _ in jobs[: self._size]]
        for thread in threads:
            thread.start()
        try:
            while len(results) < len(jobs):
                self._listen()
        except BaseException:
            self._stopped.set()
            for thread in threads:  # a moment to remove their unfinished files
                thread.join(_JOIN_SECONDS / len(threads))
            raise
        self.tick()
        return [results[number] for number in range(len(jobs))]

    def _work(self, waiting: deque[tuple[int, Callable[[], _T]]], results: dict[int, _T]) -> None:
        while not self._stopped.is_set():
            try:
                number, job = waiting.popleft()
            except IndexError:
                return
            try:
                self.post(partial(results.__setitem__, number, job()))
            except BaseException as error:  # noqa: BLE001 - raised again by the pulling thread
                self.post(partial(_raise, error))
                return

    def _listen(self) -> None:
        if self._observer.cancelled():
            self._stopped.set()
        self.check()
        self.tick()
        try:
            call = self._inbox.get(timeout=_LOOK_SECONDS)
        except Empty:
            return
        call()


def _raise(error: BaseException) -> NoReturn:
    raise error
