"""The blobs that serving needs, several at a time, and how far they are."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.kit.format.manifest import Descriptor
from runtime.kit.format.placing import Placed
from runtime.kit.observer import Observer, check
from runtime.kit.reached import Reached
from runtime.kit.threads import Threads
from runtime.kit.unpack.walk import Layers, Opened

if TYPE_CHECKING:
    from runtime.kit.chain import Chain
    from runtime.kit.disk.layout import LayoutSource
    from runtime.kit.format.digest import Digest

    Source = Chain | LayoutSource

MOST_OPEN: Final = 200  # verified blobs that stay open until they are unpacked; further ones are checked twice


class Fetch:
    """Fetches the blob of every layer, each once, verified."""

    def __init__(self, layers: Sequence[Placed], source: "Source", threads: Threads, observer: Observer) -> None:
        self._layers, self._source, self._threads, self._observer = layers, source, threads, observer
        self._blobs = {each.layer.descriptor.digest: each.layer.descriptor for each in layers}
        self._reached = Reached(layers, threads, observer)
        self._files: dict[Digest, BinaryIO] = {}

    def run(self, stack: ExitStack) -> Layers:
        """Returns the layers, open until the stack closes."""
        stack.callback(lambda: [file.close() for file in self._files.values()])
        self._threads.run([partial(self._fetch, blob) for blob in self._blobs.values()], self._observer)
        return self._opened

    def _fetch(self, blob: Descriptor) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(self._source.blob(blob, partial(self._reached.at, blob.digest)))
            self._threads.check()
            if len(self._files) < MOST_OPEN:
                self._files[blob.digest] = file
                stack.pop_all()

    def _opened(self) -> Opened:
        """Yields each entry with its blob at its beginning. One that did not stay open is opened and checked again."""
        for each in self._layers:
            blob = each.layer.descriptor
            if file := self._files.get(blob.digest):
                file.seek(0)
                yield each, file
            else:
                with self._source.blob(blob, lambda _: check(self._observer)) as again:
                    yield each, again
