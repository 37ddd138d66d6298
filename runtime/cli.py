"""The command line: what the operator asked for, in a straight line; a failure becomes one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

from runtime.supervisor.process import WorkerProcess

TYPE_CHECKING = False  # a worker is started before anything is imported that can wait, `typing` too
if TYPE_CHECKING:
    from pathlib import Path

    from runtime.kit.format.reference import Reference
    from runtime.log import Log
    from runtime.progress import Progress
    from runtime.settings import Settings
    from runtime.supervisor.supervisor import Supervisor

_STOPPING = {signal.SIGTERM, signal.SIGINT}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the documented exit code (docs/errors.md)."""
    # until the supervisor can act on them, signals wait: one that came during an import would end in a traceback
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    arguments = sys.argv[1:] if arguments is None else arguments
    # a worker imports for longer than anything else takes: it begins before we know what it will serve
    first = WorkerProcess(1) if _will_serve(arguments) else None

    from runtime.log import Log
    from runtime.settings import Settings

    log = Log(2, style="text" if sys.stderr.isatty() else "json")
    try:
        settings = Settings.read(arguments, os.environ)
        log = Log(2, style=settings.log_style, level=settings.log_level)
        if settings.unknown_variables:
            unknown = list(settings.unknown_variables)
            log.warning("settings.unknown", variables=unknown, hint="`runtime --help` lists the options")
        return _serve(settings, log, first) if first else _COMMANDS[settings.command](settings, log)
    except Exception as error:  # noqa: BLE001 - the last edge: whatever it was, one line and a code
        return _report(error, log)
    finally:
        log.close()
        if first:
            first.kill()


def _will_serve(arguments: Sequence[str]) -> bool:
    """Whether this looks like a command line that serves; the settings say later whether it is a good one."""
    is_serve = not arguments or arguments[0] == "serve" or arguments[0].startswith("-")
    return is_serve and not {"-h", "--help", "--version"} & set(arguments)


def _serve(settings: Settings, log: Log, first: WorkerProcess) -> int:
    supervisor = _supervisor(settings, log, first, serving=True)

    import asyncio

    return asyncio.run(supervisor.run())


def _verify(settings: Settings, log: Log) -> int:
    supervisor, failed = _supervisor(settings, log, WorkerProcess(1), serving=False), None

    import asyncio

    from adapters.base import AdapterError
    from runtime.commands.verify import report
    from runtime.errors import Failure
    from runtime.exits import exit_code

    try:
        code = asyncio.run(supervisor.run())
    except (Failure, AdapterError) as failure:
        code, failed = exit_code(failure), failure
    if failed or supervisor.proof:
        sys.stdout.write(report(supervisor.reference, supervisor.proof, failed, as_json=settings.json))
    return code


def _supervisor(settings: Settings, log: Log, first: WorkerProcess, *, serving: bool) -> Supervisor:
    from runtime.kit.format.reference import Reference
    from runtime.link.board import Board
    from runtime.link.metrics import WIDTH
    from runtime.supervisor.launcher import Launcher
    from runtime.supervisor.sockets import listen

    reference = Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name)
    listener = listen(settings.host, settings.port) if serving else listen("127.0.0.1", 0)
    board = Board.create(settings.workers + 1, WIDTH)
    launcher = Launcher(settings, reference.name, listener, board, log, (_kits_folder(settings, reference),))
    launcher.order(first, accept=serving)

    from runtime.supervisor.supervisor import Supervisor  # asyncio and the pull: while the worker imports

    return Supervisor(reference, launcher, first, serving=serving)


def _kits_folder(settings: Settings, reference: Reference) -> Path:
    """Where the kit will lie; a worker confines itself to it before it is there."""
    from contextlib import suppress

    if reference.kind == "folder" and reference.path is not None:
        return reference.path
    with suppress(OSError):  # the pull meets it again, and says so
        settings.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.cache_dir


def _pull(settings: Settings, log: Log) -> int:
    from runtime.commands.pull import pull_options
    from runtime.kit.format.reference import Reference
    from runtime.kit.pull import pull

    def work(progress: Progress) -> list[str]:
        kit = pull(Reference.parse(settings.kit, registry=settings.registry), pull_options(settings), progress)
        return [str(kit.digest or "a plain folder has no digest")]

    return _until_stopped(work, log)


def _unpack(settings: Settings, log: Log) -> int:
    from runtime.commands.unpack import unpack

    return _until_stopped(lambda progress: unpack(settings, progress, log), log)


def _until_stopped(work: Callable[[Progress], list[str]], log: Log) -> int:
    """Prints the lines of `work`. Stopped by a signal it has failed: whoever waits must not take it for done."""
    from runtime.errors import Cancelled
    from runtime.exits import KILLED
    from runtime.progress import Progress

    progress, signals = Progress(log), list[int]()

    def stop(signum: int, _: object) -> None:
        signals.append(signum)
        progress.cancel()

    for signum in _STOPPING:
        signal.signal(signum, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        lines = work(progress)
    except Cancelled as cancelled:
        code = KILLED + signals[0]
        log.warning("runtime.cancelled", message=f"runtime: {cancelled}", reason=str(cancelled), exit_code=code)
        return code
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _inspect(settings: Settings, log: Log) -> int:
    from runtime.commands.inspect import inspect

    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.write(inspect(settings, log))
    return 0


def _health(settings: Settings, _: Log) -> int:
    from runtime.commands.health import ask

    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ready, answer = ask(settings.host, settings.port)
    sys.stdout.write(answer + "\n")
    return 0 if ready else 1


_COMMANDS: dict[str, Callable[[Settings, Log], int]] = {
    "pull": _pull,
    "verify": _verify,
    "unpack": _unpack,
    "inspect": _inspect,
    "health": _health,
}


def _report(error: Exception, log: Log) -> int:
    from adapters.base import AdapterError
    from runtime.errors import Failure
    from runtime.exits import exit_code

    code = exit_code(error)
    if log.enabled("debug"):
        import traceback

        sys.stderr.write(traceback.format_exc())
    if isinstance(error, Failure | AdapterError):
        reason = str(error)
    else:
        reason = f"a fault of the runtime: {type(error).__name__}: {error}; --log-level debug says more"
    log.error("runtime.failed", message=f"runtime: {reason}", reason=reason, exit_code=code)
    return code
