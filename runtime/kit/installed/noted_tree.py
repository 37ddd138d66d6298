"""A kit's files as they go to a disk, with the digest of each: what a receipt is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from runtime.errors import UnsafeArchive
from runtime.kit.format.digest import Digest
from runtime.kit.format.folder_names import KITFILE_NAME, LOST_AND_FOUND, RECEIPT_NAME, STAGING_NAME

if TYPE_CHECKING:
    from runtime.kit.unpack.names import Parts
    from runtime.kit.unpack.tree import Tree

_RESERVED: Final = frozenset({KITFILE_NAME, RECEIPT_NAME, STAGING_NAME, LOST_AND_FOUND})
_LEFT_OUT: Final = frozenset({(KITFILE_NAME,), (RECEIPT_NAME,)})
"""In a layer they are leftovers of an earlier life of the kit: the config is its Kitfile."""


class NotedTree:
    """Hands members on to `tree`; `files` has the digests of the bytes that were handed on, by path."""

    def __init__(self, tree: Tree) -> None:
        self.files: dict[str, Digest] = {}
        self._tree = tree

    def folder(self, parts: Parts) -> bool:
        """Take a folder that is new. Raises UnsafeArchive for names that the unpacked folder has another use for."""
        if parts[0] in _RESERVED:
            raise UnsafeArchive(f"the kit has a folder {parts[0]!r}, a name that is not free where it is unpacked")
        return self._tree.folder(parts)

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        """Take a file that is new."""
        if parts in _LEFT_OUT:
            for _ in chunks:  # read all the same: it counts in its layer's digest
                pass
            return True
        if parts[0] in _RESERVED:
            raise UnsafeArchive(f"the kit has a file {parts[0]!r}, a name that is not free where it is unpacked")
        return self._note(parts, size, chunks)

    def write(self, name: str, data: bytes) -> None:
        """Add a file that no layer has, whatever it is called."""
        self._note((name,), len(data), iter([data]))

    def _note(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        hasher = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                hasher.update(chunk)
                yield chunk

        written = self._tree.file(parts, size, hashed())
        self.files["/".join(parts)] = Digest("sha256", hasher.hexdigest())
        return written
