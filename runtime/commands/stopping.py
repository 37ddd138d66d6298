"""How SIGTERM and SIGINT stop a command that is no server: it gives up what it does, and has failed."""

import signal
from collections.abc import Callable

from runtime.errors import Cancelled
from runtime.exits import KILLED
from runtime.libraries import listen
from runtime.log import Log
from runtime.progress import Progress


def until_stopped(work: Callable[[Progress], list[str]], log: Log, style: str = "auto") -> tuple[int, list[str]]:
    """Returns 0 and the lines of `work`, or the exit code that tells a caller that the work is not done."""
    progress, signals = Progress(log, style=style), list[int]()
    listen(log, stderr=True)

    def stop(signum: int, _: object) -> None:
        signals.append(signum)
        progress.cancel()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        return 0, work(progress)
    except Cancelled as cancelled:
        code = KILLED + signals[0]
        log.warning("runtime.cancelled", message=f"runtime: {cancelled}", reason=str(cancelled), exit_code=code)
        return code, []
