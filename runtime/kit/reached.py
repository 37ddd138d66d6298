"""How far the layers of a kit are, all together."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from runtime.kit.format.digest import Digest
from runtime.kit.format.placing import Placed
from runtime.kit.lane import Count
from runtime.kit.observer import Observer
from runtime.kit.threads import Threads

_TELL_SECONDS: Final = 0.05  # between two reports of one layer


class Reached:
    """Adds up the bytes of all layers for the observer. Jobs of `threads` report to it, and stop if it raises."""

    def __init__(self, layers: Sequence[Placed], threads: Threads, observer: Observer) -> None:
        self._threads, self._observer = threads, observer
        self._paths = {each.layer.descriptor.digest: each.entry.path for each in reversed(layers)}
        self._sizes = {each.layer.descriptor.digest: each.layer.descriptor.size for each in layers}
        self._total = sum(self._sizes.values())
        self._positions = dict.fromkeys(self._paths, 0)
        self._told = dict.fromkeys(self._paths, 0.0)  # when
        self._done = 0
        observer.progress("", 0, self._total)

    def count(self, placed: Placed) -> Count:
        """Returns what takes the bytes of one layer, from its beginning."""
        return Count(partial(self.at, placed.layer.descriptor.digest))

    def at(self, digest: Digest, position: int) -> None:
        """Notes that one blob is read up to `position`. Raises Cancelled if the work was stopped."""
        self._threads.check()
        now = time.monotonic()
        if now - self._told[digest] >= _TELL_SECONDS or position == self._sizes[digest]:
            self._told[digest] = now
            self._threads.post(partial(self._tell, digest, position))

    def _tell(self, digest: Digest, position: int) -> None:
        if position > self._positions[digest]:  # else the bytes came before
            self._done += position - self._positions[digest]
            self._positions[digest] = position
            self._observer.progress(self._paths[digest], self._done, self._total)
