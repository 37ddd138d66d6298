"""What libraries say becomes events: warnings, `logging` (which asyncio uses), errors that nothing caught, prints."""

import io
import logging
import sys
import threading
import warnings
from typing import Any, Final

from runtime.log import LEVELS, Log, fault

_LONGEST_TEXT: Final = 1000


def listen(log: Log, *, stderr: bool = False) -> None:
    """Sends what libraries report from now on to `log`. `stderr`: also what is printed to `sys.stderr`."""

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        text = f"at {filename}:{lineno}" if log.private else str(message)
        log.debug("library.warned", category=category.__name__, reason=_one_line(text))

    def raised(kind: type[BaseException], error: BaseException | None, where: str) -> None:
        if kind is not SystemExit:
            log.error("library.raised", where=_one_line(where), **_facts(log, error or kind()))

    logging.getLogger().addHandler(_Handler(log))
    warnings.showwarning = warned
    threading.excepthook = lambda args: raised(args.exc_type, args.exc_value, f"{args.thread}")
    sys.unraisablehook = lambda args: raised(args.exc_type, args.exc_value, f"{args.err_msg or ''} {args.object!r}")
    if stderr:
        sys.stderr = _Printed(log)


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            reason = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a message that its arguments do not fit
            reason = f"{record.msg} ({type(error).__name__}: {error})"
        raised = record.exc_info[1] if record.exc_info else None
        facts = _facts(self._log, raised) if raised else {}
        level = next((name for name in reversed(LEVELS) if record.levelno >= LEVELS[name]), "debug")
        getattr(self._log, level)("library.logged", logger=record.name, reason=_one_line(reason), **facts)


class _Printed(io.TextIOBase):
    """A `sys.stderr` each of whose lines is an event."""

    def __init__(self, log: Log) -> None:
        self._log, self._rest = log, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[: _LONGEST_TEXT + 1]
        for line in filter(None, lines):
            self._log.warning("library.printed", text=_one_line(line))
        return len(text)


def _facts(log: Log, error: BaseException) -> dict[str, object]:
    found = fault(error, texts=not log.private)
    shown = {"traceback": found["trace"]} if log.enabled("debug") else {}
    return {"error": _one_line(found["cause"]), **shown}


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
