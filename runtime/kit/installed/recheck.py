"""Whether a folder still holds what its receipt says: every file, with its bytes, and nothing else. No link counts.

Folders are not compared, for an empty one holds nothing that could be served.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import BadContent, DigestMismatch, StorageFailed
from runtime.kit.format.folder_names import KITFILE_NAME, RECEIPT_NAME
from runtime.kit.unpack.tree import FoundTree

if TYPE_CHECKING:
    from runtime.kit.installed.receipt import Receipt

Reached = Callable[[str, int, int], None]
"""Path of the file that is being read, bytes read of all files, bytes of all files. May raise."""

_CHUNK_BYTES: Final = 1 << 20


def recheck(root: Path, receipt: Receipt, reached: Reached, *, beside: Callable[[str], bool] = lambda _: False) -> int:
    """Compare the folder with its receipt; gives the number of bytes that were hashed.

    `beside` tells of a path whether it is none of the kit's business.
    Raises BadContent (a file that is missing, extra, or not a plain file), DigestMismatch, StorageFailed, and what
    `reached` raises.
    """
    try:
        with FoundTree(root) as tree:
            folder = _Folder(root, receipt, tree)
            total, done = folder.check_names(beside), 0
            for path in receipt.files:
                for chunk in folder.read(path):
                    done += len(chunk)
                    reached(path, done, total)
            return done
    except OSError as problem:
        raise _unreadable(root, problem) from problem


def checked_kitfile(root: Path, receipt: Receipt) -> bytes:
    """The bytes of the Kitfile, which are what the receipt says. Raises as `recheck` does."""
    try:
        with FoundTree(root) as tree:
            return b"".join(_Folder(root, receipt, tree).read(KITFILE_NAME))
    except OSError as problem:
        raise _unreadable(root, problem) from problem


class _Folder:
    """One folder beside its receipt."""

    def __init__(self, root: Path, receipt: Receipt, tree: FoundTree) -> None:
        self._root, self._receipt, self._tree = root, receipt, tree

    def check_names(self, beside: Callable[[str], bool]) -> int:
        """Refuse what is missing or extra, and links; gives the sum of the sizes."""
        sizes: dict[str, int] = {}
        for path, status in self._tree.members():
            if path in self._receipt.files:
                self._check_plain(path, status)
                sizes[path] = status.st_size
            elif path != RECEIPT_NAME and not beside(path):
                raise BadContent(
                    f"folder {str(self._root)!r} holds {path!r}, which `runtime unpack` did not put there; take it away"
                )
        for path in self._receipt.files:
            if path not in sizes:
                raise self._missing(path)
        return sum(sizes.values())

    def read(self, path: str) -> Iterator[bytes]:
        """The file in pieces; raises in the end if they were not the receipt's."""
        wanted = self._receipt.files[path]
        hasher = wanted.hasher()
        try:
            file = self._tree.open(path)
        except (FileNotFoundError, NotADirectoryError) as problem:
            raise self._missing(path) from problem
        except OSError as problem:
            if problem.errno == errno.ELOOP:
                raise self._no_plain_file(path, "a symbolic link, or behind one") from problem
            raise
        with file:
            self._check_plain(path, os.fstat(file.fileno()))
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                yield chunk
        if hasher.hexdigest() != wanted.hex:
            seen = f"{wanted.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(
                f"{path!r} in folder {str(self._root)!r} has digest {seen}, its receipt says {wanted}: "
                f"it was changed after it was unpacked; {self._again}"
            )

    def _check_plain(self, path: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise self._no_plain_file(path, "a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise self._no_plain_file(path, "no regular file")
        if status.st_nlink != 1:
            raise self._no_plain_file(path, "a file with a second name, a hard link, by which it could be changed")

    def _no_plain_file(self, path: str, what: str) -> BadContent:
        return BadContent(f"{path!r} in folder {str(self._root)!r} is {what}; {self._again}")

    def _missing(self, path: str) -> BadContent:
        return BadContent(f"folder {str(self._root)!r} lacks {path!r}, which its receipt lists; {self._again}")

    @property
    def _again(self) -> str:
        return f"unpack it again: runtime unpack {self._receipt.reference} {self._root}"


def _unreadable(root: Path, problem: OSError) -> StorageFailed:
    return StorageFailed(f"cannot read folder {str(root)!r}: {problem.strerror}")
