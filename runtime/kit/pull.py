"""From a reference to a folder of verified files: the order of things, and nothing else.

source   = where the reference points                 registry (behind the cache), OCI layout, archive, folder
manifest = its bytes, by digest                       resolved once; everything else goes by digest
kitfile  = the config, verified                       the watch hears of it before any layer comes
layers   = what serving needs: model, parts, code     verified while they come, several at a time; no datasets, docs
root     = the tree of those layers                   compared with the blobs if it is there, else built

A folder that `runtime unpack` made is its own root: its files are compared with the receipt in it instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.errors import Cancelled, InvalidManifest, StorageFailed
from runtime.kit.cache.kits import Layers, unpacked
from runtime.kit.cache.store import Store, storing
from runtime.kit.crew import Crew
from runtime.kit.format.json_text import MAX_DOCUMENT_BYTES
from runtime.kit.format.kitfile import Kitfile, check_servable
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.media_types import OCI_MANIFEST
from runtime.kit.format.placing import Placed, needed, place, unplaced
from runtime.kit.registry.source import RegistrySource
from runtime.kit.watch import Phase, Watch

if TYPE_CHECKING:
    from runtime.kit.disk.folder import FolderKit
    from runtime.kit.format.digest import Digest
    from runtime.kit.format.reference import Reference
    from runtime.kit.installed.receipt import Receipt
    from runtime.kit.source import Source

__all__ = ["Kit", "PullOptions", "Resolved", "Watch", "fetch", "pull", "resolve", "verified_layers"]

THREADS: Final = 4
_SHOWN: Final = 5
"""Of many things one warning is about."""
MOST_OPEN: Final = 200
"""Verified blobs kept open from their check to their unpacking; of more than that some are hashed twice."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a pull may be told. `docker_config`: a config.json or its folder, instead of the usual places."""

    cache_dir: Path
    plain_http: bool = False
    retry_budget_seconds: float = 30.0
    docker_config: Path | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference names, before any layer was fetched. A folder has no manifest and no source.

    `config`: the Kitfile as the kit has it, in JSON. A folder with a receipt goes by the reference in that.
    """

    reference: Reference
    manifest: Manifest | None
    kitfile: Kitfile
    placed: tuple[Placed, ...]
    source: Source | None
    folder: FolderKit | None = None
    config: bytes = field(default=b"", repr=False)
    crew: Crew = field(default_factory=Crew, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit on disk, as far as serving needs it. `verified`: every file below `root` was compared with the blobs that
    the manifest `digest` names, or with the receipt of an unpack that did so; `verified_bytes` counts those blobs,
    manifest and config, or those files. `layers`: which one each entry came from, by its path; of a folder none.
    """

    reference: Reference
    digest: Digest | None
    kitfile: Kitfile
    root: Path
    verified: bool
    verified_bytes: int
    layers: Mapping[str, Digest] = field(default_factory=dict)


def pull(reference: Reference, options: PullOptions, watch: Watch) -> Kit:
    """The kit, fetched and verified. Raises every kind of Failure that has to do with kits, Cancelled among them."""
    return fetch(resolve(reference, options, watch), options, watch)


def resolve(reference: Reference, options: PullOptions, watch: Watch) -> Resolved:
    """Manifest and config alone, verified; of a folder its Kitfile."""
    with _timed(watch, "resolve"):
        if reference.kind == "folder":
            return _resolve_folder(reference, watch)
        crew = Crew(THREADS)
        (found,) = crew.run([partial(_read_head, reference, options, crew, watch)], watch)
    if not (reference.tag_given or reference.digest):
        digest = str(found.reference.digest)
        watch.warning("tag.defaulted", reference=str(reference), digest=digest, pin=f"{reference}@{digest}")
    return found


def fetch(resolved: Resolved, options: PullOptions, watch: Watch) -> Kit:
    """The layers that serving needs, verified and unpacked; nothing is fetched for a kit that cannot be served."""
    check_servable(resolved.kitfile)
    if resolved.folder is not None:
        return _fetch_folder(resolved, resolved.folder, watch)
    return _Fetch(resolved, options, watch).run()


@contextmanager
def verified_layers(resolved: Resolved, options: PullOptions, watch: Watch) -> Iterator[Layers]:
    """The layers that serving needs, verified, to be gone through inside the block; the cache gets no tree of them.

    Not of a folder. Raises as `fetch` does, except what unpacking can raise.
    """
    check_servable(resolved.kitfile)
    fetching = _Fetch(resolved, options, watch)
    with ExitStack() as stack:
        yield fetching.layers(stack)
    fetching.name()


def _fetch_folder(resolved: Resolved, folder: FolderKit, watch: Watch) -> Kit:
    if folder.receipt is None:
        return Kit(resolved.reference, None, resolved.kitfile, folder.root, verified=False, verified_bytes=0)
    with _timed(watch, "fetch"):
        verified_bytes = _recheck(folder.root, folder.receipt, watch)
    digest = folder.receipt.digest
    return Kit(resolved.reference, digest, resolved.kitfile, folder.root, verified=True, verified_bytes=verified_bytes)


def _recheck(root: Path, receipt: Receipt, watch: Watch) -> int:
    from runtime.kit.installed.recheck import recheck

    def reached(path: str, done_bytes: int, total_bytes: int) -> None:
        if watch.cancelled():
            raise Cancelled(f"the check of folder {str(root)!r} was cancelled")
        watch.progress(path, done_bytes, total_bytes)

    return recheck(root, receipt, reached)


def _resolve_folder(reference: Reference, watch: Watch) -> Resolved:
    from runtime.kit.disk.folder import FolderKit

    assert reference.path is not None  # of every folder reference
    folder = FolderKit.open(reference.path)
    if folder.left_out:
        watch.warning("folder.left_out", reason="neither file nor folder", files=list(folder.left_out[:10]))
    watch.kitfile(folder.kitfile)
    if folder.receipt is not None:
        reference = replace(folder.receipt.reference, name=reference.name)
    return Resolved(reference, None, folder.kitfile, (), None, folder)


def _read_head(reference: Reference, options: PullOptions, crew: Crew, watch: Watch) -> Resolved:
    """Resolve the reference and read what it names. Runs in the crew."""
    source = _source(reference, options, crew)
    found, raw = source.resolve(reference)
    manifest = Manifest.parse(raw, expected=found.digest, subject=str(found))
    crew.post(partial(watch.resolved, found, manifest))
    config = _read_config(source, manifest.config, crew)
    kitfile = Kitfile.parse_json(config, manifest.layers)
    crew.post(partial(watch.kitfile, kitfile))
    placed = place(kitfile, manifest)
    if strays := unplaced(placed, manifest):
        first = [str(layer.descriptor.digest) for layer in strays[:_SHOWN]]
        crew.warn(
            "layers.unnamed", count=len(strays), kinds=sorted({layer.kind for layer in strays})[:_SHOWN], first=first
        )
    return Resolved(found, manifest, kitfile, placed, source, crew=crew, config=config)


def _source(reference: Reference, options: PullOptions, crew: Crew) -> Source:
    if reference.kind != "registry":
        from runtime.kit.disk.layout import open_source

        return open_source(reference)
    return RegistrySource(
        reference,
        Store(options.cache_dir),
        crew,
        plain_http=options.plain_http,
        retry_budget_seconds=options.retry_budget_seconds,
        docker_config=options.docker_config,
    )


def _read_config(source: Source, config: Descriptor, crew: Crew) -> bytes:
    if config.size > MAX_DOCUMENT_BYTES:
        raise InvalidManifest(
            f"the config {config.digest} has {config.size} bytes, at most {MAX_DOCUMENT_BYTES} are read"
        )
    with source.blob(config, lambda _: crew.check()) as file:
        return file.read()


class _Fetch:
    """One fetch: which blobs it needs, how far it is."""

    def __init__(self, resolved: Resolved, options: PullOptions, watch: Watch) -> None:
        assert resolved.manifest is not None  # only folders have none, and
        assert resolved.source is not None  # those are not fetched
        self._resolved, self._watch = resolved, watch
        self._manifest, self._source, self._crew = resolved.manifest, resolved.source, resolved.crew
        self._store = Store(options.cache_dir)
        self._remote = resolved.reference.kind == "registry"
        self._layers = needed(resolved.placed)
        self._paths = {each.layer.descriptor.digest: each.entry.path for each in reversed(self._layers)}
        self._blobs = {each.layer.descriptor.digest: each.layer.descriptor for each in self._layers}
        self._total = sum(blob.size for blob in self._blobs.values())
        self._done = 0

    def run(self) -> Kit:
        with ExitStack() as stack:
            layers = self.layers(stack, unpacked_here=True)
            with _timed(self._watch, "unpack"):
                root = self._unpack(layers)
        self.name()
        verified = len(self._manifest.raw) + self._manifest.config.size + self._total
        reference, kitfile = self._resolved.reference, self._resolved.kitfile
        digests = {each.entry.path: each.layer.descriptor.digest for each in self._layers}
        digest = self._manifest.digest
        return Kit(reference, digest, kitfile, root, verified=True, verified_bytes=verified, layers=digests)

    def layers(self, stack: ExitStack, *, unpacked_here: bool = False) -> Layers:
        """The layers, verified; good until the stack closes. `unpacked_here`: whether the cache gets the tree, too."""
        stack.callback(self._hang_up)
        with _timed(self._watch, "fetch"):
            self._watch.progress("", 0, self._total)
            self._check_room(unpacked_here=unpacked_here)
            return partial(self._open_layers, self._fetch_all(stack))

    def _hang_up(self) -> None:
        """Close connections: a server that runs for months has no use for them."""
        if isinstance(self._source, RegistrySource):
            self._source.close()

    def name(self) -> None:
        """Enter a kit that is in the cache into its index, for others; a full or read-only one serves all the same."""
        if not self._remote:
            return
        try:
            self._store.name(_cached_name(self._resolved.reference), self._manifest, OCI_MANIFEST)
        except StorageFailed as error:
            self._watch.warning("cache.not_indexed", reference=str(self._resolved.reference), reason=str(error))

    def _check_room(self, *, unpacked_here: bool) -> None:
        """Refuse what cannot fit, before it is tried. Compressed layers count as they are: the least they can take."""
        with storing(self._store.root):
            missing = [blob for digest, blob in self._blobs.items() if not self._store.blob_path(digest).exists()]
            wanted = sum(blob.size for blob in missing) if self._remote else 0
            if unpacked_here and not self._store.kit_path(self._manifest.digest).exists():
                wanted += self._total
        if wanted and wanted > (free := self._store.free_bytes()):
            raise StorageFailed(
                f"the cache {self._store.root} has {free} bytes free, {self._resolved.reference} needs {wanted}: "
                "free some, or choose another folder with --cache-dir"
            )

    def _fetch_all(self, stack: ExitStack) -> dict[Digest, BinaryIO]:
        """Every needed blob once, verified; the first MOST_OPEN stay open until the stack closes."""
        files: dict[Digest, BinaryIO] = {}
        stack.callback(lambda: [file.close() for file in files.values()])
        self._crew.run([partial(self._fetch_one, blob, files) for blob in self._blobs.values()], self._watch)
        return files

    def _fetch_one(self, blob: Descriptor, files: dict[Digest, BinaryIO]) -> None:
        file = self._source.blob(blob, partial(self._grown, blob))
        try:
            self._crew.check()
        except BaseException:
            file.close()
            raise
        if len(files) < MOST_OPEN:
            files[blob.digest] = file
        else:
            file.close()

    def _grown(self, blob: Descriptor, new_bytes: int) -> None:
        """Progress of one blob, in a thread of the crew; also where that thread learns that it shall stop."""
        self._crew.check()
        self._crew.post(partial(self._tell, self._paths[blob.digest], new_bytes))

    def _tell(self, path: str, new_bytes: int) -> None:
        self._done += new_bytes
        self._watch.progress(path, self._done, self._total)

    def _unpack(self, layers: Layers) -> Path:
        root, replaced = unpacked(self._store, self._manifest.digest, layers, check=self._check, pause=self._pause)
        if replaced:
            self._watch.warning("kit.differed", folder=str(root), action="unpacked again from verified blobs")
        return root

    def _open_layers(self, files: dict[Digest, BinaryIO]) -> Iterator[tuple[Placed, BinaryIO]]:
        """Each entry with its blob at its beginning; one that did not stay open is opened, and verified, again."""
        for each in self._layers:
            blob = each.layer.descriptor
            if file := files.get(blob.digest):
                file.seek(0)
                yield each, file
            else:
                with self._source.blob(blob, lambda _: self._check()) as again:
                    yield each, again

    def _check(self) -> None:
        if self._watch.cancelled():
            raise Cancelled(f"the pull of {self._resolved.reference} was cancelled")

    def _pause(self, seconds: float) -> None:
        self._check()
        time.sleep(seconds)


def _cached_name(reference: Reference) -> str:
    """What index.json calls a kit: host, repository and tag, so that a tag that moves is replaced; else the digest."""
    text = str(reference)
    return text.partition("@")[0] if reference.tag else text


@contextmanager
def _timed(watch: Watch, name: Phase) -> Iterator[None]:
    started = time.monotonic()
    yield
    watch.phase(name, time.monotonic() - started)
