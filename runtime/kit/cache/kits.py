"""The unpacked tree of one kit in the cache: compared with its verified blobs, or built from them.

A tree that is there already is never believed, only compared. It is built under another name and renamed when whole;
its files are not synced one by one, since what a crash leaves of them fails the comparison and is built anew.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.kit.cache.store import PARTIAL, Store, partial_name, remove, storing, sync_folder, try_lock
from runtime.kit.unpack.walk import same, unpack

if TYPE_CHECKING:
    from runtime.kit.format.digest import Digest
    from runtime.kit.format.placing import Placed

Layers = Callable[[], Iterator[tuple["Placed", BinaryIO]]]
"""Goes through the entries once, each with its verified blob at its beginning; may be called several times."""

_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})


def unpacked(
    store: Store, digest: Digest, layers: Layers, *, check: Callable[[], None], pause: Callable[[float], None]
) -> tuple[Path, bool]:
    """The folder that holds exactly what `layers` say, and whether one that did not was replaced.

    `check` is called at every step and may raise to give up, `pause` sleeps likewise. Raises what `unpack` raises.
    """
    target = store.kit_path(digest)
    if _holds(target, layers, check):
        return target, False
    with store.locked(f"kit-{digest.hex}", pause):
        found = os.path.lexists(target)
        if found and _holds(target, layers, check):
            return target, False  # another process was faster
        with _building(store) as folder:
            unpack(layers(), folder, checkpoint=check)
            _publish(store, folder, target)
        return target, found


def _holds(target: Path, layers: Layers, check: Callable[[], None]) -> bool:
    return os.path.lexists(target) and same(layers(), target, checkpoint=check)


@contextmanager
def _building(store: Store) -> Iterator[Path]:
    """An empty folder that nobody reads, locked against being swept; gone at the end unless it was renamed."""
    folder = _aside(store)
    with storing(store.root):
        folder.mkdir(mode=0o755)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try_lock(fd)
        yield folder
    finally:
        os.close(fd)
        remove(folder)


def _publish(store: Store, folder: Path, target: Path) -> None:
    """Rename the folder to its final name; what stood there goes first, as whatever it is, under another name."""
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
        sync_folder(target.parent)


def _aside(store: Store) -> Path:
    return store.root / "kits" / partial_name(f"{PARTIAL}kit")
