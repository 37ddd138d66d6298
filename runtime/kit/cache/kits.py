"""The unpacked tree of one kit in the cache: compared with its verified blobs, or built from them.

A tree that is there already is not believed, only compared. A new one is built under another name and renamed when
whole. Its files are not synced one by one: what a crash leaves of them fails the comparison and is built again.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.kit.cache.store import TEMPORARY, Store, storing
from runtime.kit.files import Check, locked, open_lock, remove, sync, temporary_name
from runtime.kit.format.digest import Digest
from runtime.kit.unpack.walk import Layers, same, unpack

_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})


def unpacked(store: Store, digest: Digest, layers: Layers, check: Check) -> tuple[Path, bool]:
    """Returns the folder that holds exactly what `layers` say, and whether one that did not was replaced.

    `check` is called at every step and may raise to give up. Raises what `unpack` raises.
    """
    target = store.kit_path(digest)
    if same(layers(), target, check=check):
        return target, False
    with store.locked(f"kit-{digest.hex}", check):
        found = os.path.lexists(target)
        if found and same(layers(), target, check=check):
            return target, False  # another process was faster
        with _building(store) as folder:
            unpack(layers(), folder, check=check)
            _publish(store, folder, target)
        return target, found


@contextmanager
def _building(store: Store) -> Iterator[Path]:
    """Makes an empty folder that nobody reads, locked so that no sweep removes it; gone at the end unless renamed."""
    folder = _aside(store)
    with storing(store.root):
        folder.mkdir(mode=0o755)
        lock = open_lock(folder)
    with locked(lock, lambda: None):
        try:
            yield folder
        finally:
            remove(folder)


def _publish(store: Store, folder: Path, target: Path) -> None:
    """Renames the folder to its final name. What stood there, whatever it is, gets another name first."""
    with storing(store.root):
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in _TAKEN and not target.is_symlink() and not target.is_file():
                raise
            old = _aside(store)
            target.rename(old)
            folder.rename(target)
            remove(old)
        sync(target.parent)


def _aside(store: Store) -> Path:
    return store.root / "kits" / temporary_name(f"{TEMPORARY}kit")
