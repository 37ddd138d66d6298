"""Writes the lines of a log to a file descriptor, and a status line below them.

A thread writes them, or in a worker whose log is a pipe the event loop, which then switches to no thread. If the reader
stops reading, lines are dropped; the server never waits.
"""

import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_MOST_WAITING_LINES: Final = 10_000
_GATHER_SECONDS: Final = 0.02
_WHOLE_BYTES: Final = select.PIPE_BUF  # written by one of several processes to a pipe in one piece: pipe(7)
_ERASE_LINE: Final = "\r\x1b[K"


class LineWriter:
    """Writes waiting lines to a file descriptor: in a thread, with a lock between it and the others, or on a loop."""

    def __init__(self, fd: int, *, gather: bool, erase: bool, lost: Callable[[int], None]) -> None:
        """`gather`: many lines to a write, a little later. `erase`: what the last line may hold is removed first.
        `lost` is called with the number of lines that the reader did not take."""
        self._fd, self._gather, self._erase, self._lost = fd, gather, erase, lost
        self._lines: deque[str] = deque()
        self._status, self._status_shown = "", ""
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._loop: AbstractEventLoop | None = None
        self._own_fd = -1
        """The pipe, opened once more: to make `_fd` non-blocking would make it so for all processes that have it."""
        self._due = False
        """Whether the loop is about to write."""
        self._rest = b""
        """What the pipe has not taken from the loop yet."""

    def write(self, line: str) -> bool:
        """Queues a line; False if too many are waiting already."""
        if len(self._lines) >= _MOST_WAITING_LINES:
            return False
        self._lines.append(line)
        if not self._due:
            self._rouse()
        return True

    def status(self, text: str) -> None:
        """Puts `text` below the last line; "" removes it."""
        with suppress(OSError):  # a line that is broken in two could not be redrawn
            if width := os.get_terminal_size(self._fd).columns:
                text = text[: width - 1]
        self._status = text
        self._rouse()

    def write_with(self, loop: "AbstractEventLoop") -> None:
        """Has `loop` write, if the lines go to a pipe."""
        self.close(1.0)
        with suppress(OSError):  # the pipe may be another user's: the thread goes on
            if self._thread is None and stat.S_ISFIFO(os.fstat(self._fd).st_mode):
                self._own_fd = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._loop = loop

    def close(self, seconds: float) -> None:
        """Writes what is waiting, for at most `seconds`. Later lines start a thread again."""
        self._status = ""
        if self._loop is not None:
            self._loop.remove_writer(self._own_fd)
            os.close(self._own_fd)
            self._loop, self._due = None, False
            if self._lines or self._rest:
                self._rouse()
        if self._thread:
            self._closing = True
            self._wake.set()
            self._thread.join(seconds)
            if not self._thread.is_alive():
                self._thread, self._closing = None, False

    def _rouse(self) -> None:
        if self._loop is not None:
            self._due = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._loop.call_later, _GATHER_SECONDS, self._write_on_loop)
            return
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            with self._lock, suppress(RuntimeError):  # there is no thread to be had: the interpreter ends, or EAGAIN
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="log", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not (self._closing and not self._lines and self._status == self._status_shown):
            self._wake.wait()
            if self._gather and not self._closing:
                time.sleep(_GATHER_SECONDS)  # many lines in one write: a busy server would else switch threads for each
            self._wake.clear()
            data, self._rest = self._rest + self._waiting(), b""
            try:
                while data := self._write(self._fd, data):  # another process made the pipe non-blocking
                    writable = select.poll()
                    writable.register(self._fd, select.POLLOUT)
                    writable.poll()
            except OSError:  # the reader is gone, or the disk full: the next lines may be written again
                self._lost(data.count(b"\n"))

    def _write_on_loop(self) -> None:
        if self._loop is None:
            return
        if not self._rest:
            self._due = False
            self._rest = self._waiting()
        try:
            self._rest = self._write(self._own_fd, self._rest)
        except OSError:  # as in _run
            self._lost(self._rest.count(b"\n"))
            self._rest = b""
        if self._rest:
            self._due = True
            self._loop.add_writer(self._own_fd, self._write_on_loop)
        else:
            self._loop.remove_writer(self._own_fd)
            if self._lines:
                self._rouse()

    def _waiting(self) -> bytes:
        text = "".join([self._lines.popleft() for _ in range(len(self._lines))])
        erase = _ERASE_LINE if self._status_shown or self._erase else ""
        self._status_shown = self._status
        return f"{erase}{text}{self._status_shown}".encode(errors="backslashreplace")

    @staticmethod
    def _write(fd: int, data: bytes) -> bytes:
        """Writes whole lines. Returns what a full pipe has not taken, if it does not block."""
        begin, size = 0, len(data)
        while begin < size:
            end = size
            if size - begin > _WHOLE_BYTES:
                end = 1 + data.rfind(b"\n", begin, begin + _WHOLE_BYTES) or 1 + data.find(b"\n", begin) or size
            try:
                begin += os.write(fd, data[begin:end])
            except BlockingIOError:
                break
        return data[begin:]
