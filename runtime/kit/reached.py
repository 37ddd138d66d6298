"""How far the layers of a kit are, all together."""

from collections.abc import Sequence
from functools import partial

from runtime.kit.format.digest import Digest
from runtime.kit.format.placing import Placed
from runtime.kit.lane import Count
from runtime.kit.observer import Observer
from runtime.kit.threads import Threads


class Reached:
    """Adds up the bytes of all layers for the observer. Jobs of `threads` report to it, and stop if it raises."""

    def __init__(self, layers: Sequence[Placed], threads: Threads, observer: Observer) -> None:
        self._threads, self._observer = threads, observer
        self._paths = {each.layer.descriptor.digest: each.entry.path for each in reversed(layers)}
        self._total = sum({each.layer.descriptor.digest: each.layer.descriptor.size for each in layers}.values())
        self._positions = dict.fromkeys(self._paths, 0)  # set by the threads
        self._told = dict.fromkeys(self._paths, 0)
        observer.progress("", 0, self._total)
        threads.tick = self._tell

    def count(self, placed: Placed) -> Count:
        """Returns what takes the bytes of one layer, from its beginning."""
        return Count(partial(self.at, placed.layer.descriptor.digest))

    def at(self, digest: Digest, position: int) -> None:
        """Notes that one blob is read up to `position`. Raises Cancelled if the work was stopped."""
        self._threads.check()
        if position > self._positions[digest]:  # else the bytes came before
            self._positions[digest] = position

    def _tell(self) -> None:
        for digest, position in self._positions.items():
            if position > self._told[digest]:
                self._told[digest] = position
                self._observer.progress(self._paths[digest], sum(self._told.values()), self._total)
