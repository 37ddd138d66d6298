"""A registry behind the cache: asked only for what is not here."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from runtime.errors import DigestMismatch, SizeMismatch
from runtime.kit.cache.store import Store
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, verified_digest
from runtime.kit.format.reference import Reference
from runtime.kit.threads import Threads

if TYPE_CHECKING:
    from runtime.kit.registry.repository import Repository


class PullOptions(NamedTuple):
    """What a pull may be told."""

    cache_dir: Path
    plain_http: bool = False
    retry_budget_seconds: float = 30.0


class RegistrySource:
    """The manifest and the blobs of a kit in a registry; `disk.layout.LayoutSource` is the same for a disk."""

    def __init__(self, reference: Reference, options: PullOptions, threads: Threads) -> None:
        self._reference, self._options, self._threads = reference, options, threads
        self._store = Store(options.cache_dir)
        self._lock = threading.Lock()
        self._opened: Repository | None = None

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """Returns the reference with its digest, and the manifest's bytes. Raises NotFound, naming tags that exist."""
        if reference.digest and (raw := self._store.read(reference.digest, MAX_DOCUMENT_BYTES)) is not None:
            return reference, raw
        self._store.prepare()
        raw = self._repository().manifest(str(reference.digest or reference.tag))
        digest = verified_digest(raw, reference.digest, None)
        self._store.add(digest, raw)
        return replace(reference, digest=digest), raw

    def blob(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        """Returns an open, seekable file at its beginning, whose size and digest have been checked.

        `reached` gets each position in the blob, and an earlier one when bytes are read again. Raises SizeMismatch,
        DigestMismatch, NotFound, and what `reached` raises (so a pull can be cancelled).
        """
        if (file := self._cached(descriptor, reached)) is not None:
            return file
        with self._store.locked(descriptor.digest.hex, self._threads.check):
            if (file := self._cached(descriptor, reached)) is not None:
                return file  # another process was faster
            return self._fetch(descriptor, reached)

    def close(self) -> None:
        """Closes connections: a server that runs for months has no use for them."""
        if self._opened is not None:
            self._opened.close()

    def _cached(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO | None:
        try:
            return self._store.open(descriptor, reached)
        except (SizeMismatch, DigestMismatch) as mismatch:
            self._warn("blob.spoiled", descriptor, mismatch)
            self._store.discard(descriptor.digest)
            return None

    def _fetch(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        try:
            return self._download(descriptor, reached, fresh=False)
        except (SizeMismatch, DigestMismatch) as mismatch:
            self._warn("blob.differed", descriptor, mismatch)
        try:  # once more, past any cache on the way
            return self._download(descriptor, reached, fresh=True)
        except (SizeMismatch, DigestMismatch) as mismatch:
            way_out = "push the kit again, or look for what changes it on the way"
            raise type(mismatch)(f"{mismatch}, also when asked again; {way_out}") from mismatch

    def _download(self, descriptor: Descriptor, reached: Callable[[int], None], *, fresh: bool) -> BinaryIO:
        from runtime.kit.registry.download import Download

        with self._store.ingest(descriptor.digest) as file:
            Download(descriptor, file, self._repository(), reached, fresh).run()
            return file.publish()

    def _repository(self) -> "Repository":
        with self._lock:
            if self._opened is None:
                from runtime.kit.registry.repository import Repository  # with requests: not for a cached kit

                budget, pause = self._options.retry_budget_seconds, self._threads.pause
                self._opened = Repository(self._reference, budget, pause, plain_http=self._options.plain_http)
            return self._opened

    def _warn(self, event: str, descriptor: Descriptor, reason: Exception) -> None:
        self._threads.warn(event, digest=str(descriptor.digest), reason=str(reason), action="fetched again")
