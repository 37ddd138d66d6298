"""What the serving wing asks about the process it runs in: whoever starts it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Health(Protocol):
    """State shared by all workers, so that any of them answers for all. Read on every request: it must cost nothing."""

    @property
    def ready(self) -> bool:
        """True if predictions are answered, for every model."""

    @property
    def draining(self) -> bool:
        """True if the process is about to stop; every answer then closes its connection."""

    @property
    def model_names(self) -> Sequence[str]:
        """The names that are or will be served; none while even they are unknown."""

    def model_ready(self, name: str, /) -> bool:
        """True if predictions of this model are answered."""

    def report(self) -> Mapping[str, object]:
        """Returns `{"ready": …, "live": true}`, while not ready also `reason` and, where there is some, `progress`."""
