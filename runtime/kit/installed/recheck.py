"""Whether a folder holds what its receipt says: every file, with its bytes, and nothing else. A link does not count.

Folders are not compared, since an empty one holds nothing that could be served.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from runtime.errors import BadContent, StorageFailed
from runtime.kit.files import NotPlain, read_checked, reading, volume_group, who_else_renames, who_else_writes
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.paths import RECEIPT_NAME
from runtime.kit.installed.receipt import Receipt
from runtime.kit.unpack.tree import FoundTree

Reached = Callable[[str, int, int], None]  # gets the path that is being read, bytes read, bytes of all files; may raise


def recheck(root: Path, receipt: Receipt, reached: Reached, *, beside: Callable[[str], bool] = lambda _: False) -> int:
    """Returns how many bytes were hashed; `beside` tells of a path whether it is not the kit's.

    Raises BadContent (a file is missing, extra, or not plain), DigestMismatch, StorageFailed, what `reached` raises.
    """
    with reading(f"folder {str(root)!r}"), FoundTree(root) as tree:
        return _Folder(root, receipt, tree).check(reached, beside)


def check_writers(root: Path) -> None:
    """Refuses a folder that others could exchange, or a file in it, after it was checked. Raises StorageFailed."""
    group = None
    with reading(f"folder {str(root)!r}"), FoundTree(root) as tree:
        if why := who_else_renames(root):
            raise StorageFailed(f"{str(root)!r} {why}; or serve the kit by its reference")
        for path, status in tree.members():
            group = volume_group(status) if path == "." else group
            if not stat.S_ISLNK(status.st_mode) and (why := who_else_writes(root / path, status, group)):
                raise StorageFailed(f"{str(root / path)!r} {why}; or serve the kit by its reference")


class _Folder:
    def __init__(self, root: Path, receipt: Receipt, tree: FoundTree) -> None:
        self._root, self._receipt, self._tree = root, receipt, tree
        self._again = f"unpack it again: runtime unpack {receipt.reference} {root}"

    def check(self, reached: Reached, beside: Callable[[str], bool]) -> int:
        total, done = self._check_names(beside), 0
        for path in self._receipt.files:
            done = self._check_file(path, done, total, reached)
        return done

    def _check_names(self, beside: Callable[[str], bool]) -> int:
        """Refuses what is missing or extra, and links. Returns the sum of the sizes."""
        sizes: dict[str, int] = {}
        for path, status in self._tree.members():
            if path in self._receipt.files:
                self._check_plain(path, status)
                sizes[path] = status.st_size
            elif not stat.S_ISDIR(status.st_mode) and path != RECEIPT_NAME and not beside(path):
                fix = "which `runtime unpack` did not put there; take it away"
                raise BadContent(f"folder {str(self._root)!r} holds {path!r}, {fix}")
        if missing := next((path for path in self._receipt.files if path not in sizes), None):
            raise self._fault(missing, "is missing")
        return sum(sizes.values())

    def _check_file(self, path: str, done: int, total: int, reached: Reached) -> int:
        try:
            with self._tree.open(path) as file:
                self._check_plain(path, os.fstat(file.fileno()))
                advice = f" by its receipt: it was changed after it was unpacked; {self._again}"
                subject = f"{path!r} in folder {str(self._root)!r}"
                check = DigestCheck(self._receipt.files[path], None, subject, advice)
                read_checked(file, check, lambda size: reached(path, done + size, total))
                return done + check.taken_bytes
        except (FileNotFoundError, NotADirectoryError) as problem:
            raise self._fault(path, "is missing") from problem
        except NotPlain as problem:
            raise self._fault(path, str(problem.strerror)) from problem

    def _check_plain(self, path: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise self._fault(path, "is a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise self._fault(path, "is not a regular file")
        if status.st_nlink != 1:
            raise self._fault(path, "has a second name, a hard link, by which it could be changed")

    def _fault(self, path: str, what: str) -> BadContent:
        return BadContent(f"{path!r} in folder {str(self._root)!r} {what}; {self._again}")
