"""The blobs that serving needs, several at a time, and how far they are."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Descriptor
from runtime.kit.format.placing import Placed
from runtime.kit.observer import Observer, check
from runtime.kit.threads import Threads
from runtime.kit.unpack.walk import Layers, Opened

if TYPE_CHECKING:
    from runtime.kit.disk.layout import LayoutSource
    from runtime.kit.source import RegistrySource

    Source = RegistrySource | LayoutSource

MOST_OPEN: Final = 200
"""Verified blobs that stay open from their check to their unpacking; further ones are checked twice."""


def fetch_blobs(
    layers: Sequence[Placed], source: "Source", threads: Threads, observer: Observer, stack: ExitStack
) -> Layers:
    """Fetches the blob of every layer, each once, verified. Returns the layers, open until the stack closes."""
    fetching = _Fetch(layers, source, threads, observer)
    stack.callback(lambda: [file.close() for file in fetching.files.values()])
    observer.progress("", 0, fetching.total)
    threads.run([partial(fetching.fetch, blob) for blob in fetching.blobs.values()], observer)
    return fetching.opened


class _Fetch:
    def __init__(self, layers: Sequence[Placed], source: "Source", threads: Threads, observer: Observer) -> None:
        self._layers, self._source, self._threads, self._observer = layers, source, threads, observer
        self._paths = {each.layer.descriptor.digest: each.entry.path for each in reversed(layers)}
        self.blobs = {each.layer.descriptor.digest: each.layer.descriptor for each in layers}
        self.files: dict[Digest, BinaryIO] = {}
        self.total = sum(blob.size for blob in self.blobs.values())
        self._positions = dict.fromkeys(self.blobs, 0)
        self._done = 0

    def fetch(self, blob: Descriptor) -> None:
        """Fetches one blob, in a thread that may block."""
        with ExitStack() as stack:
            file = stack.enter_context(self._source.blob(blob, partial(self._reached, blob.digest)))
            self._threads.check()
            if len(self.files) < MOST_OPEN:
                self.files[blob.digest] = file
                stack.pop_all()

    def opened(self) -> Opened:
        """Yields each entry with its blob at its beginning. One that did not stay open is opened and checked again."""
        for each in self._layers:
            blob = each.layer.descriptor
            if file := self.files.get(blob.digest):
                file.seek(0)
                yield each, file
            else:
                with self._source.blob(blob, lambda _: check(self._observer)) as again:
                    yield each, again

    def _reached(self, digest: Digest, position: int) -> None:
        self._threads.check()
        self._threads.post(partial(self._tell, digest, position))

    def _tell(self, digest: Digest, position: int) -> None:
        if position > self._positions[digest]:  # else the bytes came before: a download begins again
            self._done += position - self._positions[digest]
            self._positions[digest] = position
            self._observer.progress(self._paths[digest], self._done, self.total)
