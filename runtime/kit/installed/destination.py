"""A folder that kits are unpacked into: looked at, filled, or refused; whole at every moment, or known not to be.

`.modelkit-unpack` has the new files (`tree`) until all are written and synced, their receipt (`new.json`), and that of
what was here before (`old.json`) while it is being removed. Files get their names while there is no receipt and while
that folder is there, with which no server starts; the receipt comes last. After a crash the receipts in there tell
which files `runtime unpack` wrote. Only those are removed.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from runtime.errors import BadContent, StorageFailed, UnsafeArchive, Usage
from runtime.kit.files import NO_SPACE, Check, locked, open_lock, reading, remove, require_room, sync, write_whole
from runtime.kit.format.digest import Digest
from runtime.kit.format.head import Head
from runtime.kit.format.limits import DEFAULT_LIMITS
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.paths import KITFILE_NAME, LOST_AND_FOUND, RECEIPT_NAME, STAGING_NAME, Parts
from runtime.kit.format.reference import Reference
from runtime.kit.installed.receipt import Receipt, read_receipt
from runtime.kit.installed.recheck import Reached, check_writers, recheck
from runtime.kit.unpack.tree import FoundTree, WrittenTree
from runtime.kit.unpack.walk import Layers, walk

_RESERVED: Final = frozenset({KITFILE_NAME, RECEIPT_NAME, STAGING_NAME, LOST_AND_FOUND})
# in a layer they are left over from an earlier packing: the config is the kit's Kitfile
_LEFT_OUT: Final = frozenset({(KITFILE_NAME,), (RECEIPT_NAME,)})
_SHOWN: Final = 3  # files that a message names


class Destination(NamedTuple):
    """One folder to unpack into. `beside` tells of a relative path whether it is the cache's, which may lie in here."""

    folder: Path
    beside: Callable[[str], bool] = lambda _: False

    @contextmanager
    def locked(self, check: Check) -> Iterator[None]:
        """Makes the folder, if need be, and keeps other unpacks out of it. While it waits, `check` may raise."""
        with self._writing():
            if self.folder.exists() and not self.folder.is_dir():
                raise Usage(f"cannot unpack into {str(self.folder)!r}: it is a file, wanted a folder")
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = open_lock(self.folder)
        with locked(lock, check):
            yield

    def is_there(self) -> bool:
        """Tells whether there is such a folder, or something in its place. Raises StorageFailed."""
        with self._writing():
            return self.folder.exists()

    def holds(self, reference: Reference, reached: Reached, parents: tuple[Head, ...] = ()) -> str | None:
        """Returns why the folder has to be filled with this kit; None if it is here already, whole. Call it locked.

        A folder that others can write into is filled again: they could have put a receipt of their own there. Raises
        Usage for files that no unpack put here, StorageFailed, and what `reached` raises.
        """
        receipt = read_receipt(self.folder / RECEIPT_NAME)
        self._refuse_foreign_files(receipt)
        if receipt is None:
            return "it is empty" if not self._staged.exists() else "an earlier unpack was ended before it was done"
        if receipt.manifest.digest != reference.digest:
            return f"it holds {receipt.reference}"
        if [each.manifest.digest for each in receipt.parents] != [each.manifest.digest for each in parents]:
            return f"it holds {receipt.reference} with another parent"
        with self._writing():
            if self._staged.exists():  # not on a read-only volume, where nothing may be written
                remove(self._staged)  # its files had no names yet, or have them all
        try:
            check_writers(self.folder)
        except StorageFailed as problem:
            return str(problem)
        try:
            recheck(self.folder, receipt, reached, beside=self.beside)
        except BadContent as problem:
            return str(problem)
        if str(receipt.reference) != str(reference):  # the same kit by another tag
            renamed = receipt._replace(reference=reference).to_bytes()
            with self._writing():
                self._staged.mkdir()
                write_whole(self.folder / RECEIPT_NAME, renamed, beside=self._staged)
                remove(self._staged)
        return None

    def fill(
        self,
        reference: Reference,
        manifest: Manifest,
        config: bytes,
        layers: Layers,
        check: Check,
        parents: tuple[Head, ...] = (),
    ) -> Receipt:
        """Puts the kit in the place of whatever kit is here; `config` becomes its Kitfile. Call it locked.

        `check` may raise to give up until files get their names. Raises what `unpack` raises, and Usage as `holds`.
        """
        before = read_receipt(self.folder / RECEIPT_NAME)
        self._refuse_foreign_files(before)
        with self._writing():
            if before is None:
                self._clear()  # what a crash left
            remove(self._staged)
            self._staged.mkdir(mode=0o755)
            tree = self._staged / "tree"
            tree.mkdir(mode=0o755)
        try:
            with WrittenTree(tree, way_out="choose another folder") as written:
                hashed = _HashedTree(written)
                walk(layers(), hashed, DEFAULT_LIMITS, check)
                written.file((KITFILE_NAME,), len(config), iter([config]))
            receipt = Receipt.of(reference, manifest, config, hashed.files, parents)
            with self._writing():
                _sync_tree(tree, check)
                write_whole(self._staged / "new.json", receipt.to_bytes(), beside=self._staged)
        except BaseException:
            remove(self._staged)
            raise
        with self._writing():
            self._swap(tree)
        return receipt

    def require(self, wanted_bytes: int) -> None:
        """Refuses what cannot fit, before it is written. Raises StorageFailed."""
        with self._writing():
            require_room(self.folder, wanted_bytes, "the kit", "make room, or choose another folder")

    @property
    def _staged(self) -> Path:
        return self.folder / STAGING_NAME

    def _refuse_foreign_files(self, receipt: Receipt | None) -> None:
        """Refuses a folder with files that are neither of a kit that was unpacked here nor of the cache."""
        ours = {RECEIPT_NAME, *(receipt.files if receipt else self._crashed_files())}
        with reading(f"folder {str(self.folder)!r}"), FoundTree(self.folder) as tree:
            found = [path for path, status in tree.members() if not stat.S_ISDIR(status.st_mode) and path not in ours]
        foreign = [path for path in found if not path.startswith(STAGING_NAME + "/") and not self.beside(path)]
        if foreign:
            names = ", ".join(map(repr, sorted(foreign)[:_SHOWN]))
            more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
            fix = "which `runtime unpack` did not put there; take that away, or choose another folder"
            raise Usage(f"cannot unpack into {str(self.folder)!r}: it holds {names}{more}, {fix}")

    def _crashed_files(self) -> set[str]:
        """Returns what the receipts of an unpack that was killed list: some of it may be here by its name."""
        files: set[str] = set()
        for name in ("new.json", "old.json"):
            with suppress(BadContent):  # one that cannot be read: no file had been moved then
                if receipt := read_receipt(self._staged / name):
                    files |= receipt.files.keys()
        return files

    def _swap(self, tree: Path) -> None:
        """Removes the old files and gives the new ones their names; the receipt last, and each step synced."""
        if (self.folder / RECEIPT_NAME).exists():
            (self.folder / RECEIPT_NAME).rename(self._staged / "old.json")
        sync(self._staged)
        sync(self.folder)
        self._clear()
        for path in sorted(tree.iterdir(), key=lambda path: (path.name == KITFILE_NAME, path.name)):
            path.rename(self.folder / path.name)
        sync(self.folder)
        (self._staged / "new.json").rename(self.folder / RECEIPT_NAME)
        sync(self.folder)
        remove(self._staged)
        sync(self.folder)

    def _clear(self) -> None:
        """Removes everything but the staging folder, the cache and `lost+found`; others have been refused before."""
        for item in list(os.scandir(self.folder)):
            if item.name not in (STAGING_NAME, LOST_AND_FOUND) and not self.beside(item.name):
                remove(Path(item.path))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            what = f"cannot unpack into {str(self.folder)!r} as user {os.geteuid()}: {problem.strerror}"
            cure = "make room, or choose another folder" if problem.errno in NO_SPACE else "choose another folder"
            raise StorageFailed(f"{what}; {cure}") from problem


class _HashedTree:
    """Hands members on to `tree`; `files` has the digests of the bytes that were handed on, by path."""

    def __init__(self, tree: WrittenTree) -> None:
        self.files: dict[str, Digest] = {}
        self._tree = tree

    def folder(self, parts: Parts) -> bool:
        if parts[0] in _RESERVED:
            raise UnsafeArchive(f"the kit has a folder {parts[0]!r}, a name that is not free where it is unpacked")
        return self._tree.folder(parts)

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        if parts in _LEFT_OUT:
            for _ in chunks:  # read all the same: it counts in its layer's digest
                pass
            return True
        if parts[0] in _RESERVED:
            raise UnsafeArchive(f"the kit has a file {parts[0]!r}, a name that is not free where it is unpacked")
        hasher = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                hasher.update(chunk)
                yield chunk

        written = self._tree.file(parts, size, hashed())
        self.files["/".join(parts)] = Digest("sha256", hasher.hexdigest())
        return written


def _sync_tree(root: Path, check: Check) -> None:
    for _, _, names, folder in os.fwalk(root):
        for name in names:
            check()
            sync(name, dir_fd=folder)
        os.fsync(folder)
