"""How far a server is, for the answers about health: read from what all its processes share."""

from typing import Any

from runtime.link.board import Board


class Health:
    """State shared by all workers, so that any of them answers for all. Read on every request: it must cost nothing."""

    def __init__(self, board: Board, model_name: str) -> None:
        self._board, self._model, self.model_names = board, board.models[0], (model_name,)

    @property
    def draining(self) -> bool:
        """True if the server is about to stop; every answer then closes its connection."""
        return self._board.draining

    @property
    def ready(self) -> bool:
        """True if some worker has the model and the server was not asked to stop."""
        return not self._board.draining and self._model.phase == "ready" and self._model.workers_ready > 0

    def report(self) -> dict[str, Any]:
        """Returns `{"ready": …, "live": true}`, while not ready also `reason` and `progress`."""
        if self.ready:
            return {"ready": True, "live": True}
        done, total = self._model.progress_bytes
        phase = "draining" if self._board.draining else self._model.phase
        reason = "no worker is ready" if phase == "ready" else phase
        return {"ready": False, "live": True, "reason": reason, "progress": {"bytes": done, "total_bytes": total}}
