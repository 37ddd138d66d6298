"""What the workers of one server have in common: the order each of them gets, and the sockets they listen on."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.link.board import Board
from runtime.link.limits import Limits
from runtime.link.messages import Order
from runtime.log import Log
from runtime.settings import Settings
from runtime.supervisor.cgroups import Allowance, allowance
from runtime.supervisor.listeners import Listeners
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import Listener, address
from runtime.supervisor.worker_log import WorkerLog

if TYPE_CHECKING:
    from runtime.supervisor.telemetry import Telemetry

_SHARE: Final = 8  # bodies may take an eighth of the container's memory
_PLENTY: Final = 2**60


class Launcher:
    """Starts workers, and gives each its first order."""

    def __init__(self, settings: Settings, model: str, listener: Listener, board: Board, log: Log, kits: Path,
                 grpc: Listener | None = None, telemetry: "Telemetry | None" = None) -> None:  # fmt: skip
        """`listener` is worker 1's, `grpc` the one of gRPC; beside the interpreter and its libraries, workers may read
        `kits`."""
        self.listener, self.grpc_address = listener, address(grpc) if grpc else ""
        self._listeners = [Listeners(first) for first in (listener, grpc) if first]
        self.settings, self.board, self.log, self.telemetry = settings, board, log, telemetry
        # to our standard output, except on a terminal, where one log keeps lines and status apart
        own = settings.command == "serve" and not os.isatty(1)
        self.out = Log(1, style=log.style, level=log.level) if own else None
        self._model, self._kits = model, kits
        self._worker_log: WorkerLog | None = None

    def start(self, slot: int, *, accept: bool) -> WorkerProcess:
        """Returns a new worker that has its first order. Raises OSError if no process or file descriptor is left."""
        self.listeners_of(slot)
        worker = WorkerProcess(slot)
        self.order(worker, accept=accept)
        return worker

    def order(self, worker: WorkerProcess, *, accept: bool) -> None:
        """Sends a worker its first order. Without `accept` it accepts connections only when its model is ready."""
        settings, log = self.settings, self.log
        worker.accepts = accept
        if self._worker_log is None:
            self._worker_log = WorkerLog()
        order = Order(
            model=self._model,
            slot=worker.slot,
            accept=accept,
            terms=settings.terms(settings.sandbox),
            kits=str(self._kits),
            log_style=log.style,
            log_level=log.level,
            limits=limits_of(settings, allowance()),
            gateway=settings.gateway,
            sampling=self.telemetry.sampling if self.telemetry else None,
        )
        listeners = [listener.fileno() for listener in self.listeners_of(worker.slot)]
        worker.tell(order, files=(*self.board.files, self._worker_log.fd, *listeners))
        worker.finish_output = Output(worker, log, self.out).finish

    def listeners_of(self, slot: int) -> list[Listener]:
        """Returns the supervisor's copies of a worker's sockets: HTTP, then gRPC if it is served. Makes missing ones.
        Raises OSError."""
        return [listeners.of(slot) for listeners in self._listeners]

    def renew_listeners(self, slot: int, *, alone: bool) -> bool:
        """Renews the sockets of a worker that died, as `Listeners.renew` does."""
        new = [listeners.renew(slot, alone=alone) for listeners in self._listeners]
        return any(new)

    def close_logs(self) -> None:
        """Writes what ended workers have left."""
        if self._worker_log:
            self._worker_log.close()
        if self.out:
            self.out.close()

    def close_listeners(self) -> None:
        """Turns new clients away, and closes the supervisor's copies."""
        for listeners in self._listeners:
            listeners.close()


def limits_of(settings: Settings, allowed: Allowance) -> Limits:
    """Returns the limits of one worker: the operator's, cut to its share of the machine or container."""
    bodies = (allowed.memory_bytes or _PLENTY) // _SHARE // settings.workers
    return Limits(
        body_bytes=min(settings.max_body_bytes, bodies),
        in_flight=settings.max_in_flight,
        in_flight_rows=settings.max_in_flight_rows,
        in_flight_bytes=min(Limits().in_flight_bytes, bodies),
        json_bytes=min(Limits().json_bytes, bodies),
        deadline_seconds=settings.inference_timeout,
        memory_bytes=settings.worker_memory,
        threads=settings.threads or max(1, allowed.threads // settings.workers),
        access_log=settings.access_log,
        log_inputs=settings.log_inputs,
    )
