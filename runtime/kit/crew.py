"""Threads that may block, and one thread that never does: the one that pulls.

Requests and hashing run in daemon threads; the pulling thread only waits for what they post, so it calls every method
of the watch itself and sees `cancelled()` within a tenth of a second, whatever a registry does. A thread that hangs in
a request when the crew is dismissed ends with that request, or with the process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from runtime.errors import Cancelled
from runtime.kit.watch import Silent

if TYPE_CHECKING:
    from runtime.kit.watch import Watch

_LOOK_SECONDS: Final = 0.1
_FAREWELL_SECONDS: Final = 0.3
_T = TypeVar("_T")


class Crew:
    """Runs jobs in up to `size` threads. Dismissed for good by a cancellation or by the first job that fails."""

    def __init__(self, size: int = 4) -> None:
        self._size = size
        self._dismissed = threading.Event()
        self._watch: Watch = Silent()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def warn(self, event: str, **fields: object) -> None:
        """Pass a warning on to the watch. From any thread."""
        self._inbox.put(lambda: self._watch.warning(event, **fields))

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` called by the pulling thread. From any thread; in the order posted."""
        self._inbox.put(call)

    def check(self) -> None:
        """Raise Cancelled if the crew was dismissed: for jobs, at every step."""
        if self._dismissed.is_set():
            raise Cancelled("the pull was cancelled")

    def pause(self, seconds: float) -> None:
        """Sleep, but raise Cancelled as soon as the crew is dismissed."""
        self._dismissed.wait(seconds)
        self.check()

    def run(self, jobs: Sequence[Callable[[], _T]], watch: Watch) -> list[_T]:
        """Results of all jobs, in order. Raises what the first failed job raised, or Cancelled."""
        self._watch = watch
        waiting, results = deque(enumerate(jobs)), dict[int, _T]()
        threads = [
            threading.Thread(target=self._work, args=(waiting, results), name="pull", daemon=True)
            for _ in jobs[: self._size]
        ]
        for thread in threads:
            thread.start()
        try:
            while len(results) < len(jobs):
                self._listen()
        except BaseException:
            self._dismiss(threads)
            raise
        return [results[number] for number in range(len(jobs))]

    def _work(self, waiting: deque[tuple[int, Callable[[], _T]]], results: dict[int, _T]) -> None:
        while (turn := _next(waiting)) and not self._dismissed.is_set():
            number, job = turn
            try:
                self.post(partial(results.__setitem__, number, job()))
            except BaseException as error:  # noqa: BLE001 - raised again by the pulling thread
                self.post(partial(_raise, error))
                return

    def _listen(self) -> None:
        if self._watch.cancelled():
            self._dismissed.set()
        self.check()
        try:
            call = self._inbox.get(timeout=_LOOK_SECONDS)
        except Empty:
            return
        call()

    def _dismiss(self, threads: Sequence[threading.Thread]) -> None:
        """Tell the threads to end, and give them a moment to take their unfinished files away."""
        self._dismissed.set()
        for thread in threads:
            thread.join(_FAREWELL_SECONDS / len(threads))


def _next(waiting: deque[_T]) -> _T | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _raise(error: BaseException) -> NoReturn:
    raise error
