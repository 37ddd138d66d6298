"""What somebody who waits for a pull is told, and the one thing they can say: stop."""

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
        """A phase is over."""

    def resolved(self, reference: Reference, manifest: Manifest) -> None:
        """The reference has its digest. Not called for a folder without a receipt."""

    def kitfile(self, kitfile: Kitfile) -> None:
        """The Kitfile is verified. Called before any layer is fetched."""

    def left_out(self, layers: Sequence[Placed]) -> None:
        """These layers of the kit are not fetched, since serving does not need them. Not called if there are none."""

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """Bytes of all needed layers were verified; `layer` is the path of the last one, "" at the beginning."""

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator should know, though the pull goes on."""

    def cancelled(self) -> bool:
        """Whether to stop now. Called at least every tenth of a second."""


def check(observer: Observer) -> None:
    """Raises Cancelled if the observer says so."""
    if observer.cancelled():
        raise Cancelled("the pull was cancelled")
