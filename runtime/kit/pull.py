"""From a reference to a folder of verified files: source, manifest, Kitfile, layers, root, and nothing else.

The manifest is resolved once, and everything else goes by digest. Layers are verified while they come; the root is
compared with them if it is there, else built. A folder that `runtime unpack` filled is its own root: its files are
compared with its receipt, which has manifest and config. A plain folder has a Kitfile and nothing to compare with.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import NotSigned, StorageFailed
from runtime.kit.bring import Bring
from runtime.kit.cache.store import Store, storing
from runtime.kit.chain import Chain
from runtime.kit.fetch import Fetch
from runtime.kit.files import require_room
from runtime.kit.format.digest import Digest
from runtime.kit.format.head import Head, chain_digests, chain_document, combined_kitfile, combined_layers
from runtime.kit.format.kitfile import Kitfile, check_servable
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.placing import Placed, needed, unplaced
from runtime.kit.format.reference import Reference
from runtime.kit.kit import Kit
from runtime.kit.observer import Observer, Phase, check
from runtime.kit.source import PullOptions
from runtime.kit.threads import Threads
from runtime.kit.unpack.walk import Layers, check_layers

if TYPE_CHECKING:
    from runtime.kit.disk.folder import FolderKit
    from runtime.kit.installed.receipt import Receipt

__all__ = ["Kit", "PullOptions", "Resolved", "fetch", "pull", "resolve", "verified_layers"]

THREADS: Final = 4
_SHOWN: Final = 5  # layers that a warning names


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
    source: Chain | None = None
    root: Path | None = None
    receipt: "Receipt | None" = field(default=None, repr=False)
    parents: tuple[Head, ...] = ()
    signer: str | None = None
    threads: Threads = field(default_factory=lambda: Threads(THREADS), repr=False, compare=False)

    @property
    def tree(self) -> Digest:
        """What names the unpacked tree in the cache. Not of a folder."""
        assert self.manifest is not None
        return Digest.of(chain_document(self.manifest, self.parents)) if self.parents else self.manifest.digest

    @property
    def layers(self) -> dict[str, Digest]:
        """The digests of the layers that serving needs, by the path of their entry."""
        return {each.entry.path: each.layer.descriptor.digest for each in needed(self.placed)}

    @property
    def blobs(self) -> dict[Digest, Descriptor]:
        """The layers that serving needs, each once."""
        return {each.layer.descriptor.digest: each.layer.descriptor for each in needed(self.placed)}


def pull(reference: Reference, options: PullOptions, observer: Observer) -> Kit:
    """Returns the kit, fetched and verified. Raises every kind of Failure that concerns kits, Cancelled among them."""
    return fetch(resolve(reference, options, observer), options, observer)


def resolve(reference: Reference, options: PullOptions, observer: Observer) -> Resolved:
    """Returns manifest and config, verified; of a plain folder its Kitfile."""
    with _timed(observer, "resolve"):
        if reference.kind == "folder":
            _check_folder(reference, options, observer)
            return _resolve_folder(reference, options, observer)
        threads = Threads(THREADS)
        (found,) = threads.run([partial(_read_heads, reference, options, threads, observer)], observer)
    if not (reference.tag_given or reference.digest):
        tag, digest = found.reference.tag, str(found.reference.digest)
        if reference.kind == "registry":
            tag = tag or reference.tag  # of the index that the kit is in
        reason = f"no tag given: {tag or digest}" + (", the only one" if tag != reference.tag else "")
        name, pin = str(replace(found.reference, digest=None)), str(found.reference)
        message = f"{reason}; it is {digest} now"
        observer.warning("tag.defaulted", message=message, reason=reason, reference=name, digest=digest, pin=pin)
    return found


def fetch(resolved: Resolved, options: PullOptions, observer: Observer) -> Kit:
    """Returns the kit with the layers that serving needs, verified and unpacked. Nothing is fetched without a model."""
    check_servable(resolved.kitfile)
    if resolved.root is not None:
        return _fetch_folder(resolved, resolved.root, observer)
    manifest = resolved.manifest
    assert manifest is not None  # of everything but a plain folder
    with _fetching(resolved, options, observer, into_cache=True) as (source, store):
        layers, keep = needed(resolved.placed), options.keep_blobs
        bring = Bring(layers, source, store, resolved.threads, observer, keep=keep)
        root, replaced = bring.run(resolved.tree, by_stat=options.cache_check == "stat")
        if resolved.parents:
            with suppress(StorageFailed):  # a full or read-only disk: only `runtime cache` asks for it
                store.add(resolved.tree, chain_document(manifest, resolved.parents))
    _shrink(store, options.cache_max_bytes, observer)
    if replaced:
        observer.warning("kit.differed", folder=str(root), action="unpacked again from verified blobs")
    heads = [manifest, *(parent.manifest for parent in resolved.parents)]
    done = sum(len(each.raw) + each.config.size for each in heads)
    done += sum(blob.size for blob in resolved.blobs.values())
    if resolved.reference.kind == "folder":  # nothing says what its own files should be
        return Kit(resolved.reference, None, resolved.kitfile, root, "false", 0, resolved.layers, use=bring.use)
    found = resolved.reference, manifest.digest, resolved.kitfile, root
    return Kit(*found, "true", done, resolved.layers, resolved.signer, use=bring.use)


def is_whole(store: Store, digest: Digest, observer: Observer) -> bool | None:
    """Tells whether the tree of a kit in the cache is what its manifest says; None if that is not in the cache.

    Raises as `resolve` does.
    """
    from runtime.kit.disk.layout import open_layout

    if (raw := store.read(digest, MAX_DOCUMENT_BYTES)) is None:
        return None
    source, heads = open_layout(store.root), list[Head]()
    for each in chain_digests(raw) or [digest]:
        if (raw := store.read(each, MAX_DOCUMENT_BYTES)) is None:
            return None
        manifest = Manifest.parse(raw, expected=each)
        with source.blob(manifest.config, lambda _: check(observer)) as file:
            heads.append(Head.of(Reference("layout"), manifest, file.read()))
    layers = needed(combined_layers(heads))
    return Bring(layers, source, store, Threads(THREADS), observer, keep=False).is_whole(store.kit_path(digest))


@contextmanager
def verified_layers(resolved: Resolved, options: PullOptions, observer: Observer) -> Iterator[Layers]:
    """Gives the verified layers that serving needs, to be read inside the block. Not of a folder.

    Raises as `fetch` does.
    """
    check_servable(resolved.kitfile)
    with ExitStack() as stack:
        with _fetching(resolved, options, observer) as (source, _):
            layers = Fetch(needed(resolved.placed), source, resolved.threads, observer).run(stack)
        yield layers


@contextmanager
def _fetching(
    resolved: Resolved, options: PullOptions, observer: Observer, *, into_cache: bool = False
) -> Iterator[tuple[Chain, Store]]:
    """Refuses what can be known to fail before a layer is fetched; enters what was fetched into the cache's index."""
    source, store, layers = resolved.source, Store(options.cache_dir), needed(resolved.placed)
    assert source is not None  # of everything but a folder
    try:
        with _timed(observer, "fetch"):
            wanted = _wanted_bytes(resolved, store, keep=options.keep_blobs, into_cache=into_cache)
            if wanted and options.cache_max_bytes:
                _evict(store, options.cache_max_bytes - wanted)
            _require_room(resolved, store, wanted)
            check_layers(layers)
            yield source, store
    finally:
        source.close()
    assert resolved.manifest is not None  # of everything but a folder
    for reference, manifest in ((resolved.reference, resolved.manifest), *(each[:2] for each in resolved.parents)):
        if reference.kind == "registry":
            _enter(reference, manifest, store, observer)


def _check_folder(reference: Reference, options: PullOptions, observer: Observer) -> None:
    if not options.verify_keys:
        return
    reason = f"{reference} is a folder, which has no signature: serve the kit from where it was signed"
    if options.must_be_signed:
        raise NotSigned(f"{reason}, or leave out --verify-key")
    observer.warning("kit.not_signed", reference=str(reference), reason=reason)


def _resolve_folder(reference: Reference, options: PullOptions, observer: Observer) -> Resolved:
    from runtime.kit.disk.folder import FolderKit
    from runtime.kit.installed.receipt import installed

    path = reference.path
    assert path is not None  # of every folder reference
    if receipt := installed(path):
        reference = replace(receipt.reference, name=reference.name)
        observer.resolved(reference, receipt.manifest)
        observer.kitfile(receipt.kitfile)
        head = receipt.kitfile, receipt.manifest, receipt.placed, receipt.config
        return Resolved(reference, *head, root=path.resolve(), receipt=receipt, parents=receipt.parents)
    folder = FolderKit.open(path)
    if folder.left_out:
        observer.warning("folder.left_out", reason="neither file nor folder", files=list(folder.left_out[:10]))
    if folder.exposed:
        observer.warning("folder.exposed", folder=str(folder.root), reason=folder.exposed)
    if folder.kitfile.is_made_up:
        reason = "no Kitfile: it is taken for what its files are, unverified"
        observer.warning("kit.no_kitfile", message=f"{reference}: {reason}", path=str(path), reason=reason)
    if folder.kitfile.model and folder.kitfile.model.parent:
        threads = Threads(THREADS)
        return threads.run([partial(_read_parents, reference, folder, options, threads, observer)], observer)[0]
    observer.kitfile(folder.kitfile)
    return Resolved(reference, folder.kitfile, root=folder.root)


def _read_parents(
    reference: Reference, folder: "FolderKit", options: PullOptions, threads: Threads, observer: Observer
) -> Resolved:
    """Reads the kits that the model of a folder comes from. Runs in a thread that may block."""
    from runtime.kit.disk.child import open_child

    with _reading(options, threads) as chain:
        chain.read_parents(*open_child(reference, folder))
    return _resolved(chain, threads, observer)


def _fetch_folder(resolved: Resolved, root: Path, observer: Observer) -> Kit:
    reference, kitfile, receipt = resolved.reference, resolved.kitfile, resolved.receipt
    if receipt is None:
        return Kit(reference, None, kitfile, root, verified="false", verified_bytes=0)

    def reached(path: str, done_bytes: int, total_bytes: int) -> None:
        check(observer)
        observer.progress(path, done_bytes, total_bytes)

    from runtime.kit.installed.recheck import check_writers, recheck

    with _timed(observer, "fetch"):
        check_writers(root)
        done = recheck(root, receipt, reached)
    return Kit(reference, receipt.manifest.digest, kitfile, root, "receipt", done, resolved.layers)


def _read_heads(reference: Reference, options: PullOptions, threads: Threads, observer: Observer) -> Resolved:
    """Resolves the reference and reads what it names, parents too. Runs in a thread that may block."""
    with _reading(options, threads) as chain:
        chain.read(reference, lambda head: threads.post(partial(observer.resolved, head.reference, head.manifest)))
    return _resolved(chain, threads, observer)


@contextmanager
def _reading(options: PullOptions, threads: Threads) -> Iterator[Chain]:
    """Yields a chain, which is closed if the block fails."""
    chain = Chain(options, threads)
    try:
        yield chain
    except BaseException:
        chain.close()
        raise


def _resolved(chain: Chain, threads: Threads, observer: Observer) -> Resolved:
    head, *parents = chain.heads
    kitfile, placed = combined_kitfile(chain.heads), combined_layers(chain.heads)
    threads.post(partial(observer.kitfile, kitfile))
    if unnamed := unplaced(placed, head.manifest):
        first = [str(layer.descriptor.digest) for layer in unnamed[:_SHOWN]]
        kinds = sorted({layer.kind for layer in unnamed})[:_SHOWN]
        threads.warn("layers.unnamed", count=len(unnamed), kinds=kinds, first=first)
    if left_out := [each for each in placed if each not in needed(placed)]:
        threads.post(partial(observer.left_out, left_out))
    return Resolved(
        head.reference, kitfile, head.manifest, placed, head.config, chain,
        parents=tuple(parents), signer=chain.signer, threads=threads,
    )  # fmt: skip


def _wanted_bytes(resolved: Resolved, store: Store, *, keep: bool, into_cache: bool) -> int:
    """Returns how much the cache will grow. Compressed layers count as they are: the least they can take."""
    assert resolved.manifest is not None
    wanted, blobs = 0, resolved.blobs.values()
    with storing(store.root):
        if into_cache and store.kit_path(resolved.tree).exists():
            return 0  # with or without its blobs, unless it was changed
        if resolved.reference.kind == "registry" and (keep or not into_cache):
            wanted += sum(blob.size for blob in blobs if not store.blob_path(blob.digest).exists())
        if into_cache:
            wanted += sum(blob.size for blob in blobs)
    return wanted


def _require_room(resolved: Resolved, store: Store, wanted: int) -> None:
    """Refuses what cannot fit."""
    with storing(store.root):
        advice = "free some, or choose another folder with --cache-dir"
        require_room(store.root, wanted, str(resolved.reference), advice)


def _shrink(store: Store, most_bytes: int, observer: Observer) -> None:
    """Removes kits that were used longest ago. What is in use stays, though the cache is too large then."""
    if not most_bytes:
        return
    if (left := _evict(store, most_bytes)) > most_bytes:
        reason = f"it has {left} bytes, all of kits in use; wanted at most {most_bytes}"
        observer.warning("cache.too_large", folder=str(store.root), reason=reason)


def _evict(store: Store, most_bytes: int) -> int:
    """Returns how many bytes the cache has then."""
    from runtime.kit.cache.keeping import evict, total_bytes  # not for a cache without a limit

    evict(store, max(0, most_bytes))
    return total_bytes(store)


def _enter(reference: Reference, manifest: Manifest, store: Store, observer: Observer) -> None:
    """Enters a kit that is in the cache into its index. A full or read-only cache is only a warning."""
    text = str(reference)
    try:
        store.name(text.partition("@")[0] if reference.tag else text, manifest)  # a tag that moves is replaced
    except StorageFailed as error:
        observer.warning("cache.not_indexed", reference=text, reason=str(error))


@contextmanager
def _timed(observer: Observer, name: Phase) -> Iterator[None]:
    started = time.monotonic()
    yield
    observer.phase(name, time.monotonic() - started)
