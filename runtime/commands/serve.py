"""`runtime serve`: from the settings to an exit code, the straight path."""

import gc
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import CannotListen, InvalidSetting
from runtime.kit.format.reference import Reference
from runtime.link.board import Board
from runtime.link.metrics import WIDTH
from runtime.log import Log
from runtime.options import AUTO, GRPC_PORT, OFF
from runtime.settings import Settings
from runtime.supervisor.cgroups import allowance
from runtime.supervisor.launcher import Launcher
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import Listener, listen

if TYPE_CHECKING:
    from runtime.supervisor.supervisor import Supervisor
    from runtime.supervisor.telemetry import Telemetry


def run(settings: Settings, log: Log, first: WorkerProcess | None, /) -> tuple[int, list[str]]:
    """Serves until a signal stops it; `first` is the worker that is importing already, if one could be started.

    Raises Failure if the reference or the address cannot be used, and what `Supervisor.run` raises.
    """
    supervisor = supervise(settings, log, first, serving=True)

    import asyncio

    return asyncio.run(supervisor.run()), []


def supervise(settings: Settings, log: Log, first: WorkerProcess | None, *, serving: bool) -> "Supervisor":
    """Binds the address, gives the first worker its order, then imports what pulls: the worker imports meanwhile."""
    if settings.workers == AUTO:
        settings = settings._replace(workers=allowance().threads)
    reference = Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name)
    listener = listen(settings.host, settings.port) if serving else listen("127.0.0.1", 0)
    board = Board.create(settings.workers + 1, WIDTH)
    grpc = listener_for_grpc(settings, log) if serving else None
    telemetry = _telemetry(board, log) if serving else None
    kits = _kits_folder(settings, reference)
    launcher = Launcher(settings, reference.name, listener, board, log, kits, grpc, telemetry)
    if first:
        launcher.order(first, accept=serving)

    from adapters.imports import hidden

    with hidden("ssl"):  # only a registry needs it, and asyncio imports it where it can
        from runtime.supervisor.supervisor import Supervisor

    gc.freeze()  # the garbage collector never looks at what is there now
    gc.enable()
    return Supervisor(reference, launcher, first, serving=serving)


def _telemetry(board: Board, log: Log) -> "Telemetry | None":
    """Returns what goes to a collector, None where no variable names one: most starts import nothing for it."""
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
        return None
    from runtime.supervisor.telemetry import Telemetry

    return Telemetry.asked(os.environ, board, log)


def listener_for_grpc(settings: Settings, log: Log) -> Listener | None:
    """Returns the socket for gRPC; None if gRPC is not served. Raises InvalidSetting if --grpc-port cannot be used."""
    asked, unix = settings.grpc_port, settings.host.startswith("unix:")
    if asked == OFF:
        return None
    wanted = "it needs a TCP --host" if unix else _missing_for_grpc()
    port = GRPC_PORT if asked is None else asked
    if not wanted and port and port == settings.port:
        wanted = f"--port is {port}, too"
    if not wanted:
        try:
            return listen(settings.host, port, option="--grpc-port")
        except CannotListen as taken:  # by another server on this machine; gRPC was not asked for
            if asked is not None:
                raise
            wanted = str(taken)
    if asked is not None:
        raise InvalidSetting(f"--grpc-port {asked} cannot be: {wanted}")
    log.info("grpc.off", message=f"no gRPC: {wanted}", reason=wanted)
    return None


def _missing_for_grpc() -> str:
    if find_spec("google") and find_spec("google.protobuf"):
        return ""
    from adapters.imports import how_to_install

    return f"it needs more packages: {how_to_install('grpc')}"


def _kits_folder(settings: Settings, reference: Reference) -> Path:
    """Returns the folder that the kit will be in: a worker confines itself to it before the kit is there."""
    if reference.kind == "folder" and reference.path:
        from runtime.kit.disk.folder import has_parent

        if not has_parent(reference.path):
            return reference.path
    with suppress(OSError):  # the pull fails on it too, and says why
        settings.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.cache_dir
