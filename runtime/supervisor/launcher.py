"""What the workers of one server have in common: the order each of them gets, and the sockets they listen on."""

import os
from pathlib import Path
from socket import AF_UNIX
from typing import Final

from runtime.link.board import Board
from runtime.link.messages import Order
from runtime.log import Log
from runtime.settings import Settings
from runtime.supervisor.cgroups import Allowance, allowance
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import Listener, afresh, another, is_reachable

_IN_FLIGHT_BYTES: Final = 256 * 2**20  # of bodies that a worker holds at once, where memory is no question
_SHARE: Final = 8  # bodies may take an eighth of the container's memory
_PLENTY: Final = 2**60
_STANDARD_ERROR: Final = 2  # for the events of a worker's own log; its own one is a pipe to the supervisor


class Launcher:
    """What the workers of one server have in common."""

    def __init__(self, settings: Settings, model: str, listener: Listener, board: Board, log: Log, kits: Path) -> None:
        """`listener` is worker 1's; beside the interpreter and its libraries, workers may read `kits`."""
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
        settings, (threads, body_bytes, in_flight_bytes) = self.settings, shares_of(self.settings, allowance())
        worker.accepts = accept
        order = Order(
            model=self._model,
            slot=worker.slot,
            accept=accept,
            terms=settings.terms(threads, settings.sandbox),
            kits=str(self._kits),
            log_style=self.log.style,
            log_level=self.log.level,
            log_inputs=settings.log_inputs,
            body_bytes=body_bytes,
            in_flight_bytes=in_flight_bytes,
            in_flight=settings.max_in_flight,
            deadline_seconds=settings.inference_timeout,
        )
        worker.tell(order, files=(*self.board.files, self.listener_of(worker.slot).fileno(), _STANDARD_ERROR))
        worker.finish_output = Output(worker, self.log, self.out).finish

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


def shares_of(settings: Settings, allowed: Allowance) -> tuple[int, int, int]:
    """What a worker gets of the machine, or of the container: threads, bytes of one body, and of all in flight."""
    bodies = (allowed.memory_bytes or _PLENTY) // _SHARE // settings.workers
    threads = settings.threads or max(1, allowed.threads // settings.workers)
    return threads, min(settings.max_body_bytes, bodies), min(_IN_FLIGHT_BYTES, bodies)
