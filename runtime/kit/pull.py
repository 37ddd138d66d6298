"""From a reference to a folder of verified files: the order of things, and nothing else.

source   = where the reference points                 registry (behind the cache), OCI layout, archive, folder
manifest = its bytes, by digest                       resolved once; everything else goes by digest
kitfile  = the config, verified                       the observer gets it before any layer comes
layers   = what serving needs: model, parts, code     verified while they come, several at a time; no datasets, docs
root     = the tree of those layers                   compared with the blobs if it is there, else built

A folder that `runtime unpack` filled is its own root: manifest and config come from its receipt, and its files are
compared with that. A plain folder has a Kitfile and nothing to compare with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from runtime.errors import Cancelled, InvalidManifest, StorageFailed
from runtime.kit.cache.kits import unpacked
from runtime.kit.cache.store import Store, storing
from runtime.kit.files import require_room
from runtime.kit.format.kitfile import Kitfile, check_servable
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.media_types import OCI_MANIFEST
from runtime.kit.format.placing import Placed, needed, place, unplaced
from runtime.kit.source import RegistrySource
from runtime.kit.threads import Threads

if TYPE_CHECKING:
    from runtime.kit.format.digest import Digest
    from runtime.kit.format.reference import Reference
    from runtime.kit.installed.receipt import Receipt
    from runtime.kit.observer import Observer, Phase
    from runtime.kit.source import Source
    from runtime.kit.unpack.walk import Layers, Opened

__all__ = ["Kit", "PullOptions", "Resolved", "Verified", "fetch", "pull", "resolve", "verified_layers"]

THREADS: Final = 4
_SHOWN: Final = 5
"""How many layers a warning names."""
MOST_OPEN: Final = 200
"""Verified blobs that stay open from their check to their unpacking; further ones are checked twice."""

Verified = Literal["true", "receipt", "false"]
"""What the files of a kit were compared with: the blobs that its manifest names; the receipt in their own folder, which
whoever can write there could have forged; or nothing."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a pull may be told."""

    cache_dir: Path
    plain_http: bool = False
    retry_budget_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference names, before any layer was fetched. `config` is the Kitfile as the kit has it, in JSON.

    A folder has a `root` in place of the source; its manifest is the receipt's, None without a receipt.
    """

    reference: Reference
    kitfile: Kitfile
    manifest: Manifest | None = None
    placed: tuple[Placed, ...] = ()
    config: bytes = field(default=b"", repr=False)
    source: Source | None = None
    root: Path | None = None
    receipt: Receipt | None = field(default=None, repr=False)
    threads: Threads = field(default_factory=lambda: Threads(THREADS), repr=False, compare=False)

    @property
    def needed_layers(self) -> Mapping[str, Digest]:
        """The digests of the layers that serving needs, by the path of their entry."""
        return {each.entry.path: each.layer.descriptor.digest for each in needed(self.placed)}


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit on disk, as far as serving needs it.

    `verified`: what every file below `root` was compared with; `verified_bytes` counts the blobs, manifest and config,
    or the files. `layers`: which layer each entry came from, by its path; none for a plain folder.
    """

    reference: Reference
    digest: Digest | None
    kitfile: Kitfile
    root: Path
    verified: Verified
    verified_bytes: int
    layers: Mapping[str, Digest] = field(default_factory=dict)


def pull(reference: Reference, options: PullOptions, observer: Observer) -> Kit:
    """Returns the kit, fetched and verified. Raises every kind of Failure that concerns kits, Cancelled among them."""
    return fetch(resolve(reference, options, observer), options, observer)


def resolve(reference: Reference, options: PullOptions, observer: Observer) -> Resolved:
    """Returns manifest and config, verified; of a plain folder its Kitfile."""
    with _timed(observer, "resolve"):
        if reference.kind == "folder":
            return _resolve_folder(reference, observer)
        threads = Threads(THREADS)
        (found,) = threads.run([partial(_read_head, reference, options, threads, observer)], observer)
    if not (reference.tag_given or reference.digest):
        tag, digest = found.reference.tag, str(found.reference.digest)
        observer.warning(
            "tag.defaulted",
            reason=f"no tag given: {tag}" + (", the only one" if tag != reference.tag else ""),
            reference=str(replace(found.reference, digest=None)),
            digest=digest,
            pin=str(found.reference),
        )
    return found


def fetch(resolved: Resolved, options: PullOptions, observer: Observer) -> Kit:
    """Returns the kit with the layers that serving needs, verified and unpacked.

    Nothing is fetched for a kit that cannot be served.
    """
    check_servable(resolved.kitfile)
    if resolved.root is not None:
        return _fetch_folder(resolved, resolved.root, observer)
    return _Fetch(resolved, options, observer).run()


@contextmanager
def verified_layers(resolved: Resolved, options: PullOptions, observer: Observer) -> Iterator[Layers]:
    """The layers that serving needs, verified, to be gone through inside the block; the cache gets no tree of them.

    Not of a folder. Raises as `fetch` does, except what unpacking can raise.
    """
    check_servable(resolved.kitfile)
    fetching = _Fetch(resolved, options, observer)
    with ExitStack() as stack:
        yield fetching.layers(stack)
    fetching.name()


def _resolve_folder(reference: Reference, observer: Observer) -> Resolved:
    from runtime.kit.disk.folder import FolderKit
    from runtime.kit.installed.receipt import installed

    path = reference.path
    assert path is not None  # of every folder reference
    if receipt := installed(path):
        reference = replace(receipt.reference, name=reference.name)
        observer.resolved(reference, receipt.manifest)
        observer.kitfile(receipt.kitfile)
        config, placed = receipt.config, receipt.placed
        return Resolved(
            reference, receipt.kitfile, receipt.manifest, placed, config, root=path.resolve(), receipt=receipt
        )
    folder = FolderKit.open(path)
    if folder.left_out:
        observer.warning("folder.left_out", reason="neither file nor folder", files=list(folder.left_out[:10]))
    if folder.exposed:
        observer.warning("folder.exposed", folder=str(folder.root), reason=folder.exposed)
    observer.kitfile(folder.kitfile)
    return Resolved(reference, folder.kitfile, root=folder.root)


def _fetch_folder(resolved: Resolved, root: Path, observer: Observer) -> Kit:
    reference, kitfile, receipt = resolved.reference, resolved.kitfile, resolved.receipt
    if receipt is None:
        return Kit(reference, None, kitfile, root, verified="false", verified_bytes=0)

    def reached(path: str, done_bytes: int, total_bytes: int) -> None:
        if observer.cancelled():
            raise Cancelled(f"the check of folder {str(root)!r} was cancelled")
        observer.progress(path, done_bytes, total_bytes)

    from runtime.kit.installed.recheck import check_writers, recheck

    with _timed(observer, "fetch"):
        check_writers(root)
        done = recheck(root, receipt, reached)
    return Kit(reference, receipt.manifest.digest, kitfile, root, "receipt", done, resolved.needed_layers)


def _read_head(reference: Reference, options: PullOptions, threads: Threads, observer: Observer) -> Resolved:
    """Resolves the reference and reads what it names. Runs in a thread that may block."""
    source = _source(reference, options, threads)
    found, raw = source.resolve(reference)
    manifest = Manifest.parse(raw, expected=found.digest, subject=str(found))
    threads.post(partial(observer.resolved, found, manifest))
    config = _read_config(source, manifest.config, threads)
    kitfile = Kitfile.parse_json(config, manifest.layers)
    threads.post(partial(observer.kitfile, kitfile))
    placed = place(kitfile, manifest)
    if strays := unplaced(placed, manifest):
        first = [str(layer.descriptor.digest) for layer in strays[:_SHOWN]]
        kinds = sorted({layer.kind for layer in strays})[:_SHOWN]
        threads.warn("layers.unnamed", count=len(strays), kinds=kinds, first=first)
    return Resolved(found, kitfile, manifest, placed, config, source, threads=threads)


def _source(reference: Reference, options: PullOptions, threads: Threads) -> Source:
    if reference.kind != "registry":
        from runtime.kit.disk.layout import open_source

        return open_source(reference)
    return RegistrySource(
        reference,
        Store(options.cache_dir),
        threads,
        plain_http=options.plain_http,
        retry_budget_seconds=options.retry_budget_seconds,
    )


def _read_config(source: Source, config: Descriptor, threads: Threads) -> bytes:
    if config.size > MAX_DOCUMENT_BYTES:
        raise InvalidManifest(
            f"the config {config.digest} has {config.size} bytes, at most {MAX_DOCUMENT_BYTES} are read"
        )
    with source.blob(config, lambda _: threads.check()) as file:
        return file.read()


class _Fetch:
    """One fetch: which blobs it needs, how far it is."""

    def __init__(self, resolved: Resolved, options: PullOptions, observer: Observer) -> None:
        assert resolved.manifest is not None  # of everything with a source
        assert resolved.source is not None  # of everything but a folder, which is not fetched
        self._resolved, self._observer = resolved, observer
        self._manifest, self._source, self._threads = resolved.manifest, resolved.source, resolved.threads
        self._store = Store(options.cache_dir)
        self._remote = resolved.reference.kind == "registry"
        self._layers = needed(resolved.placed)
        self._paths = {each.layer.descriptor.digest: each.entry.path for each in reversed(self._layers)}
        self._blobs = {each.layer.descriptor.digest: each.layer.descriptor for each in self._layers}
        self._total = sum(blob.size for blob in self._blobs.values())
        self._positions = dict.fromkeys(self._blobs, 0)
        self._done = 0

    def run(self) -> Kit:
        with ExitStack() as stack:
            layers = self.layers(stack, unpacked_here=True)
            with _timed(self._observer, "unpack"):
                root = self._unpack(layers)
        self.name()
        done = len(self._manifest.raw) + self._manifest.config.size + self._total
        reference, kitfile, digest = self._resolved.reference, self._resolved.kitfile, self._manifest.digest
        return Kit(reference, digest, kitfile, root, "true", done, self._resolved.needed_layers)

    def layers(self, stack: ExitStack, *, unpacked_here: bool = False) -> Layers:
        """The layers, verified; open until the stack closes. `unpacked_here`: whether the cache gets the tree, too."""
        stack.callback(self._source.close)
        with _timed(self._observer, "fetch"):
            self._observer.progress("", 0, self._total)
            self._check_room(unpacked_here=unpacked_here)
            return partial(self._open_layers, self._fetch_all(stack))

    def name(self) -> None:
        """Enters a kit that is in the cache into its index. A full or read-only cache is only a warning."""
        if not self._remote:
            return
        try:
            self._store.name(_cached_name(self._resolved.reference), self._manifest, OCI_MANIFEST)
        except StorageFailed as error:
            self._observer.warning("cache.not_indexed", reference=str(self._resolved.reference), reason=str(error))

    def _check_room(self, *, unpacked_here: bool) -> None:
        """Refuses what cannot fit. Compressed layers count as they are: the least they can take."""
        with storing(self._store.root):
            missing = [blob for digest, blob in self._blobs.items() if not self._store.blob_path(digest).exists()]
            wanted = sum(blob.size for blob in missing) if self._remote else 0
            if unpacked_here and not self._store.kit_path(self._manifest.digest).exists():
                wanted += self._total
            advice = "free some, or choose another folder with --cache-dir"
            require_room(self._store.root, wanted, str(self._resolved.reference), advice)

    def _fetch_all(self, stack: ExitStack) -> dict[Digest, BinaryIO]:
        """Fetches every needed blob once, verified; the first MOST_OPEN stay open until the stack closes."""
        files: dict[Digest, BinaryIO] = {}
        stack.callback(lambda: [file.close() for file in files.values()])
        self._threads.run([partial(self._fetch_one, blob, files) for blob in self._blobs.values()], self._observer)
        return files

    def _fetch_one(self, blob: Descriptor, files: dict[Digest, BinaryIO]) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(self._source.blob(blob, partial(self._reached, blob.digest)))
            self._threads.check()
            if len(files) < MOST_OPEN:
                files[blob.digest] = file
                stack.pop_all()

    def _reached(self, digest: Digest, position: int) -> None:
        """Progress of one blob, in its thread, which also learns here that it shall stop."""
        self._threads.check()
        self._threads.post(partial(self._tell, digest, position))

    def _tell(self, digest: Digest, position: int) -> None:
        if position > self._positions[digest]:  # else the bytes came before: a download begins again
            self._done += position - self._positions[digest]
            self._positions[digest] = position
            self._observer.progress(self._paths[digest], self._done, self._total)

    def _unpack(self, layers: Layers) -> Path:
        root, replaced = unpacked(self._store, self._manifest.digest, layers, check=self._check, pause=self._pause)
        if replaced:
            self._observer.warning("kit.differed", folder=str(root), action="unpacked again from verified blobs")
        return root

    def _open_layers(self, files: dict[Digest, BinaryIO]) -> Opened:
        """Yields each entry with its blob at its beginning. One that did not stay open is opened and checked again."""
        for each in self._layers:
            blob = each.layer.descriptor
            if file := files.get(blob.digest):
                file.seek(0)
                yield each, file
            else:
                with self._source.blob(blob, lambda _: self._check()) as again:
                    yield each, again

    def _check(self) -> None:
        if self._observer.cancelled():
            raise Cancelled(f"the pull of {self._resolved.reference} was cancelled")

    def _pause(self, seconds: float) -> None:
        self._check()
        time.sleep(seconds)


def _cached_name(reference: Reference) -> str:
    """Returns host, repository and tag, so that a tag that moves is replaced in index.json; else the digest."""
    text = str(reference)
    return text.partition("@")[0] if reference.tag else text


@contextmanager
def _timed(observer: Observer, name: Phase) -> Iterator[None]:
    started = time.monotonic()
    yield
    observer.phase(name, time.monotonic() - started)
