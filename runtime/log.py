"""Events for people and machines: a name in the past tense (`kit.pulled`) and keys, one line each.

On a terminal an event is text: its `message` (a line, or a tuple of lines) if it has one, else its name and keys; and
a status line, redrawn in place, may follow (a progress bar). Elsewhere it is JSON: its name and keys.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from runtime.line_writer import LineWriter

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

Style = Literal["json", "text"]
Encode = Callable[[dict[str, object]], str]
ACCESS: Final = frozenset({"request.answered", "request.abandoned", "request.refused"})
"""The events of `access`: at level info, one for each request."""
Answered = Callable[[str, int, int, float, float, float], None]
ANSWERED: Final = ("id", "rows", "bytes", "milliseconds", "queued", "computed")
"""What an answered request's line says of it, beside what is the same for all: bytes of the answer; of the milliseconds
in all those in the queue, and those in the model."""
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
_COLOURS: Final = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_DIGEST: Final = re.compile(r"(\bsha(?:256|512):[0-9a-f]{12})[0-9a-f]{52,}")
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Log:
    """Writes events to a file descriptor. Safe to call from any thread; never blocks and never raises.

    `gather`: many lines to a write, a little later. `encode`: a faster JSON encoder than the standard library's.
    `dropped` is called with the number of lines lost whenever the reader is too slow, or gone.
    """

    def __init__(
        self, fd: int, *, style: Style, level: str = "info", gather: bool = False, encode: Encode | None = None
    ) -> None:
        self.style, self.level = style, level
        self.has_status = style == "text" and os.isatty(fd)  # whether there is a line for a status
        self._threshold = LEVELS[level]
        colours = os.isatty(fd) and not os.environ.get("NO_COLOR")  # https://no-color.org
        self._encode = encode or _encode
        self._format = _as_json(self._encode) if style == "json" else _as_text(_COLOURS if colours else {})
        erase = gather and self.has_status  # a worker does not know whether its supervisor's status line is shown
        self._writer = LineWriter(fd, gather=gather, erase=erase, lost=lambda lines: self.dropped(lines))
        self.dropped: Callable[[int], None] = lambda _: None
        self.counted: Callable[[str], None] = lambda _: None
        """What counts refused requests, by their reason."""
        self.always: dict[str, object] = {}
        """What every event says."""
        self.private = False
        """Whether the texts of warnings and exceptions may quote what clients sent, and so stay out."""
        self.access = 1.0
        """The share of answered requests that are written; 0: only what was refused or abandoned; below 0: nor that."""
        self._due = 0.0

    def enabled(self, level: str) -> bool:
        """Returns whether events of this level are written."""
        return LEVELS[level] >= self._threshold

    def debug(self, event: str, /, **fields: object) -> None:
        """Logs what helps to find faults of the runtime itself."""
        self._event("debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Logs what an operator expects to happen."""
        self._event("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Logs what works, but should be looked at."""
        self._event("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Logs what did not work."""
        self._event("error", event, fields)

    def refused(self, status: int, error: str, **fields: object) -> None:
        """Logs and counts a request that was answered with this status, for one of the reasons in `link.metrics`."""
        write = self.error if status == 500 else self.warning if status in (503, 504) else self.info
        write("request.refused", **fields, status=status, error=error)
        self.counted(error)

    def answers(self, event: str, **constant: object) -> Answered:
        """Returns what logs an `event` about a request at level info, with `constant` and what only this request has,
        in a quarter of the time of `info`."""
        if self.access <= 0 or not self.enabled("info"):
            return lambda *_: None
        if self.style != "json" or self.access < 1:
            return lambda *values: self.info(event, **constant, **dict(zip(ANSWERED, values, strict=True)))
        fields = _encode({"level": "info", "event": event, **self.always, **constant})[1:-1]
        write, encode, moment, start = self._writer.write, self._encode, 0, ""

        def answered(name: str, rows: int, length: int, milliseconds: float, queued: float, computed: float) -> None:
            nonlocal moment, start
            now = int(time.time() * 1000)
            if now != moment:  # busy servers answer several in a millisecond
                moment, start = now, f'{{"time":"{_milliseconds(now)}",{fields},'
            own = encode({"id": name, "rows": rows, "bytes": length, "milliseconds": milliseconds, "queued": queued,
                          "computed": computed})  # fmt: skip
            if not write(f"{start}{own[1:]}\n"):
                self.dropped(1)

        return answered

    def status(self, text: str) -> None:
        """Puts `text` on the line below the last event, instead of the one before; "" removes it. Terminals only."""
        if self.has_status:
            self._writer.status(text)

    def write_with(self, loop: "AbstractEventLoop") -> None:
        """Has `loop`, on whose thread this is called, write the lines of all threads, if they go to a pipe."""
        self._writer.write_with(loop)

    def close(self, seconds: float = 0.5) -> None:
        """Writes what is waiting, for at most `seconds`, and ends the status line. Later events are written, too."""
        self.has_status = False
        self._writer.close(seconds)

    def _event(self, level: str, event: str, fields: dict[str, object]) -> None:
        if self.access < 1 and level == "info" and event in ACCESS and not self._chosen(event):
            return
        if LEVELS[level] < self._threshold:
            return
        if not self._writer.write(self._format(level, event, {**fields, **self.always} if self.always else fields)):
            self.dropped(1)

    def _chosen(self, event: str) -> bool:
        if event != "request.answered":
            return self.access >= 0
        self._due += max(self.access, 0.0)
        chosen = self._due >= 1
        self._due -= chosen
        return chosen


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception, then what it was raised from or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def fault(error: BaseException, *, texts: bool) -> dict[str, str]:
    """Returns `cause` and `trace` of an exception.

    Without `texts` neither holds the text of an exception, in which models quote what a client sent: only the types,
    and the places in the code.
    """
    import traceback  # 1 ms, and seldom needed

    if texts:
        return {"cause": f"{type(error).__name__}: {error}", "trace": "".join(traceback.format_exception(error))}
    trace: list[str] = []
    for seen in causes(error):
        trace[:0] = [*traceback.format_tb(seen.__traceback__), f"{type(seen).__name__}\n"]
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" in {frame.name} ({frame.filename}:{frame.lineno})" for frame in last)
    return {"cause": f"{type(error).__name__}{where}", "trace": "".join(trace)}


def _as_json(encode: Encode) -> Callable[[str, str, dict[str, object]], str]:
    def line(level: str, event: str, fields: dict[str, object]) -> str:
        fields.pop("message", None)  # the keys say the same
        whole = {"time": _timestamp(), "level": level, "event": event, **fields}
        try:
            return encode(whole) + "\n"
        except TypeError:  # orjson's word for a lone surrogate
            return _encode(whole) + "\n"

    return line


def _as_text(colours: Mapping[str, str]) -> Callable[[str, str, dict[str, object]], str]:
    def line(level: str, event: str, fields: dict[str, object]) -> str:
        message = fields.get("message") or in_words(event, fields)
        lines = message if isinstance(message, tuple) else (message,)
        text = "\n".join(with_short_digests(str(line)).translate(_CONTROL) for line in lines)
        return f"{colour}{text}\x1b[0m\n" if (colour := colours.get(level)) else f"{text}\n"

    return line


def with_short_digests(text: str) -> str:
    """Returns a text for people: 12 digits of a digest tell two apart. JSON has all of them."""
    return _DIGEST.sub(r"\1", text)


def in_words(event: str, fields: Mapping[str, object]) -> str:
    """Returns the event's name and keys, as one line without control characters."""
    words = [event, *(f"{key}={_word(value)}" for key, value in fields.items() if key != "message")]
    return " ".join(words).translate(_CONTROL)


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value) if not isinstance(value, dict | list | tuple) else _encode(value)
    return _encode(text) if not text or " " in text else text


def _timestamp() -> str:
    return _milliseconds(int(time.time() * 1000))


def _milliseconds(whole: int) -> str:
    return f"{_second(whole // 1000)}.{whole % 1000:03d}Z"


@lru_cache(1)  # the same for thousands of lines
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
