"""Events for people and machines: a name in the past tense (`kit.pulled`) and keys, one line each.

On a terminal an event is text: its `message` (a line, or a tuple of lines) if it has one, else its name and keys; and
a status line, redrawn in place, may follow (a progress bar). Elsewhere it is JSON: its name and keys.
A thread of its own writes the lines: a reader that has stopped reading holds up the log, never the server.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

Style = Literal["json", "text"]
Encode = Callable[[dict[str, object]], str]
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_MOST_WAITING_LINES: Final = 10_000
_GATHER_SECONDS: Final = 0.02
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
_ERASE_LINE: Final = "\r\x1b[K"
_COLOURS: Final = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Log:
    """Writes events to a file descriptor. Safe to call from any thread; never blocks and never raises.

    `gather`: many lines to a write, a little later. `encode`: a faster JSON encoder than the standard library's.
    `dropped` is called with the number of lines lost whenever the reader is too slow.
    """

    def __init__(
        self, fd: int, *, style: Style, level: str = "info", gather: bool = False, encode: Encode | None = None
    ) -> None:
        self.style, self.level = style, level
        self.dropped: Callable[[int], None] = lambda _: None
        self.has_status = style == "text" and os.isatty(fd)
        """Whether there is a line for a status."""
        self._threshold = LEVELS[level]
        self._format = _as_json(encode or _encode) if style == "json" else _as_text
        self._writer = _Writer(fd, gather=gather)

    def enabled(self, level: str) -> bool:
        """Whether events of this level are written."""
        return LEVELS[level] >= self._threshold

    def debug(self, event: str, /, **fields: object) -> None:
        """For whoever looks into the runtime itself."""
        self._event("debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """What an operator expects to happen."""
        self._event("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """What works, but should be looked at."""
        self._event("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """What did not work."""
        self._event("error", event, fields)

    def status(self, text: str) -> None:
        """Puts `text` on the line below the last event, instead of the one before; "" removes it. Terminals only."""
        if self.has_status:
            self._writer.status(text)

    def close(self, seconds: float = 0.5) -> None:
        """Writes what is waiting, for at most `seconds`."""
        self._writer.close(seconds)

    def _event(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS[level] >= self._threshold and not self._writer.write(self._format(level, event, fields)):
            self.dropped(1)


class _Writer:
    """A thread that writes waiting lines to a file descriptor, and the lock between it and the others."""

    def __init__(self, fd: int, *, gather: bool) -> None:
        self._fd, self._gather = fd, gather
        self._lines: deque[str] = deque()
        self._status, self._status_shown = "", ""
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False

    def write(self, line: str) -> bool:
        """Queues a line; False if too many are waiting already."""
        if len(self._lines) >= _MOST_WAITING_LINES:
            return False
        self._lines.append(line)
        self._rouse()
        return True

    def status(self, text: str) -> None:
        self._status = text
        self._rouse()

    def close(self, seconds: float) -> None:
        self._closing = True
        if self._thread:
            self._wake.set()
            self._thread.join(seconds)

    def _rouse(self) -> None:
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not (self._closing and not self._lines and self._status == self._status_shown):
            self._wake.wait()
            if self._gather and not self._closing:
                time.sleep(_GATHER_SECONDS)  # many lines in one write: a busy server would else switch threads for each
            self._wake.clear()
            if not self._put("".join(self._lines.popleft() for _ in range(len(self._lines)))):
                return

    def _put(self, text: str) -> bool:
        erase = _ERASE_LINE if self._status_shown else ""
        self._status_shown = self._status
        waiting = f"{erase}{text}{self._status_shown}".encode(errors="backslashreplace")
        try:
            while waiting:
                waiting = waiting[os.write(self._fd, waiting) :]
        except OSError:  # nobody reads any more: the server goes on, and further lines count as dropped
            return False
        return True


def _as_json(encode: Encode) -> Callable[[str, str, dict[str, object]], str]:
    def line(level: str, event: str, fields: dict[str, object]) -> str:
        fields.pop("message", None)  # the keys say the same
        whole = {"time": _timestamp(), "level": level, "event": event, **fields}
        try:
            return encode(whole) + "\n"
        except TypeError:  # orjson's word for a lone surrogate
            return _encode(whole) + "\n"

    return line


def _as_text(level: str, event: str, fields: dict[str, object]) -> str:
    message = fields.get("message") or " ".join([event, *(f"{key}={_word(value)}" for key, value in fields.items())])
    lines = message if isinstance(message, tuple) else (message,)
    text = "\n".join(str(line).translate(_CONTROL) for line in lines)
    return f"{_COLOURS[level]}{text}\x1b[0m\n" if _COLOURS[level] else f"{text}\n"


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value) if not isinstance(value, dict | list | tuple) else _encode(value)
    return _encode(text) if not text or " " in text else text


def _timestamp() -> str:
    now = time.time()
    whole = int(now)
    if whole != _second[0]:
        _second[:] = [whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))]
    return f"{_second[1]}.{int(now * 1000) % 1000:03d}Z"


_second: Final[list[int | str]] = [0, ""]
"""The last second that was written out, and its text: the same for thousands of lines."""
