"""What the cache holds and what may go: kits that were used longest ago, and what belongs to no kit."""

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runtime.errors import BadContent
from runtime.kit import files
from runtime.kit.cache.index import names
from runtime.kit.cache.store import Store, storing
from runtime.kit.format.digest import Digest
from runtime.kit.format.head import chain_digests
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Manifest


class Held(NamedTuple):
    """One kit in the cache. `used` is when it was served or pulled last, in seconds since 1970; 0: never."""

    digest: Digest
    names: tuple[str, ...]
    blobs: frozenset[Digest]  # what its manifest names, and itself
    tree_bytes: int
    used: float
    in_use: bool


def held_kits(store: Store) -> list[Held]:
    """Returns the kits of the cache, also those that are being pulled, the one used longest ago first.

    Raises StorageFailed.
    """
    with storing(store.root):
        named = names(store.root)
        here = {*named, *_digests(store.root / "kits")}
        used = _digests(store.root / "locks", "use-")
        kits = [_held(store, each, tuple(named.get(each, ()))) for each in here | used]
        return sorted((kit for kit in kits if kit.digest in here or kit.in_use), key=lambda kit: kit.used)


def blob_bytes(store: Store) -> dict[Digest, int]:
    """Returns the sizes of all blobs. Raises StorageFailed."""
    with storing(store.root):
        paths = [path for kind in ("sha256", "sha512") for path in _listed(store.root / "blobs" / kind)]
        return {Digest(path.parent.name, path.name): path.lstat().st_size for path in paths}


def total_bytes(store: Store) -> int:
    """Returns the bytes of all files in the cache. Raises StorageFailed."""
    with storing(store.root):
        return _size(store.root)


def evict(store: Store, most_bytes: int) -> list[Held]:
    """Removes the kits used longest ago until the cache has at most so many bytes. None that is in use is removed, and
    none that was never used from here: the folder may be a layout that another program wrote.

    Returns the removed ones. Raises StorageFailed.
    """
    removed = []
    while total_bytes(store) > most_bytes:
        kits = held_kits(store)
        gone = next((kit for kit in kits if kit.used and not kit.in_use and _remove(store, kit)), None)
        if gone is None:
            break
        removed.append(gone)
        remove_unnamed(store, gone.blobs, [kit for kit in kits if kit is not gone])
    return removed


def remove_unnamed(store: Store, blobs: Iterable[Digest], kits: Iterable[Held]) -> list[Digest]:
    """Removes those of the blobs, with their skeletons, that belong to none of the kits. Raises StorageFailed."""
    named = frozenset[Digest]().union(*(kit.blobs for kit in kits))
    unnamed = [digest for digest in blobs if digest not in named]
    for digest in unnamed:
        store.discard(digest)
    return unnamed


def abandoned(store: Store) -> list[Path]:
    """Returns the files and trees that no process writes any more. Raises StorageFailed."""
    with storing(store.root):
        return [path for path in store.unfinished() if files.is_abandoned(path)]


def _remove(store: Store, kit: Held) -> bool:
    """Removes the tree and the names of a kit; False if a process uses it now."""
    with storing(store.root):
        lock = store.lock_of_use(kit.digest)
        try:
            if not _is_free(lock):
                return False
            store.forget(kit.digest)
            return True
        finally:
            os.close(lock)


def _held(store: Store, digest: Digest, names: tuple[str, ...]) -> Held:
    tree, blobs = store.kit_path(digest), {digest}
    for each in chain_digests(store.read(digest, MAX_DOCUMENT_BYTES) or b"") or [digest]:
        with suppress(BadContent):
            manifest = Manifest.parse(store.read(each, MAX_DOCUMENT_BYTES) or b"", expected=each)
            blobs |= {each, manifest.config.digest, *(layer.descriptor.digest for layer in manifest.layers)}
    used, in_use = 0.0, False
    with suppress(OSError):  # no process has used it here
        lock = store.lock_of_use(digest, make=False)
        used, in_use = os.fstat(lock).st_mtime, not _is_free(lock)
        os.close(lock)
    return Held(digest, names, frozenset(blobs), _size(tree), used, in_use)


def _is_free(lock: int) -> bool:
    """Tells whether no process has the lock. On a file system without locks this is unknown, and nothing is free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _digests(folder: Path, prefix: str = "") -> set[Digest]:
    """Returns the digests that names in the folder have after the prefix."""
    found = set()
    for path in _listed(folder):
        digits = path.name.removeprefix(prefix)
        if path.name.startswith(prefix):
            with suppress(ValueError):
                found.add(Digest("sha256" if len(digits) == 64 else "sha512", digits))
    return found


def _listed(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


def _size(path: Path) -> int:
    size = 0
    for folder, _, found in os.walk(path):
        for name in found:
            with suppress(FileNotFoundError):  # renamed meanwhile
                size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - as many as there are
    return size
