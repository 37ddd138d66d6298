"""Long blobs over several connections at once: bounded ranges, handed on in order, a few of them in memory."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Final

WORKERS: Final = 8
PIECE_BYTES: Final = 6 << 20
_BUFFERS: Final = 9


class Buffers:
    """The memory for the pieces of all blobs that come at the same time. A buffer is made when it is first needed."""

    def __init__(self) -> None:
        self._free: SimpleQueue[memoryview | None] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(None)

    def take(self) -> memoryview:
        """Returns a buffer of PIECE_BYTES once one is free."""
        return self._free.get() or memoryview(bytearray(PIECE_BYTES))

    def give(self, buffer: memoryview) -> None:
        """Takes a buffer back, or what was cut from one."""
        self._free.put(buffer if len(buffer) == PIECE_BYTES else None)


class Ranges:
    """Yields the bytes from `start` to `end`, which `fetch(position, buffer)` brings piece by piece in several threads.

    What is yielded is good until the next piece is asked for: the buffers are used again. `fetch` fills its buffer, and
    is to look at `stopped` as it reads. What it raises is raised where its piece would come.
    """

    def __init__(self, fetch: Callable[[int, memoryview], object], start: int, end: int, buffers: Buffers) -> None:
        self._fetch, self._end, self._buffers = fetch, end, buffers
        self._next = self._wanted = start  # where the next piece to fetch begins, and the next one to hand on
        self._pieces: dict[int, memoryview] = {}
        self._failures: dict[int, BaseException] = {}
        self._changed = threading.Condition()
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[memoryview]:
        for _ in range(WORKERS):
            threading.Thread(target=self._work, name="range", daemon=True).start()
        try:
            while self._wanted < self._end:
                with self._changed:
                    self._changed.wait_for(lambda: self._wanted in self._pieces or self._wanted in self._failures)
                    if failure := self._failures.get(self._wanted):
                        raise failure
                    piece = self._pieces[self._wanted]
                yield piece
                with self._changed:
                    self._buffers.give(self._pieces.pop(self._wanted))
                    self._wanted += len(piece)
        finally:
            with self._changed:
                self.stopped.set()
                for piece in self._pieces.values():
                    self._buffers.give(piece)

    def _work(self) -> None:
        while (turn := self._take_turn()) is not None:
            start, piece = turn
            failure: BaseException | None = None
            try:
                self._fetch(start, piece)
            except BaseException as problem:  # noqa: BLE001 - raised again by the iterator
                failure = problem
            with self._changed:
                if failure:
                    self._failures[start] = failure
                    self._next = self._end  # nothing behind it will be wanted
                if failure or self.stopped.is_set():
                    self._buffers.give(piece)
                else:
                    self._pieces[start] = piece
                self._changed.notify_all()

    def _take_turn(self) -> tuple[int, memoryview] | None:
        """Returns where the next piece begins, and its buffer; None at the end.

        The first piece that is wanted of a blob has a buffer before later ones have: blobs never wait for each other.
        """
        buffer = self._buffers.take()
        with self._changed:
            if self.stopped.is_set() or self._next >= self._end:
                self._buffers.give(buffer)
                return None
            start, self._next = self._next, self._next + PIECE_BYTES
            return start, buffer[: self._end - start]
