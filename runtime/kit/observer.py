"""What a pull reports while it runs, and how it is stopped."""

from collections.abc import Sequence
from typing import Literal, Protocol

from runtime.errors import Cancelled
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.placing import Placed
from runtime.kit.format.reference import Reference

Phase = Literal["resolve", "fetch"]


class Observer(Protocol):
    """All methods are called from the thread that pulls. What they raise ends the pull."""

    def phase(self, name: Phase, seconds: float) -> None:
        """Gets the duration of a phase that is over."""

    def resolved(self, reference: Reference, manifest: Manifest) -> None:
        """Gets the reference with its digest. Not called for a folder without a receipt."""

    def kitfile(self, kitfile: Kitfile) -> None:
        """Gets the verified Kitfile, before any layer is fetched."""

    def left_out(self, layers: Sequence[Placed]) -> None:
        """Gets the layers that are not fetched, since serving does not need them. Not called if there are none."""

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """Gets how many bytes of all layers were read and hashed; `layer` is the last one's path, "" at first."""

    def warning(self, event: str, **fields: object) -> None:
        """Gets what an operator should know though the pull goes on."""

    def cancelled(self) -> bool:
        """Returns whether to stop now. Called at least every tenth of a second."""


def check(observer: Observer) -> None:
    """Raises Cancelled if the observer says so."""
    if observer.cancelled():
        raise Cancelled("the pull was cancelled")
