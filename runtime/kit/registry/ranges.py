"""One long blob over several connections at once: bounded ranges, handed on in order, a few of them in memory."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

WORKERS: Final = 8
PIECE_BYTES: Final = 4 << 20
_AHEAD: Final = 10  # pieces in memory


class Ranges:
    """Yields the bytes from `start` to `end`, which `fetch(position, buffer)` brings piece by piece in several threads.

    What is yielded is good until the next piece is asked for: the buffers are used again. `fetch` fills its buffer, and
    is to look at `stopped` as it reads. What it raises is raised where its piece would come.
    """

    def __init__(self, fetch: Callable[[int, memoryview], object], start: int, end: int) -> None:
        self._fetch, self._end = fetch, end
        self._free: list[memoryview] = []
        self._next = self._wanted = start  # where the next piece to fetch begins, and the next one to hand on
        self._pieces: dict[int, memoryview | BaseException] = {}
        self._changed = threading.Condition()
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[memoryview]:
        for _ in range(WORKERS):
            threading.Thread(target=self._work, name="range", daemon=True).start()
        try:
            while self._wanted < self._end:
                with self._changed:
                    self._changed.wait_for(lambda: self._wanted in self._pieces)
                    piece = self._pieces.pop(self._wanted)
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                with self._changed:
                    self._wanted += len(piece)
                    self._free.append(piece)
                    self._changed.notify_all()
        finally:
            self.stopped.set()
            with self._changed:
                self._changed.notify_all()

    def _work(self) -> None:
        while (start := self._take_turn()) is not None:
            piece: memoryview | BaseException
            try:
                piece = self._buffer(start)
                self._fetch(start, piece)
            except BaseException as failure:  # noqa: BLE001 - raised again by the iterator
                piece = failure
            with self._changed:
                self._pieces[start] = piece
                if isinstance(piece, BaseException):
                    self._next = self._end  # nothing behind it will be wanted
                self._changed.notify_all()

    def _buffer(self, start: int) -> memoryview:
        size = min(PIECE_BYTES, self._end - start)
        with self._changed:
            return self._free.pop() if self._free and size == PIECE_BYTES else memoryview(bytearray(size))

    def _take_turn(self) -> int | None:
        """Returns where the next piece begins, once it may be fetched; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped.is_set() or self._next - self._wanted < _AHEAD * PIECE_BYTES)
            if self.stopped.is_set() or self._next >= self._end:
                return None
            start, self._next = self._next, self._next + PIECE_BYTES
            return start
