"""Verified layers into one folder, or compared with one. What is not a file or folder of the kit is refused.

Both are one walk over the members of all layers, in front of a tree that writes or a tree that compares. A tree in the
cache is not believed: it is compared with the blobs, which have been verified.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.errors import InvalidManifest, SizeMismatch, UnsafeArchive, Unsupported
from runtime.kit.files import CHUNK_BYTES, Check
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.limits import DEFAULT_LIMITS, UnpackLimits
from runtime.kit.format.manifest import FILE_METADATA, FILE_PATH
from runtime.kit.format.paths import Parts, checked_parts, entry_path, lies_under
from runtime.kit.format.placing import Placed
from runtime.kit.unpack.expand import Budget, Expanded
from runtime.kit.unpack.names import Names
from runtime.kit.unpack.tar import TarReader
from runtime.kit.unpack.tree import ComparedTree, Tree, WrittenTree

Opened = Iterable[tuple[Placed, BinaryIO]]  # blobs at their beginning, each read before the next entry is asked for
Layers = Callable[[], Opened]  # goes through the entries of a kit; may be called several times


def unpack(layers: Opened, root: Path, *, limits: UnpackLimits = DEFAULT_LIMITS, check: Check = lambda: None) -> None:
    """Writes the layers into `root`, an empty folder. What was written stays if something raises.

    `check` is called at least once a MiB and may raise. Raises UnsafeArchive, DigestMismatch (diffId),
    SizeMismatch, Unsupported (compression), InvalidManifest (a raw layer without its path), StorageFailed.
    """
    with WrittenTree(root) as tree:
        walk(layers, tree, limits, check)


def same(layers: Opened, root: Path, *, limits: UnpackLimits = DEFAULT_LIMITS, check: Check = lambda: None) -> bool:
    """Tells whether `root` holds what `unpack` would write: the same files with the same bytes, and nothing else.

    A link, a second name of a file, or an extra file is a difference, and so is a root that is not a folder. Stops at
    the first difference. Raises as `unpack` does, except StorageFailed.
    """
    try:
        tree = ComparedTree(root)
    except OSError:
        return False
    with tree:
        names = walk(layers, tree, limits, check)
        return names is not None and tree.has_only(names.folders)


def walk(layers: Opened, tree: Tree, limits: UnpackLimits, check: Check) -> Names | None:
    """Hands every file and folder of the layers to `tree`, checked. Returns their names; None once the tree stops."""
    walk = _Walk(tree, limits, check)
    return walk.names if all(walk.layer(placed, stream) for placed, stream in layers) else None


class _Walk:
    """One pass over the members of a kit's layers. Names are checked across all layers."""

    def __init__(self, tree: Tree, limits: UnpackLimits, check: Check) -> None:
        self.names = Names(limits)
        self._tree, self._limits, self._check = tree, limits, check
        self._budget = Budget(limits)

    def layer(self, placed: Placed, stream: BinaryIO) -> bool:
        """Hands one layer to the tree. Returns False as soon as the tree does."""
        subject = f"layer {placed.layer.descriptor.digest} ({placed.section} {placed.entry.path!r})"
        diff_id, compression = _diff_id(placed, subject), placed.layer.compression
        content = Expanded(stream, compression, self._budget, subject, self._check, diff_id)
        steps = {"tar": self._tar, "raw": self._raw}.get(placed.layer.format)
        if steps is None:
            raise Unsupported(f"{subject} has the media type {placed.layer.descriptor.media_type}, which is not known")
        whole = steps(placed, content, subject)
        if whole and diff_id is not None:
            diff_id.finish()
        return whole

    def _tar(self, placed: Placed, content: Expanded, subject: str) -> bool:
        reader = TarReader(content.read, subject)
        for member in reader:
            self._budget.take_member(subject)
            self._budget.check(member.size, subject)
            chunks = None if member.is_folder else reader.data()
            if not self._member(placed, member.name, member.size, chunks, subject):
                return False
        return True

    def _raw(self, placed: Placed, content: Expanded, subject: str) -> bool:
        # https://github.com/kitops-ml/kitops/blob/main/pkg/lib/filesystem/raw.go
        if placed.layer.path is None:
            raise InvalidManifest(f"{subject} is a raw file without the annotation {FILE_PATH}, which names it")
        descriptor = placed.layer.descriptor
        stated = _stated_size(descriptor.annotations.get(FILE_METADATA))
        size = stated if placed.layer.compression else descriptor.size
        if stated not in (None, size):
            raise SizeMismatch(f"{subject} has {descriptor.size} bytes, its annotation says {stated}")
        chunks = _counted(iter(lambda: content.read(CHUNK_BYTES), b""), stated, subject)
        return self._member(placed._replace(prefix=""), placed.layer.path, size, chunks, subject)

    def _member(self, placed: Placed, name: str, size: int | None, data: Iterator[bytes] | None, subject: str) -> bool:
        """Hands a file to the tree, or a folder, which has no data."""
        try:
            parts = self._parts(placed, name, is_folder=data is None)
            new = self.names.add(parts, is_folder=data is None)
        except ValueError as problem:
            raise UnsafeArchive(f"{subject} has a member {name[:200]!r} that is refused: {problem}") from problem
        if not all(self._tree.folder(folder) for folder in new):
            return False
        return data is None or self._tree.file(parts, size, data)

    def _parts(self, placed: Placed, name: str, *, is_folder: bool) -> Parts:
        parts = checked_parts(name, self._limits)
        if placed.prefix:
            parts = checked_parts(f"{placed.prefix}/{name}", self._limits)
        if not lies_under(parts, entry_path(placed.entry.path), is_folder=is_folder):
            raise ValueError(f"it is outside of its entry's path, {placed.entry.path!r}")
        return parts


def _diff_id(placed: Placed, subject: str) -> DigestCheck | None:
    """Returns the check of the diffId, unless the blob's own digest, which has been verified, is the same."""
    diff_id, layer = placed.entry.diff_id, placed.layer
    if diff_id is None or (not layer.compression and diff_id == layer.descriptor.digest):
        return None
    return DigestCheck(diff_id, None, f"the content of {subject}", " (its diffId in the Kitfile)")


def _stated_size(metadata: str | None) -> int | None:
    try:
        size = json.loads(metadata or "{}").get("size")
    except (ValueError, AttributeError, RecursionError):
        return None
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _counted(chunks: Iterator[bytes], stated: int | None, subject: str) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        yield chunk
    if stated is not None and seen != stated:
        raise SizeMismatch(f"{subject} holds {seen} bytes, its annotation says {stated}")
