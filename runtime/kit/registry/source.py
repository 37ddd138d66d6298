"""A registry as the source of a kit, with the cache in front of it: asked only for what is not here already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from runtime.errors import DigestMismatch, SizeMismatch
from runtime.kit.cache.store import Spoiled, Store
from runtime.kit.format.json_text import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, verified_digest

if TYPE_CHECKING:
    from runtime.kit.crew import Crew
    from runtime.kit.format.reference import Reference
    from runtime.kit.registry.repository import Repository


class RegistrySource:
    """One repository of a registry. Imports what speaks HTTP only when something has to be asked for."""

    def __init__(
        self,
        reference: Reference,
        store: Store,
        crew: Crew,
        *,
        plain_http: bool,
        retry_budget_seconds: float,
        docker_config: Path | None,
    ) -> None:
        self._reference, self._store, self._crew = reference, store, crew
        self._plain_http, self._budget, self._docker_config = plain_http, retry_budget_seconds, docker_config
        self._lock = threading.Lock()
        self._opened: Repository | None = None

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """The reference with its digest, and the manifest, which is kept; pinned and here, it needs no request."""
        if reference.digest and (raw := self._store.read(reference.digest, MAX_DOCUMENT_BYTES)) is not None:
            return reference, raw
        self._store.prepare()
        raw = self._repository().manifest(str(reference.digest or reference.tag))
        digest = verified_digest(raw, reference.digest, None)
        self._store.add(digest, raw)
        return reference.with_digest(digest), raw

    def blob(self, descriptor: Descriptor, progress: Callable[[int], None]) -> BinaryIO:
        """The blob from the cache, else from the registry. See `Source.blob`."""
        reached = _Growth(progress)
        if (file := self._cached(descriptor, reached)) is not None:
            return file
        with self._store.locked(descriptor.digest.hex, self._crew.pause):
            if (file := self._cached(descriptor, reached)) is not None:
                return file  # another process was faster
            return self._fetch(descriptor, reached)

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()

    def _cached(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO | None:
        try:
            return self._store.open(descriptor, reached)
        except Spoiled as spoiled:
            self._crew.warn("blob.spoiled", digest=str(descriptor.digest), reason=str(spoiled), action="fetched again")
            self._store.discard(descriptor.digest)
            return None

    def _fetch(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        """From the registry; bytes that differ are asked for once more, past any cache on the way."""
        try:
            return self._download(descriptor, reached, fresh=False)
        except (SizeMismatch, DigestMismatch) as mismatch:
            self._crew.warn(
                "blob.differed", digest=str(descriptor.digest), reason=str(mismatch), action="fetched again"
            )
        try:
            return self._download(descriptor, reached, fresh=True)
        except (SizeMismatch, DigestMismatch) as mismatch:
            way_out = "push the kit again, or look for what changes it on the way"
            raise type(mismatch)(f"{mismatch}, also when asked again; {way_out}") from mismatch

    def _download(self, descriptor: Descriptor, reached: Callable[[int], None], *, fresh: bool) -> BinaryIO:
        from runtime.kit.registry.download import Download

        repository = self._repository()
        patience = repository.patience()
        with self._store.ingest(descriptor.digest) as ingest:
            open_body = partial(repository.open_blob, descriptor, patience=patience, fresh=fresh)
            Download(descriptor, ingest, open_body, patience, reached).run()
            return ingest.publish()

    def _repository(self) -> Repository:
        with self._lock:
            if self._opened is None:
                from runtime.kit.registry.repository import Repository

                self._opened = Repository(
                    self._reference,
                    plain_http=self._plain_http,
                    retry_budget_seconds=self._budget,
                    docker_config=self._docker_config,
                    pause=self._crew.pause,
                )
            return self._opened


class _Growth:
    """Turns positions, which fall back when bytes come again, into new bytes, which add up to the size."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._farthest = progress, 0

    def __call__(self, position: int) -> None:
        if position > self._farthest:
            self._progress(position - self._farthest)
            self._farthest = position
