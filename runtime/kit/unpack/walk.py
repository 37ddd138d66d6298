"""Verified layers into one folder, refusing whatever is not a file or folder of the kit; or compared with one.

Both are one walk over the members of all layers, in front of a tree that writes or a tree that compares. A tree in the
cache is never believed: it is compared with the blobs, which have been verified.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.errors import DigestMismatch, InvalidManifest, SizeMismatch, UnsafeArchive, Unsupported
from runtime.kit.format.digest import Hasher
from runtime.kit.format.manifest import FILE_METADATA, FILE_PATH
from runtime.kit.format.placing import Placed
from runtime.kit.unpack.expand import Budget, Expanded
from runtime.kit.unpack.expand import UnpackLimits as UnpackLimits
from runtime.kit.unpack.names import Names, Parts, checked_parts, lies_under
from runtime.kit.unpack.tar import CHUNK_BYTES, TarReader
from runtime.kit.unpack.tree import ComparedTree, Tree, WrittenTree

DEFAULT_LIMITS = UnpackLimits()
Layers = Iterable[tuple[Placed, BinaryIO]]  # each blob at its beginning; used up before the next one is asked for


def unpack(
    layers: Layers, root: Path, *, limits: UnpackLimits = DEFAULT_LIMITS, checkpoint: Callable[[], None] | None = None
) -> tuple[str, ...]:
    """Write the layers into `root`, an empty folder of ours; gives the paths of the files, sorted.

    `checkpoint` is called at least once a MiB and may raise. What was written stays when something raises.
    Raises UnsafeArchive, DigestMismatch (diffId), SizeMismatch, Unsupported (compression), InvalidManifest (a raw
    layer without its path), StorageFailed.
    """
    with WrittenTree(root) as tree:
        return hand_over(layers, tree, limits=limits, checkpoint=checkpoint)


def hand_over(
    layers: Layers, tree: Tree, *, limits: UnpackLimits = DEFAULT_LIMITS, checkpoint: Callable[[], None] | None = None
) -> tuple[str, ...]:
    """Hand every file and folder of the layers to `tree`, checked. See `unpack`."""
    walk = _Walk(tree, limits, checkpoint)
    for placed, stream in layers:
        walk.layer(placed, stream)
    return tuple(sorted(walk.files))


def same(
    layers: Layers, root: Path, *, limits: UnpackLimits = DEFAULT_LIMITS, checkpoint: Callable[[], None] | None = None
) -> bool:
    """Tell whether `root` holds what `unpack` would write: the same files with the same bytes, and nothing else.

    A link, a second name of a file, or an extra file makes it differ, and so does a root that is none. Stops at the
    first difference. Raises as `unpack` does, except StorageFailed.
    """
    try:
        tree = ComparedTree(root)
    except OSError:
        return False
    with tree:
        walk = _Walk(tree, limits, checkpoint)
        return all(walk.layer(placed, stream) for placed, stream in layers) and tree.has_only(walk.names)


class _Walk:
    """One pass over the members of a kit's layers, checking names across all of them."""

    def __init__(self, tree: Tree, limits: UnpackLimits, checkpoint: Callable[[], None] | None) -> None:
        self.names = Names(limits)
        self.files: list[str] = []
        self._tree = tree
        self._limits = limits
        self._budget = Budget(limits)
        self._checkpoint = checkpoint

    def layer(self, placed: Placed, stream: BinaryIO) -> bool:
        """Hand one layer to the tree; False as soon as the tree says so."""
        subject = f"layer {placed.layer.descriptor.digest} ({placed.section} {placed.entry.path!r})"
        hasher = _hasher(placed)
        compression, checkpoint = placed.layer.compression, self._checkpoint
        content = Expanded(stream, compression, self._budget, subject, hasher=hasher, checkpoint=checkpoint)
        steps = {"tar": self._tar, "raw": self._raw}.get(placed.layer.format)
        if steps is None:
            raise Unsupported(f"{subject} has the media type {placed.layer.descriptor.media_type}, which is not known")
        if not steps(placed, content, subject):
            return False
        if hasher is not None and placed.entry.diff_id and hasher.hexdigest() != placed.entry.diff_id.hex:
            seen = f"{placed.entry.diff_id.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(f"{subject} holds {seen}, wanted {placed.entry.diff_id} (its diffId in the Kitfile)")
        return True

    def _tar(self, placed: Placed, content: Expanded, subject: str) -> bool:
        entry = _parts_of(placed.entry.path)
        reader = TarReader(content.read, subject)
        for member in reader:
            self._budget.take_member(subject)
            self._budget.check(member.size, subject)
            name = f"{placed.prefix}/{member.name}" if placed.prefix else member.name
            parts = self._checked(member.name, name, entry, subject, is_folder=member.is_folder)
            size = None if member.is_folder else member.size
            if not self._member(parts, size, reader.data(), subject, is_folder=member.is_folder):
                return False
        return True

    def _raw(self, placed: Placed, content: Expanded, subject: str) -> bool:
        """Hand over a layer that is the file itself; its path stands in an annotation (KitOps, `filesystem/raw.go`)."""
        if placed.layer.path is None:
            raise InvalidManifest(f"{subject} is a raw file without the annotation {FILE_PATH}, which names it")
        name = placed.layer.path
        parts = self._checked(name, name, _parts_of(placed.entry.path), subject, is_folder=False)
        descriptor = placed.layer.descriptor
        stated = _stated_size(descriptor.annotations.get(FILE_METADATA))
        size = stated if placed.layer.compression else descriptor.size
        if stated not in (None, size):
            raise SizeMismatch(f"{subject} has {descriptor.size} bytes, its annotation says {stated}")
        chunks = _counted(iter(lambda: content.read(CHUNK_BYTES), b""), stated, subject)
        return self._member(parts, size, chunks, subject, is_folder=False)

    def _checked(self, written: str, name: str, entry: Parts, subject: str, *, is_folder: bool) -> Parts:
        try:
            checked_parts(written, self._limits)
            parts = checked_parts(name, self._limits)
        except ValueError as problem:
            raise UnsafeArchive(f"{subject} has a member {written[:200]!r} that is refused: {problem}") from problem
        if not lies_under(parts, entry, is_folder=is_folder):
            wanted = "/".join(entry)
            raise UnsafeArchive(f"{subject} has a member {name[:200]!r} outside of its entry's path, {wanted!r}")
        return parts

    def _member(
        self, parts: Parts, size: int | None, chunks: Iterator[bytes], subject: str, *, is_folder: bool
    ) -> bool:
        try:
            new = self.names.add_folder(parts) if is_folder else self.names.add_file(parts)
        except ValueError as problem:
            name = "/".join(parts)
            raise UnsafeArchive(f"{subject} has a member {name[:200]!r} that is refused: {problem}") from problem
        if not all(self._tree.folder(folder) for folder in new):
            return False
        if is_folder:
            return True
        self.files.append("/".join(parts))
        return self._tree.file(parts, size, chunks)


def _hasher(placed: Placed) -> Hasher | None:
    """Give the hash for the diffId, unless the blob's own digest, which has been verified, says the same."""
    diff_id, layer = placed.entry.diff_id, placed.layer
    if diff_id is None or (not layer.compression and diff_id == layer.descriptor.digest):
        return None
    return diff_id.hasher()


def _parts_of(path: str) -> Parts:
    return () if path == "." else tuple(path.split("/"))


def _stated_size(metadata: str | None) -> int | None:
    """Give the size that the packer noted for a raw file, if it did."""
    try:
        size = json.loads(metadata or "{}").get("size")
    except (ValueError, AttributeError, RecursionError):
        return None
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _counted(chunks: Iterator[bytes], stated: int | None, subject: str) -> Iterator[bytes]:
    """Pass chunks on, and compare their sum with the size that was stated."""
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        yield chunk
    if stated is not None and seen != stated:
        raise SizeMismatch(f"{subject} holds {seen} bytes, its annotation says {stated}")
