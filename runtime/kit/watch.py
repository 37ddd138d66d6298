"""What somebody who waits for a pull is told, and the one thing they can say: stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.format.manifest import Manifest
    from runtime.kit.format.reference import Reference

Phase = Literal["resolve", "fetch", "unpack"]


class Watch(Protocol):
    """All methods are called from the thread that pulls; what they raise ends the pull."""

    def phase(self, name: Phase, seconds: float) -> None:
        """One phase is over."""

    def resolved(self, reference: Reference, manifest: Manifest) -> None:
        """The reference, now with its digest, and what it names. Not called for a folder."""

    def kitfile(self, kitfile: Kitfile) -> None:
        """What the kit is; comes before any layer."""

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """Sum of the bytes of all needed layers; `layer` is the path of the entry that grew, "" at the beginning."""

    def warning(self, event: str, **fields: object) -> None:
        """Something worth knowing that stops nothing."""

    def cancelled(self) -> bool:
        """Whether to stop now; asked about every tenth of a second."""


class Silent:
    """A watch that neither listens nor says anything."""

    def phase(self, name: Phase, seconds: float) -> None:
        """Ignore."""

    def resolved(self, reference: Reference, manifest: Manifest) -> None:
        """Ignore."""

    def kitfile(self, kitfile: Kitfile) -> None:
        """Ignore."""

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """Ignore."""

    def warning(self, event: str, **fields: object) -> None:
        """Ignore."""

    def cancelled(self) -> bool:
        """Never."""
        return False
