"""What the workers of one server have in common: the order each of them gets, and the sockets they listen on."""

import os
from pathlib import Path
from socket import AF_UNIX
from typing import Final

from runtime.link.board import Board
from runtime.link.limits import Limits
from runtime.link.messages import Order
from runtime.log import Log
from runtime.settings import Settings
from runtime.supervisor.cgroups import Allowance, allowance
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import Listener, address, afresh, another, is_reachable

_SHARE: Final = 8  # bodies may take an eighth of the container's memory
_PLENTY: Final = 2**60
_STANDARD_ERROR: Final = 2  # for the events of a worker's own log; its own one is a pipe to the supervisor


class Launcher:
    """What the workers of one server have in common."""

    def __init__(self, settings: Settings, model: str, listener: Listener, board: Board, log: Log, kits: Path,
                 grpc: Listener | None = None) -> None:  # fmt: skip
        """`listener` is worker 1's; beside the interpreter and its libraries, workers may read `kits`; `grpc` holds the
        port of gRPC, which workers bind themselves."""
        self._grpc, self.grpc_address = grpc, address(grpc) if grpc else ""
        self.settings, self.listener, self.board, self.log = settings, listener, board, log
        # to our standard output, except on a terminal, where one log keeps lines and status apart
        own = settings.command == "serve" and not os.isatty(1)
        self.out = Log(1, style=log.style, level=log.level) if own else None
        self._model, self._kits, self._listeners = model, kits, {1: listener}

    def start(self, slot: int, *, accept: bool) -> WorkerProcess:
        """A new worker with its first order. Raises OSError where the machine has no process or descriptor left."""
        self.listener_of(slot)
        worker = WorkerProcess(slot)
        self.order(worker, accept=accept)
        return worker

    def order(self, worker: WorkerProcess, *, accept: bool) -> None:
        """Tells a worker what to serve on; it accepts at once, or only when its model passed its self-test."""
        settings, log = self.settings, self.log
        worker.accepts = accept
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
            grpc=self.grpc_address,
        )
        worker.tell(order, files=(*self.board.files, self.listener_of(worker.slot).fileno(), _STANDARD_ERROR))
        worker.finish_output = Output(worker, log, self.out).finish

    def listener_of(self, slot: int) -> Listener:
        """The supervisor's copy of a worker's socket. Raises OSError if it has to be made and cannot."""
        if slot not in self._listeners:  # of several workers, one that has no model gets no connections
            self._listeners[slot] = another(self._listeners[1], listening=False)
        return self._listeners[slot]

    def renew_listener(self, slot: int, *, alone: bool) -> bool:
        """After the death of a worker: its socket stays only if the `alone` worker left it as it was. Raises OSError.

        Others get the connections meanwhile; if there are no others, connections wait for the replacement.
        Returns whether the sockets of all workers are new: a spoilt Unix socket is the same for all.
        """
        old = self.listener_of(slot)
        unix = old.family == AF_UNIX
        if (alone or unix) and is_reachable(old):
            return False
        if unix:
            fresh = afresh(old)
            for listener in self._listeners.values():
                listener.close()
            self._listeners = {1: fresh}  # the others are made of it
        else:
            self._listeners[slot] = another(old, listening=alone)
            old.close()
        return unix

    def close_listeners(self) -> None:
        """Turns new clients away, and closes the supervisor's copies."""
        for listener in self._listeners.values():
            listener.turn_away()
            listener.close()
        if self._grpc:
            self._grpc.close()


def limits_of(settings: Settings, allowed: Allowance) -> Limits:
    """The limits of a worker: what the operator says, within its share of the machine, or of the container."""
    bodies = (allowed.memory_bytes or _PLENTY) // _SHARE // settings.workers
    return Limits(
        body_bytes=min(settings.max_body_bytes, bodies),
        in_flight=settings.max_in_flight,
        in_flight_bytes=min(Limits().in_flight_bytes, bodies),
        deadline_seconds=settings.inference_timeout,
        memory_bytes=settings.worker_memory,
        threads=settings.threads or max(1, allowed.threads // settings.workers),
        log_inputs=settings.log_inputs,
    )
