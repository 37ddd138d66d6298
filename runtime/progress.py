"""How a pull looks while it runs: a bar on a terminal, shared numbers for `ready`, events for the log."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from runtime.kit.format.reference import Reference
from runtime.log import Log

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.format.manifest import Manifest

_BAR_WIDTH: Final = 24
_REDRAW_SECONDS: Final = 0.1


class Progress:
    """Watches one pull (`runtime.kit.observer.Observer`) and tells the log, and whoever else wants to know."""

    def __init__(
        self,
        log: Log,
        *,
        on_bytes: Callable[[int, int], None] = lambda done, total: None,
        on_phase: Callable[[str, float], None] = lambda name, seconds: None,
        on_kitfile: Callable[["Kitfile"], None] = lambda kitfile: None,
    ) -> None:
        self._log, self._on_bytes, self._on_phase, self._on_kitfile = log, on_bytes, on_phase, on_kitfile
        self._stop = threading.Event()
        self._started, self._drawn = time.monotonic(), 0.0

    def cancel(self) -> None:
        """Makes the pull end with `Cancelled` soon."""
        self._stop.set()

    def cancelled(self) -> bool:
        """Whether the pull should end."""
        return self._stop.is_set()

    def resolved(self, reference: Reference, manifest: "Manifest | None") -> None:
        """The reference is a certain manifest now."""
        layers = manifest.layers if manifest else ()
        size = sum(layer.descriptor.size for layer in layers)
        count = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
        message = f"found {reference}, {count}, {human_bytes(size)}"
        self._log.info("kit.resolved", message=message, reference=str(reference), layers=len(layers), bytes=size)

    def kitfile(self, kitfile: "Kitfile") -> None:
        """The Kitfile is there and verified; layers follow."""
        self._started = time.monotonic()
        self._on_kitfile(kitfile)

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """So many bytes of all the needed layers are there and hashed."""
        self._on_bytes(done_bytes, total_bytes)
        now = time.monotonic()
        if self._log.has_status and (now - self._drawn > _REDRAW_SECONDS or done_bytes == total_bytes):
            self._drawn = now
            self._log.status(_bar(layer, done_bytes, total_bytes, now - self._started))

    def phase(self, name: str, seconds: float) -> None:
        """A phase of the pull is over."""
        self._log.status("")
        self._on_phase(name, seconds)
        self._log.debug("pull.phase_ended", phase=name, seconds=round(seconds, 4))

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator should know, though the pull goes on."""
        self._log.warning(event, **fields)


def human_bytes(count: float) -> str:
    """Returns `count` bytes for people, in powers of 1000: 761.3 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _bar(layer: str, done: int, total: int, seconds: float) -> str:
    share = done / total if total else 1.0
    filled = int(share * _BAR_WIDTH)
    rate = human_bytes(done / seconds) if seconds > 0 else "-"
    name = layer if len(layer) <= 32 else "…" + layer[-31:]
    bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
    return f"  {bar} {share:4.0%}  {human_bytes(done)} of {human_bytes(total)}  {rate}/s  {name}"
