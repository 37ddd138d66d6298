"""What the workers of one server have in common, and the first order each of them gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.supervisor.cgroups import Allowance, allowance
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess

if TYPE_CHECKING:
    from runtime.link.board import Board
    from runtime.link.channel import Message
    from runtime.log import Log
    from runtime.settings import Settings
    from runtime.supervisor.sockets import Listener


_IN_FLIGHT_BYTES: Final = 256 * 2**20
"""Bodies that a worker holds at once, where memory is no question."""
_SHARE: Final = 8
"""The part of the container's memory that bodies may take."""
_PLENTY: Final = 2**60


@dataclass(frozen=True, slots=True)
class Launcher:
    """What the workers of one server have in common."""

    settings: Settings
    model_name: str
    listener: Listener
    board: Board
    log: Log
    readable: tuple[Path, ...]
    """All that a worker may read beside the interpreter and its libraries."""

    def start(self, slot: int, *, accept: bool) -> WorkerProcess:
        """A new worker with its first order."""
        worker = WorkerProcess(slot)
        self.order(worker, accept=accept)
        return worker

    def order(self, worker: WorkerProcess, *, accept: bool) -> None:
        """Tells a worker what to serve on; it accepts at once, or only when its model passed its self-test."""
        settings, shares = self.settings, shares_of(self.settings, allowance())
        order: Message = {
            "slot": worker.slot,
            "accept": accept,
            "name": self.model_name,
            "adapter": settings.adapter,
            "trust": settings.trust,
            "allow_globals": settings.allow_global,
            "threads": shares["threads"],
            "sandbox": settings.sandbox,
            "require_sandbox": settings.sandbox == "require",
            "readable": [str(folder) for folder in self.readable],
            "log": {"style": self.log.style, "level": self.log.level},
            "log_inputs": settings.log_inputs,
            "limits": {
                **shares,
                "in_flight": settings.max_in_flight,
                "deadline_seconds": settings.inference_timeout,
            },
        }
        worker.channel.send(order, files=(self.board.fd, self.listener.fileno(), 2))
        worker.channel.unblock()
        worker.output = Output(worker, self.log, own_stdout=settings.command == "serve")


def shares_of(settings: Settings, allowed: Allowance) -> dict[str, int]:
    """What one of the workers gets of the machine, or of the container: threads, and bytes of request bodies."""
    bodies = (allowed.memory_bytes or _PLENTY) // _SHARE // settings.workers
    return {
        "threads": settings.threads or max(1, allowed.threads // settings.workers),
        "body_bytes": min(settings.max_body_bytes, bodies),
        "in_flight_bytes": min(_IN_FLIGHT_BYTES, bodies),
    }
