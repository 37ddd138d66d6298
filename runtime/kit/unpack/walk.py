"""Verified layers into one folder, or compared with one. What is not a file or folder of the kit is refused.

Both are one walk over the members of all layers, in front of a tree that writes or a tree that compares. A tree in the
cache is not believed: it is compared with the blobs, which have been verified.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.errors import InvalidManifest, SizeMismatch, UnsafeArchive, Unsupported
from runtime.kit.files import CHUNK_BYTES, Check, Read
from runtime.kit.format.digest import DigestCheck
from runtime.kit.format.limits import DEFAULT_LIMITS, UnpackLimits
from runtime.kit.format.manifest import FILE_METADATA, FILE_PATH
from runtime.kit.format.paths import Parts, checked_parts, entry_path, lies_under
from runtime.kit.format.placing import Placed
from runtime.kit.unpack.expand import Budget, check_compression, expanded
from runtime.kit.unpack.names import Names
from runtime.kit.unpack.tar import TarReader
from runtime.kit.unpack.tree import ComparedTree, RejoinedTree, Tree, WrittenTree

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
    walk = Walk(limits, check)
    return walk.names if all(walk.layer(tree, placed, stream.read) for placed, stream in layers) else None


class Walk:
    """One pass over the members of a kit's layers, which may go on side by side. Names are checked across all of them.

    `check` is called at every step and may raise to give up.
    """

    def __init__(self, limits: UnpackLimits, check: Check) -> None:
        self.names = Names(limits)
        self._limits, self._check = limits, check
        self._budget, self._lock = Budget(limits), threading.Lock()
        self._empty: dict[Parts, None] = {}
        """Folders that no tree has got: nothing is in them until now. Many of them are refused before one is made."""

    def layer(self, tree: Tree, placed: Placed, read: Read, record: Callable[[bytes], object] | None = None) -> bool:
        """Hands one layer, which `read` gives, to the tree. Returns False as soon as the tree does.

        `record` gets the bytes of a tar that belong to no file.
        """
        check_format(placed)
        subject = _subject(placed)
        diff_id, compression = _diff_id(placed, subject), placed.layer.compression
        with expanded(read, compression, self._budget, subject, self._check, diff_id) as content:
            structure = content.read if record is None else _recorded(content.read, record)
            whole = self._members(tree, placed, structure, content.read)
        if whole and diff_id is not None:
            diff_id.finish()
        return whole

    def rejoin(self, tree: RejoinedTree, placed: Placed) -> bool:
        """Reads one layer back from the tree, which has the rest of it. Returns False as soon as the tree does."""
        return self._members(tree, placed, tree.structure, tree.content)

    def _members(self, tree: Tree, placed: Placed, structure: Read, content: Read) -> bool:
        if placed.layer.format == "raw":
            return self._raw(tree, placed, content)
        subject = _subject(placed)
        reader = TarReader(structure, subject, content=content)
        for member in reader:
            self._budget.take_member(subject)
            self._budget.check(member.size, subject)
            chunks = None if member.is_folder else reader.data()
            if not self._member(tree, placed, member.name, member.size, chunks):
                return False
        with self._lock:
            return self._hand_over(tree, tuple(self._empty))

    def _raw(self, tree: Tree, placed: Placed, content: Read) -> bool:
        # https://github.com/kitops-ml/kitops/blob/main/pkg/lib/filesystem/raw.go
        subject, descriptor = _subject(placed), placed.layer.descriptor
        assert placed.layer.path is not None  # check_format passed
        stated = _stated_size(descriptor.annotations.get(FILE_METADATA))
        size = stated if placed.layer.compression else descriptor.size
        if stated not in (None, size):
            raise SizeMismatch(f"{subject} has {descriptor.size} bytes, its annotation says {stated}")
        chunks = _counted(iter(lambda: content(CHUNK_BYTES), b""), stated, subject)
        return self._member(tree, placed._replace(prefix=""), placed.layer.path, size, chunks)

    def _member(self, tree: Tree, placed: Placed, name: str, size: int | None, data: Iterator[bytes] | None) -> bool:
        """Hands a file to the tree, or a folder, which has no data."""
        with self._lock:  # until the folders are there that another layer may put files into
            try:
                parts = self._parts(placed, name, is_folder=data is None)
                new = self.names.add(parts, is_folder=data is None)
            except ValueError as problem:
                raise UnsafeArchive(
                    f"{_subject(placed)} has a member {name[:200]!r} that is refused: {problem}"
                ) from problem
            self._empty.update(dict.fromkeys(new))
            above = () if data is None else [parts[:depth] for depth in range(1, len(parts))]
            if not self._hand_over(tree, [folder for folder in above if folder in self._empty]):
                return False
        return data is None or tree.file(parts, size, data)

    def _hand_over(self, tree: Tree, folders: Iterable[Parts]) -> bool:
        """Hands empty folders to the tree, each after the one above it. Returns False as soon as the tree does."""
        for folder in folders:
            self._check()
            del self._empty[folder]
            if not tree.folder(folder):
                return False
        return True

    def _parts(self, placed: Placed, name: str, *, is_folder: bool) -> Parts:
        parts = checked_parts(name, self._limits)
        if placed.prefix:
            parts = checked_parts(f"{placed.prefix}/{name}", self._limits)
        if not lies_under(parts, entry_path(placed.entry.path), is_folder=is_folder):
            raise ValueError(f"it is outside of its entry's path, {placed.entry.path!r}")
        return parts


def check_layers(layers: Iterable[Placed], limits: UnpackLimits = DEFAULT_LIMITS) -> None:
    """Refuses what `Walk` would refuse whatever the bytes are. Raises Unsupported, InvalidManifest, UnsafeArchive."""
    budget = Budget(limits)
    for placed in layers:
        check_format(placed)
        check_compression(placed.layer.compression, _subject(placed))
        if not placed.layer.compression:
            budget.take(placed.layer.descriptor.size, _subject(placed))


def check_format(placed: Placed) -> None:
    """Raises Unsupported for a format that is not known, InvalidManifest for a raw file whose path is not said."""
    layer, subject = placed.layer, _subject(placed)
    if layer.format not in ("tar", "raw"):
        raise Unsupported(f"{subject} has the media type {layer.descriptor.media_type}, which is not known")
    if layer.format == "raw" and layer.path is None:
        raise InvalidManifest(f"{subject} is a raw file without the annotation {FILE_PATH}, which names it")


def rejoined_check(placed: Placed) -> DigestCheck | None:
    """Returns the check of what `Walk.rejoin` reads; None if neither manifest nor Kitfile says what that should be."""
    descriptor, subject = placed.layer.descriptor, f"the content of {_subject(placed)}"
    if not placed.layer.compression:
        return DigestCheck(descriptor.digest, descriptor.size, subject)
    return DigestCheck(placed.entry.diff_id, None, subject) if placed.entry.diff_id else None


def _subject(placed: Placed) -> str:
    return f"layer {placed.layer.descriptor.digest} ({placed.section} {placed.entry.path!r})"


def _recorded(read: Read, record: Callable[[bytes], object]) -> Read:
    def recording(most: int) -> bytes:
        data = read(most)
        record(data)
        return data

    return recording


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
