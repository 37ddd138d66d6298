"""The command line: the table of commands, and the one place where a failure becomes a line and an exit code."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # a worker should not wait for enums of all signals
import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout

from runtime.command_names import COMMANDS
from runtime.supervisor.process import WorkerProcess

TYPE_CHECKING = False  # `typing` takes longer to import than a worker should wait
if TYPE_CHECKING:
    from runtime.log import Log
    from runtime.settings import Settings

    Command = Callable[[Settings, Log, WorkerProcess | None], tuple[int, list[str]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code (docs/errors.md)."""
    _open_standard_streams()
    os.umask(os.umask(0o077) & 0o077)  # whatever it takes from others: this user has to reach what this process makes
    if os.getpid() == 1:
        from runtime.supervisor.orphans import leave_to_process_1

        leave_to_process_1()
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a command; it raises no KeyboardInterrupt anywhere
    first = _first_worker() if _needs_worker(arguments) else None

    from runtime.log import Log
    from runtime.settings import Settings

    asked, shown = os.environ.get("RUNTIME_LOG_FORMAT"), io.StringIO()
    log = Log(2, style="text" if asked == "text" or (asked != "json" and os.isatty(2)) else "json")
    try:
        try:
            with redirect_stdout(shown):
                settings = Settings.read(arguments, os.environ)
        except SystemExit:  # --help and --version, which argparse would print wherever they get lost
            _print(shown.getvalue().splitlines())
            return 0
        log = Log(2, style=settings.log_style, level=settings.log_level)
        if settings.unknown_variables:
            unknown = list(settings.unknown_variables)
            log.warning("settings.unknown", variables=unknown, hint="`runtime --help` lists the options")
        code, lines = _command(settings.command)(settings, log, first)
        log.close()
        _print(lines)
        return code
    except Exception as error:  # noqa: BLE001 - the last edge: whatever it was, one line and a code
        return _report(error, log)
    finally:
        log.close()
        if first:
            first.kill()


def _first_worker() -> WorkerProcess | None:
    """Starts worker 1, whose imports take longer than anything else in a start; None if it cannot be started."""
    gc.disable()  # until `supervise` has imported all: nothing of that is ever garbage
    # what arrives before the supervisor can act on it, waits
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        return WorkerProcess(1)
    except OSError:  # the supervisor tries again, and says why
        return None


def _needs_worker(arguments: Sequence[str]) -> bool:
    """Returns True if this looks like a command with a worker; whether it is correct, the settings say later."""
    command = arguments[0] if arguments and arguments[0] in COMMANDS else "serve"
    return command in ("serve", "verify") and not {"-h", "--help", "--version"} & set(arguments)


def _command(name: str) -> Command:
    match name:
        case "verify":
            from runtime.commands.verify import run
        case "pull":
            from runtime.commands.pull import run
        case "predict":
            from runtime.commands.predict import run
        case "unpack":
            from runtime.commands.unpack import run
        case "inspect":
            from runtime.commands.inspect import run
        case "schema":
            from runtime.commands.schema import run
        case "cache":
            from runtime.commands.cache import run
        case "health":
            from runtime.commands.health import run
        case _:
            from runtime.commands.serve import run
    return run


def _open_standard_streams() -> None:
    """Opens those of the descriptors 0, 1 and 2 that are closed, or a socket would get the number of one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _print(lines: Sequence[str]) -> None:
    """Writes lines to standard output. A kit's text must not steer a terminal: control characters are escaped."""
    import json
    import select

    escaped = ("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line) for line in lines)
    waiting = "".join(f"{line}\n" for line in escaped).encode()
    try:
        while waiting:
            try:
                waiting = waiting[os.write(1, waiting) :]
            except BlockingIOError:  # another process made the pipe non-blocking
                select.select([], [1], [])
    except BrokenPipeError:
        return  # the reader wants no more: `runtime inspect REF | head`
    except OSError as error:
        from runtime.errors import StorageFailed

        raise StorageFailed(f"cannot write to standard output: {error.strerror}") from error


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109 - `pathlib` is not imported yet
    except FileNotFoundError:
        return False


def _advice(error: Exception) -> str:
    """Returns how to give this process what it lacks, if that is what `error` says."""
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "raise the limit of threads (ulimit -u, or that of the container)"
    seen = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None) or 0
    return {errno.EMFILE: "raise RLIMIT_NOFILE (ulimit -n)", errno.ENOMEM: "give it more memory"}.get(seen, "")


def _report(error: Exception, log: Log) -> int:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os.close(0)  # no descriptor is left, and the imports need one
    from adapters.base import AdapterError
    from runtime.errors import Exhausted, Failure, NotFound
    from runtime.exits import exit_code

    if isinstance(error, FileNotFoundError) and not _has_folder():
        error = NotFound(
            "the folder that this command was started in is gone: start it in another, or give whole paths"
        )
    elif advice := _advice(error):
        error = Exhausted(f"this process cannot go on: {str(error) or type(error).__name__}; {advice}")
    code, reason = exit_code(error), str(error)
    if not isinstance(error, Failure | AdapterError):
        what = ": ".join(filter(None, (type(error).__name__, reason)))  # a MemoryError has no text
        reason = f"a fault of the runtime: {what}; --log-level debug says more"
    if log.enabled("debug"):
        import traceback

        lines = "".join(traceback.format_exception(error)).splitlines()
        log.debug("runtime.traceback", message=tuple(lines), traceback=lines)
    log.error("runtime.failed", message=f"runtime: {reason}", reason=reason, exit_code=code)
    return code
