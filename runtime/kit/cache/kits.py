"""The unpacked tree of one kit in the cache: built under another name, and renamed once it is whole.

Its files are not synced one by one: what a crash leaves of them is noticed when they are checked, and built again.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.kit.cache.store import TEMPORARY, Store, storing
from runtime.kit.files import locked, open_lock, remove, sync, temporary_name

_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@contextmanager
def building(store: Store) -> Iterator[Path]:
    """Makes an empty folder, locked so that no sweep removes it. It is removed at the end unless it was renamed."""
    store.prepare()
    folder = _aside(store)
    with storing(store.root):
        folder.mkdir(mode=0o755)
        lock = open_lock(folder)
    with locked(lock, lambda: None):
        try:
            yield folder
        finally:
            remove(folder)


def publish(store: Store, folder: Path, target: Path, is_whole: Callable[[Path], bool]) -> None:
    """Renames the folder to its final name. What stands there stays if it `is_whole`: another process was faster.

    Else it gets another name first, and is removed.
    """
    with storing(store.root):
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in _TAKEN and not target.is_symlink() and not target.is_file():
                raise
            if is_whole(target):
                return
            old = _aside(store)
            target.rename(old)
            folder.rename(target)
            remove(old)
        sync(target.parent)


def _aside(store: Store) -> Path:
    return store.root / "kits" / temporary_name(f"{TEMPORARY}kit")
