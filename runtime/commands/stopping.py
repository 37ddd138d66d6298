"""How SIGTERM and SIGINT stop a command other than `serve`: it ends what it does, and has failed."""

import select
import signal
import time
from collections.abc import Callable
from typing import Final, Protocol

from runtime.errors import Cancelled
from runtime.library_events import listen
from runtime.log import Log
from runtime.progress import Progress

_LOOK_SECONDS: Final = 0.2  # how often a wait looks whether the command was stopped


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def until_stopped(
    work: Callable[[Progress], tuple[int, list[str]]], log: Log, style: str = "auto"
) -> tuple[int, list[str]]:
    """Returns what `work` returns, an exit code and lines; after a signal, a code that says that it is not done."""
    progress, signals = Progress(log, style=style), list[int]()
    listen(log, stderr=True)

    def stop(signum: int, _: object) -> None:
        signals.append(signum)
        progress.cancel()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        return work(progress)
    except Cancelled as cancelled:
        from runtime.exits import KILLED  # with the adapters, 30 ms

        code = KILLED + signals[0]
        log.warning("runtime.cancelled", message=f"runtime: {cancelled}", reason=str(cancelled), exit_code=code)
        return code, []


def readable(what: _HasDescriptor | int, deadline: float, cancelled: Callable[[], bool], why: str) -> bool:
    """Waits until there is something to read; false where the deadline comes first. Raises Cancelled, saying `why`."""
    while (left := deadline - time.monotonic()) > 0:
        if cancelled():
            raise Cancelled(why)
        if select.select([what], [], [], min(left, _LOOK_SECONDS))[0]:
            return True
    return False
