"""What a worker's libraries and its kit's code write to standard output and standard error, as events of the log.

Both are pipes that a thread of the supervisor reads, so what C++ prints before it aborts arrives too. The thread reads
16 MiB and reports 1,000 lines a second at most. A worker that writes more blocks, and further lines are only counted.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from runtime.log import Log
from runtime.supervisor.process import WorkerProcess

_MOST_LINES: Final = 1000
_MOST_BYTES: Final = 16 * 2**20
_READ_BYTES: Final = 64 * 2**10
_LONGEST_LINE: Final = 3000  # bytes: an event stays below PIPE_BUF, and is written to a pipe in one piece
_REMAINING_BYTES: Final = 2**20  # read after the worker's end, one full pipe: processes it left may write for ever
_FINISH_SECONDS: Final = 1.0


class Output:
    """Reads the standard streams of `worker` until its end. Standard output goes to the log `out`, if there is one."""

    def __init__(self, worker: WorkerProcess, log: Log, out: Log | None = None) -> None:
        self._log, self._slot = log, worker.slot
        stdout, stderr = worker.streams
        self._streams = {stdout: _Stream("stdout", (out or log).info), stderr: _Stream("stderr", log.warning)}
        self._lines, self._bytes, self._until = _MOST_LINES, _MOST_BYTES, 0.0
        self._dropped, self._last = 0, ""
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(worker.pidfd,), name="output", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is left: the worker is replaced, after a pause
            worker.kill()

    def finish(self) -> None:
        """Waits until everything that the worker wrote is reported. To be called after its end."""
        self._hurry.set()
        if self._thread.ident is None:
            self._thread.run()
        else:
            self._thread.join(_FINISH_SECONDS)

    def _run(self, pidfd: int) -> None:
        poll = select.poll()
        for fd in (*self._streams, pidfd):
            poll.register(fd, select.POLLIN)
        ended, remaining = False, _REMAINING_BYTES
        while self._streams and remaining > 0:
            ready = {fd for fd, _ in poll.poll(0 if ended else 1000 if self._dropped else None)}
            if ended and not ready:
                break
            if pidfd in ready:
                poll.unregister(pidfd)
                ended = True
            self._begin_second()
            for fd in ready & self._streams.keys():
                data = os.read(fd, _READ_BYTES)
                self._take(self._streams[fd], data)
                self._bytes -= len(data)
                remaining -= len(data) if ended else 0
                if not data:
                    poll.unregister(fd)
                    del self._streams[fd]
                    os.close(fd)
            if self._bytes <= 0:
                self._hurry.wait(self._until - time.monotonic())
        for fd, stream in self._streams.items():
            self._take(stream, b"")
            os.close(fd)
        self._say_dropped()

    def _begin_second(self) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._say_dropped()
            self._lines, self._bytes, self._until = _MOST_LINES, _MOST_BYTES, now + 1.0

    def _take(self, stream: "_Stream", data: bytes) -> None:
        texts, dropped, last = stream.split(data, self._lines)
        self._lines -= len(texts)
        if dropped:
            self._dropped, self._last = self._dropped + dropped, last
        for text in texts:
            message = f"worker {self._slot}: {text}"
            stream.say("worker.printed", message=message, worker=self._slot, stream=stream.name, text=text)

    def _say_dropped(self) -> None:
        if self._dropped:
            self._log.warning("worker.flooded", worker=self._slot, lines=self._dropped, last=self._last)
            self._dropped = 0


class _Stream:
    """One of the two streams: splits bytes into lines, and cuts long lines."""

    def __init__(self, name: str, say: Callable[..., None]) -> None:
        self.name, self.say = name, say
        self._rest, self._cut = b"", 0

    def split(self, data: bytes, most: int) -> tuple[list[str], int, str]:
        """Returns up to `most` lines, the number of further ones, and the last of those. Empty `data` is the end."""
        data = data.replace(b"\r", b"\n") or (self._rest and b"\n")
        *lines, rest = (self._rest + data).split(b"\n", most)
        texts = [self._text(line) for line in lines if line]
        whole, newline, self._rest = rest.rpartition(b"\n")
        last = self._text(whole.rpartition(b"\n")[2]) if newline else ""
        excess = max(0, len(self._rest) - _LONGEST_LINE)
        self._rest, self._cut = self._rest[:_LONGEST_LINE], self._cut + excess
        return texts, rest.count(b"\n"), last

    def _text(self, line: bytes) -> str:
        cut, self._cut = self._cut + max(0, len(line) - _LONGEST_LINE), 0
        text = line[:_LONGEST_LINE].decode(errors="backslashreplace")
        return f"{text} … ({cut} bytes more)" if cut else text
