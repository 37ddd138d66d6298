"""A registry behind the cache: asked only for what is not here."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from runtime.errors import DigestMismatch, LoginRefused, NotFound, RegistryUnavailable, SizeMismatch
from runtime.kit.cache.index import names
from runtime.kit.cache.store import RESUMED_BYTES, Store, Use
from runtime.kit.files import CHUNK_BYTES
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, verified_digest
from runtime.kit.format.reference import Reference
from runtime.kit.lane import Count, Take, checking
from runtime.kit.threads import Threads

if TYPE_CHECKING:
    from runtime.kit.registry.credentials import Given
    from runtime.kit.registry.repository import Repository

_MIRROR_SECONDS = 5.0  # how long a mirror is tried that does not answer


class PullOptions(NamedTuple):
    """What a pull may be told."""

    cache_dir: Path
    plain_http: bool = False
    retry_budget_seconds: float = 30.0
    min_rate: int = 1000  # bytes a second
    keep_blobs: bool = True
    pull: str = "always"  # when a registry is asked what a tag means: always, missing, never
    cache_check: str = "full"  # or stat
    cache_max_bytes: int = 0  # 0: no limit
    registry_user: str | None = None  # for the registry of the reference, with the file of the password
    registry_password_file: Path | None = None
    mirrors: tuple[tuple[str, str], ...] = ()  # hosts, and what is asked for their layers first
    select: tuple[tuple[str, str], ...] = ()  # labels of the one kit of an index
    verify_keys: tuple[Path, ...] = ()  # of which one has to have signed the kit, if there are any
    verify_claims: tuple[tuple[str, str], ...] = ()  # what the signature has to say
    must_be_signed: bool = True  # else a kit that is not signed is only a warning


class AskAgain(Exception):
    """A blob had other bytes than its digest says: their receiver has to begin again. A warning was given."""


class RegistrySource:
    """The manifest and the blobs of a kit in a registry; `disk.layout.LayoutSource` is the same for a disk."""

    def __init__(self, reference: Reference, options: PullOptions, threads: Threads, *, is_named: bool = True) -> None:
        self._is_named = is_named  # by the operator, who gave a login for it
        self._reference, self._options, self._threads = reference, options, threads
        self.store = Store(options.cache_dir)
        self._lock = threading.Lock()
        self._opened: Repository | None = None
        self._mirror_failed = False
        self._differed: set[Digest] = set()  # what came with other bytes once
        self._use: Use | None = None  # keeps what comes from being removed before the kit is whole

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """Returns the reference with its digest, and the manifest's bytes. Raises NotFound, naming tags that exist."""
        known = reference.digest
        if known is None and self._options.pull != "always":
            name = str(reference)
            known = next((digest for digest, each in names(self.store.root).items() if name in each), None)
        if known and (raw := self.store.read(known, MAX_DOCUMENT_BYTES)) is not None:
            self._use = self.store.use(known)
            return replace(reference, digest=known), raw
        self.store.prepare()
        raw = self._repository().manifest(str(reference.digest or reference.tag))
        digest = verified_digest(raw, reference.digest, None)
        self._use = self.store.use(digest)
        self.store.add(digest, raw)
        return replace(reference, digest=digest), raw

    def blob(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        """Returns an open, seekable file at its beginning, whose size and digest have been checked.

        `reached` gets each position in the blob, and an earlier one when bytes are read again. Raises SizeMismatch,
        DigestMismatch, NotFound, and what `reached` raises (so a pull can be cancelled).
        """
        while True:
            try:
                if (file := self.store.open(descriptor, reached)) is not None:
                    return file
            except (SizeMismatch, DigestMismatch) as mismatch:
                self._discard(descriptor, mismatch)
            with suppress(AskAgain), self._locked(descriptor):
                if not self.holds(descriptor) and (file := self._fetch(descriptor, Count(reached), keep=True)):
                    return file  # another process was not faster

    def holds(self, descriptor: Descriptor) -> bool:
        """Tells whether a blob is here, right or wrong."""
        return self.store.blob_path(descriptor.digest).exists()

    def stream(self, descriptor: Descriptor, take: Take, *, keep: bool) -> None:
        """Hands all bytes of a blob to `take` in order. Only once it returns it is known that they were the right ones.

        With `keep` the blob is in the cache then. Raises AskAgain if the bytes were wrong, and can be asked for again;
        else what `blob` raises.
        """
        if self._stream_cached(descriptor, take):
            return
        with self._locked(descriptor) if keep else nullcontext():
            if not self._stream_cached(descriptor, take) and (file := self._fetch(descriptor, take, keep=keep)):
                file.close()

    def attached(self, name: str) -> bytes | None:
        """Returns the manifest with this tag or digest, which is compared; None if there is none. From no cache."""
        raw = self._repository().find(name)
        if raw is not None and ":" in name:
            verified_digest(raw, Digest.parse(name), None)
        return raw

    def referrers(self, digest: Digest, artifact_type: str) -> Iterator[bytes]:
        """Yields the pages of the registry's index of what refers to a manifest; none if it keeps no index."""
        return self._repository().referrers(digest, artifact_type)

    def document(self, descriptor: Descriptor) -> bytes:
        """Returns a small blob, checked, from the registry. Raises what `blob` raises."""
        from runtime.kit.registry.download import Download

        check, data = DigestCheck(descriptor.digest, descriptor.size, f"blob {descriptor.digest}"), bytearray()

        def take(piece: bytes) -> None:
            check.update(piece)
            data.extend(piece)

        Download(descriptor, check, self._repository(), take, fresh=False).run()
        check.finish()
        return bytes(data)

    def close(self) -> None:
        """Closes connections and drops buffers: a server that runs for months has no use for them."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _stream_cached(self, descriptor: Descriptor, take: Take) -> bool:
        try:
            return self.store.stream(descriptor, take)
        except (SizeMismatch, DigestMismatch) as mismatch:
            self._discard(descriptor, mismatch)
            raise AskAgain from mismatch

    def _discard(self, descriptor: Descriptor, mismatch: Exception) -> None:
        action = "removed, and not fetched again (--pull never)" if self._options.pull == "never" else "fetched again"
        self._warn("blob.spoiled", descriptor, mismatch, action)
        self.store.discard(descriptor.digest)

    def _locked(self, descriptor: Descriptor) -> AbstractContextManager[None]:
        return self.store.locked(descriptor.digest.hex, self._threads.check, self._threads.warn)

    def _fetch(self, descriptor: Descriptor, take: Take, *, keep: bool) -> BinaryIO | None:
        """Asks the registry. Returns the blob at its beginning if it was to be kept. Raises as `stream` does."""
        from runtime.kit.registry.download import Download

        digest, repository = descriptor.digest, self._repository()
        again = digest in self._differed  # past any cache on the way
        check = DigestCheck(digest, descriptor.size, f"blob {digest} from the registry")
        with ExitStack() as stack:
            file = stack.enter_context(self.store.ingest(digest)) if keep else None
            try:
                with checking(check, descriptor.size) as update:

                    def taken(data: bytes) -> None:
                        update(data)
                        if file:
                            file.write(data)
                            file.resumable = check.taken_bytes >= RESUMED_BYTES
                        take(data)

                    if descriptor.data:
                        taken(descriptor.data)
                    elif file and not again:
                        self._take_partial(digest, taken)
                    if again or not self._from_mirror(descriptor, check, taken):
                        Download(descriptor, check, repository, taken, fresh=again).run()
            except (SizeMismatch, DigestMismatch) as mismatch:
                if file:
                    file.resumable = False
                if again:
                    way_out = "push the kit again, or look for what changes it on the way"
                    raise type(mismatch)(f"{mismatch}, also when asked again; {way_out}") from mismatch
                self._differed.add(digest)
                self._warn("blob.differed", descriptor, mismatch, "fetched again")
                raise AskAgain from mismatch
            return file.publish() if file else None

    def _from_mirror(self, descriptor: Descriptor, check: DigestCheck, take: Take) -> bool:
        """Asks the mirror, if there is one. False: it has failed; what it brought until then was handed on."""
        from runtime.kit.registry.download import Download

        place = dict(self._options.mirrors).get(self._reference.registry)
        if place is None or self._mirror_failed:
            return False
        host, _, prefix = place.partition("/")
        name = f"{prefix}/{self._reference.repository}" if prefix else self._reference.repository
        budget = min(self._options.retry_budget_seconds, _MIRROR_SECONDS)
        mirror = self._open(replace(self._reference, registry=host, repository=name), budget, None)
        try:
            Download(descriptor, check, mirror, take, fresh=False).run()
            return True
        except (NotFound, LoginRefused, RegistryUnavailable) as failure:
            self._mirror_failed = not isinstance(failure, NotFound)
            self._threads.warn("mirror.failed", reason=str(failure), action=f"asked {self._reference.registry} instead")
            return False
        finally:
            mirror.close()

    def _take_partial(self, digest: Digest, take: Take) -> None:
        """Begins with what an earlier download left: its bytes are as little believed as those from the network."""
        if (partial := self.store.partial(digest)) is not None:
            with partial:
                while data := partial.read(CHUNK_BYTES):
                    take(data)

    def _repository(self) -> "Repository":
        """Returns what asks the registry. Raises NotFound if it may not be asked."""
        if self._options.pull == "never":
            what = f"{self._reference} is not whole in the cache {self.store.root}"
            raise NotFound(f"{what}, and --pull never (or --offline) asks no registry; leave that out once")
        with self._lock:
            if self._opened is None:
                from runtime.kit.registry.credentials import Given

                options = self._options
                given = Given(options.registry_user, options.registry_password_file) if self._is_named else None
                self._opened = self._open(self._reference, options.retry_budget_seconds, given)
            return self._opened

    def _open(self, reference: Reference, budget_seconds: float, given: "Given | None") -> "Repository":
        from runtime.kit.registry.repository import Repository  # with requests: not for a cached kit

        options = self._options
        return Repository(
            reference, budget_seconds, self._threads.pause,
            plain_http=options.plain_http, min_rate=options.min_rate, given=given,
            buffers=self._opened.buffers if self._opened else None,
            warn=lambda text: self._threads.warn("registry.warned", reason=text),
            retried=lambda reason: self._threads.warn("registry.retried", reason=reason),
        )  # fmt: skip

    def _warn(self, event: str, descriptor: Descriptor, reason: Exception, action: str) -> None:
        self._threads.warn(event, digest=str(descriptor.digest), reason=str(reason), action=action)
