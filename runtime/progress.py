"""How a pull looks while it runs: a bar on a terminal, events elsewhere, shared numbers for `ready`."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from runtime.kit.format.reference import Reference
from runtime.log import Log

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.format.manifest import Manifest
    from runtime.kit.format.placing import Placed

_BAR_WIDTH: Final = 24
_REDRAW_SECONDS: Final = 0.1
_EVENT_SECONDS: Final = 5.0
_RATE_SECONDS: Final = 5.0  # what the rate is taken from: what was here already came faster than the rest will


class Progress:
    """Watches one pull (`runtime.kit.observer.Observer`) and reports to the log and to the callbacks `on_…`."""

    def __init__(
        self,
        log: Log,
        *,
        style: str = "auto",
        clock: Callable[[], float] = time.monotonic,
        on_bytes: Callable[[int, int], None] = lambda done, total: None,
        on_phase: Callable[[str, float], None] = lambda name, seconds: None,
        on_kitfile: Callable[["Kitfile"], object] = lambda kitfile: None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._log, self._on_bytes, self._on_phase, self._on_kitfile = log, on_bytes, on_phase, on_kitfile
        self._on_retry = on_retry
        self._stop, self._clock = threading.Event(), clock
        self._has_bar = style in ("auto", "bar") and log.has_status
        self._events: Log | None = None if self._has_bar or style in ("bar", "none") else log
        if style in ("plain", "json"):
            self._events = Log(2, style="text" if style == "plain" else "json", level=log.level)
        self._drawn, self._told = 0.0, clock()
        self._marks: deque[tuple[float, int]] = deque()  # when how many bytes were there, of the last seconds

    def cancel(self) -> None:
        """Makes the pull end with `Cancelled` soon."""
        self._stop.set()

    def cancelled(self) -> bool:
        """Returns whether the pull should end."""
        return self._stop.is_set()

    def resolved(self, reference: Reference, manifest: "Manifest | None") -> None:
        """Logs which manifest the reference is."""
        layers = manifest.layers if manifest else ()
        size = sum(layer.descriptor.size for layer in layers)
        message = f"found {reference}, {counted(len(layers), 'layer')}, {human_bytes(size)}"
        self._log.info("kit.resolved", message=message, reference=str(reference), layers=len(layers), bytes=size)

    def kitfile(self, kitfile: "Kitfile") -> None:
        """Hands the verified Kitfile to `on_kitfile`, after a warning about keys in the wrong place."""
        if kitfile.misplaced:
            reason = f"the Kitfile has {kitfile.misplaced}, which nothing reads; it belongs to model.parameters.serving"
            self._log.warning("kitfile.misplaced", message=reason, reason=reason)
        self._on_kitfile(kitfile)

    def left_out(self, layers: "Sequence[Placed]") -> None:
        """Logs the layers that are not fetched."""
        size, kinds = sum(each.layer.descriptor.size for each in layers), sorted({each.section for each in layers})
        reason = f"serving needs no {' or '.join(kinds)}"
        message = f"left out {len(layers)} of its layers, {human_bytes(size)}: {reason}"
        self._log.info("layers.left_out", message=message, count=len(layers), bytes=size, reason=reason)

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        """Shows how many bytes of all needed layers are read and hashed."""
        self._on_bytes(done_bytes, total_bytes)
        now = self._clock()
        self._marks.append((now, done_bytes))
        while now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()
        if self._has_bar and (now - self._drawn > _REDRAW_SECONDS or done_bytes == total_bytes):
            self._drawn = now
            self._log.status(_bar(layer, done_bytes, total_bytes, self._rate()))
        if self._events and now - self._told >= _EVENT_SECONDS:
            self._told = now
            self._tell(self._events, layer, done_bytes, total_bytes)

    def _tell(self, log: Log, layer: str, done: int, total: int) -> None:
        rate = self._rate()
        left = round((total - done) / rate) if rate else None
        share = f"{done / total:.0%}" if total else "100%"
        rest = "" if left is None else f", {left} s left"
        message = f"{share}: {human_bytes(done)} of {human_bytes(total)}, {human_bytes(rate)}/s{rest}, {layer}"
        facts = {"done_bytes": done, "total_bytes": total, "bytes_per_second": round(rate), "left_seconds": left}
        log.info("pull.progressed", message=message, layer=layer, **facts)

    def _rate(self) -> float:
        """Returns the bytes a second of the last seconds; 0 if that cannot be said yet."""
        (first, had), (last, has) = self._marks[0], self._marks[-1]
        return (has - had) / (last - first) if last > first else 0.0

    def phase(self, name: str, seconds: float) -> None:
        """Notes how long a phase of the pull took."""
        if self._events and self._events is not self._log:
            self._events.close()  # all of it is written then
        self._log.status("")
        self._on_phase(name, seconds)
        self._log.debug("pull.phase_ended", phase=name, seconds=round(seconds, 4))

    def warning(self, event: str, **fields: object) -> None:
        """Logs what an operator should know though the pull goes on."""
        self._log.warning(event, **fields)
        if event == "registry.retried":
            self._on_retry()


def counted(number: int, what: str) -> str:
    """Returns "1 layer", "2 layers"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def human_bytes(count: float) -> str:
    """Returns `count` bytes for people, in powers of 1000: 761.3 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _bar(layer: str, done: int, total: int, rate: float) -> str:
    share = done / total if total else 1.0
    filled = int(share * _BAR_WIDTH)
    shown = f"{human_bytes(rate)}/s" if rate else "-"
    left = f"  {(total - done) / rate:.0f} s left" if rate and done < total else ""
    name = layer if len(layer) <= 32 else "…" + layer[-31:]
    bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
    return f"  {bar} {share:4.0%}  {human_bytes(done)} of {human_bytes(total)}  {shown}{left}  {name}"
