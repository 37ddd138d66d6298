"""A folder that kits are unpacked into: looked at, filled, or refused; whole at every moment, or known not to be.

    DIR/.modelkit-unpack/tree            the new files, until all of them are written and synced
    DIR/.modelkit-unpack/new.json        their receipt, until it gets its place
    DIR/.modelkit-unpack/old.json        the receipt of what was here before, from the moment that goes
    DIR/.modelkit-receipt.json           comes last

Files get their names while there is no receipt, and while `.modelkit-unpack` is there, on which no server starts. After
a crash the receipts in there tell which files are ours, so that they can be cleared away; nobody else's ever are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import BadContent, StorageFailed, Usage
from runtime.kit.cache.store import remove, sync_folder, try_lock
from runtime.kit.format.digest import Digest
from runtime.kit.format.folder_names import KITFILE_NAME, LOST_AND_FOUND, RECEIPT_NAME, STAGING_NAME
from runtime.kit.installed.noted_tree import NotedTree
from runtime.kit.installed.receipt import Receipt, read_receipt
from runtime.kit.installed.recheck import Reached, recheck
from runtime.kit.unpack.tree import FoundTree, WrittenTree
from runtime.kit.unpack.walk import hand_over

if TYPE_CHECKING:
    from runtime.kit.cache.kits import Layers
    from runtime.kit.format.reference import Reference

Pause = Callable[[float], None]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOCK_LOOK_SECONDS: Final = 0.05
_SHOWN: Final = 3
"""So many files are named where others are in the way."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One folder to unpack into. `beside` tells of a relative path whether it is the cache's, which may lie in here."""

    folder: Path
    beside: Callable[[str], bool] = lambda _: False

    @contextmanager
    def locked(self, pause: Pause) -> Iterator[None]:
        """Make the folder, if need be, and keep other unpacks out of it. `pause` may raise to give up waiting."""
        with self._writing():
            if self.folder.exists() and not self.folder.is_dir():
                raise Usage(f"cannot unpack into {str(self.folder)!r}: it is a file, wanted a folder")
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while not try_lock(fd):
                pause(_LOCK_LOOK_SECONDS)
            yield
        finally:
            os.close(fd)

    def is_there(self) -> bool:
        """Whether there is such a folder, or something in its place. Raises StorageFailed."""
        with self._writing():
            return self.folder.exists()

    def holds(self, reference: Reference, config: bytes, reached: Reached) -> str | None:
        """Why the folder has to be filled with this kit; None where it is here already, whole. Call it locked.

        Raises Usage for files that no unpack put here, StorageFailed, and what `reached` raises.
        """
        receipt = self._receipt()
        self._check_strangers(receipt)
        if receipt is None:
            return "it is empty" if not self._staged.exists() else "an earlier unpack was ended before it was done"
        if receipt.digest != reference.digest or receipt.files[KITFILE_NAME] != Digest.of(config):
            return f"it holds {receipt.reference}"
        with self._writing():
            if self._staged.exists():  # else a kit on a read-only volume could not be looked at
                remove(self._staged)  # its files had no names yet, or have them all
        try:
            recheck(self.folder, receipt, reached, beside=self.beside)
        except BadContent as problem:
            return str(problem)
        if str(receipt.reference) != str(reference):  # the same kit by another tag
            self._replace_receipt(Receipt(reference, receipt.digest, receipt.files))
        return None

    def fill(self, reference: Reference, config: bytes, layers: Layers, check: Callable[[], None]) -> Receipt:
        """Put the kit in the place of whatever kit is here; `config` becomes its Kitfile. Call it locked.

        `check` may raise to give up until files get their names. Raises what `unpack` raises, and Usage as `holds`.
        """
        before = self._receipt()
        self._check_strangers(before)
        assert reference.digest is not None  # of every reference that was resolved
        with self._writing():
            if before is None:
                self._clear()  # what a crash left
            remove(self._staged)
            self._staged.mkdir(mode=0o755)
            tree = self._staged / "tree"
            tree.mkdir(mode=0o755)
        try:
            files = self._build(tree, config, layers, check)
            receipt = Receipt(reference, reference.digest, files)
            with self._writing():
                _sync_tree(tree, check)
                _write(self._staged / "new.json", receipt.to_bytes())
                sync_folder(self._staged)
        except BaseException:
            remove(self._staged)
            raise
        with self._writing():
            self._swap(tree)
        return receipt

    def require(self, wanted_bytes: int) -> None:
        """Refuse what cannot fit, before it is tried. Raises StorageFailed."""
        with self._writing():
            existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            system = os.statvfs(existing)
        if wanted_bytes > (free := system.f_bavail * system.f_frsize):
            raise StorageFailed(
                f"folder {str(self.folder)!r} has {free} bytes free, the kit needs {wanted_bytes}; "
                "make room, or choose another folder"
            )

    # --- what is there

    @property
    def _staged(self) -> Path:
        return self.folder / STAGING_NAME

    def _receipt(self) -> Receipt | None:
        return read_receipt(self.folder / RECEIPT_NAME)

    def _check_strangers(self, receipt: Receipt | None) -> None:
        """Refuse a folder with files that are neither of a kit that was unpacked here nor of the cache."""
        with self._reading(), FoundTree(self.folder) as tree:
            found = sorted(path for path, _ in tree.members() if not self.beside(path))
        ours = {RECEIPT_NAME, *(receipt.files if receipt else self._crashed_files())}
        if strangers := [path for path in found if path not in ours and not path.startswith(STAGING_NAME + "/")]:
            names = ", ".join(map(repr, strangers[:_SHOWN]))
            more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
            raise Usage(
                f"cannot unpack into {str(self.folder)!r}: it holds {names}{more}, which `runtime unpack` did not put "
                "there; take that away, or choose another folder"
            )

    def _crashed_files(self) -> set[str]:
        """What the receipts of an unpack that was killed list: some of it may be here by its name."""
        files: set[str] = set()
        for name in ("new.json", "old.json"):
            with suppress(BadContent):  # one that was cut short: no file had been moved then
                if receipt := read_receipt(self._staged / name):
                    files |= receipt.files.keys()
        return files

    # --- what is done

    def _build(self, tree: Path, config: bytes, layers: Layers, check: Callable[[], None]) -> dict[str, Digest]:
        with WrittenTree(tree, way_out="choose another folder") as written:
            noted = NotedTree(written)
            hand_over(layers(), noted, checkpoint=check)
            noted.write(KITFILE_NAME, config)
        return noted.files

    def _swap(self, tree: Path) -> None:
        """Clear the old files away and give the new ones their names; the receipt last, and each step on the disk."""
        if (self.folder / RECEIPT_NAME).exists():
            (self.folder / RECEIPT_NAME).rename(self._staged / "old.json")
        sync_folder(self._staged)
        sync_folder(self.folder)
        self._clear()
        for path in sorted(tree.iterdir(), key=lambda path: (path.name == KITFILE_NAME, path.name)):
            path.rename(self.folder / path.name)
        sync_folder(self.folder)
        (self._staged / "new.json").rename(self.folder / RECEIPT_NAME)
        sync_folder(self.folder)
        remove(self._staged)
        sync_folder(self.folder)

    def _clear(self) -> None:
        """Remove everything but our own workplace, the cache and `lost+found`; strangers have been refused before."""
        for item in list(os.scandir(self.folder)):
            if item.name not in (STAGING_NAME, LOST_AND_FOUND) and not self.beside(item.name):
                remove(Path(item.path))

    def _replace_receipt(self, receipt: Receipt) -> None:
        with self._writing():
            self._staged.mkdir()
            _write(self._staged / "new.json", receipt.to_bytes())
            (self._staged / "new.json").rename(self.folder / RECEIPT_NAME)
            sync_folder(self.folder)
            remove(self._staged)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            cure = "make room, or choose another folder" if problem.errno in _FULL else "choose another folder"
            raise StorageFailed(
                f"cannot unpack into {str(self.folder)!r} as user {os.geteuid()}: {problem.strerror}; {cure}"
            ) from problem

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise StorageFailed(f"cannot read folder {str(self.folder)!r}: {problem.strerror}") from problem


def _write(path: Path, data: bytes) -> None:
    """Write a new small file, synced, readable for everybody."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def _sync_tree(root: Path, check: Callable[[], None]) -> None:
    """Have every file and folder of a tree of ours on the disk before it is spoken of."""
    for _, _, names, folder in os.fwalk(root):
        for name in names:
            check()
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        os.fsync(folder)
