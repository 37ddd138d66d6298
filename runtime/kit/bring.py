"""The layers of a kit into its tree in the cache: checked if the tree is there, else built while their bytes come.

Each byte is read once and written once (twice if blobs are kept), and nothing has its final name before the digests
hold. A tree that is there is not believed: with the skeletons of its layers it gives their digests again, or it is
compared with their blobs.
"""

import io
import os
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import BadContent
from runtime.kit.cache.kits import building, publish
from runtime.kit.cache.store import MAX_SKELETON_BYTES, Store, Use
from runtime.kit.files import Read
from runtime.kit.format.digest import Digest
from runtime.kit.format.limits import DEFAULT_LIMITS
from runtime.kit.format.placing import Placed
from runtime.kit.lane import SMALL_BYTES, Count, both, checking, gathered, lanes
from runtime.kit.observer import Observer, check
from runtime.kit.reached import Reached
from runtime.kit.source import AskAgain
from runtime.kit.threads import Threads
from runtime.kit.unpack.tree import ComparedTree, FoundTree, RejoinedTree, WrittenTree
from runtime.kit.unpack.walk import Walk, rejoined_check

if TYPE_CHECKING:
    from runtime.kit.fetch import Source

_TOGETHER: Final = 4  # entries of one layer that are unpacked while it comes; further ones read it again
_TOUCH_SECONDS: Final = 60.0


class Skeleton:
    """The bytes of a layer's tar that belong to no file, deflated: headers are much alike."""

    def __init__(self) -> None:
        self._packer, self._packed = zlib.compressobj(1), bytearray()

    def add(self, data: bytes) -> None:
        """Takes the next ones."""
        if len(self._packed) <= MAX_SKELETON_BYTES:
            self._packed += self._packer.compress(data)

    def packed(self) -> bytearray | None:
        """Returns all of them; None if they are too many to be kept."""
        self._packed += self._packer.flush()
        return self._packed if len(self._packed) <= MAX_SKELETON_BYTES else None


class Bring:
    """Brings one kit into the cache. `keep`: its blobs, too."""

    def __init__(
        self,
        layers: Sequence[Placed],
        source: "Source",
        store: Store,
        threads: Threads,
        observer: Observer,
        *,
        keep: bool,
    ) -> None:
        self._source, self._store, self._threads, self._observer, self._keep = source, store, threads, observer, keep
        self._reached = Reached(layers, threads, observer)
        groups: dict[Digest, list[Placed]] = {}
        for each in layers:
            groups.setdefault(each.layer.descriptor.digest, []).append(each)
        self._groups = list(groups.values())  # the entries of each blob
        self.use: Use | None = None
        """Keeps the kit that `run` brought from being removed."""

    def run(self, kit: Digest, *, by_stat: bool = False) -> tuple[Path, bool]:
        """Returns the folder that holds exactly what the layers say, and whether one that did not was replaced.

        `by_stat`: a folder that looks as it did after its last check is not read.
        Raises what `Walk` and the source raise, StorageFailed, Cancelled.
        """
        self.use = self._store.use(kit)
        target = self._store.kit_path(kit)
        if by_stat and self._store.stamp(kit) == _stamp(target) != "":
            return target, False
        replaced = not self.is_whole(target) and self._build(kit, target)
        if by_stat:
            self._store.keep_stamp(kit, _stamp(target))
        return target, replaced

    def _build(self, kit: Digest, target: Path) -> bool:
        """Builds the tree, unless another process is faster. Returns whether one that differed was replaced."""
        with self._store.locked(f"kit-{kit.hex}", partial(check, self._observer), self._observer.warning):
            found = os.path.lexists(target)
            if found and self.is_whole(target):
                return False
            self.use = self._store.use(kit)  # the folder for that is there now
            while True:
                with building(self._store) as folder:
                    if self._fill(folder):
                        publish(self._store, folder, target, self.is_whole)
                        return found

    def is_whole(self, root: Path) -> bool:
        """Tells whether the folder holds just what the layers say."""
        try:
            tree = ComparedTree(root)
        except OSError:
            return False
        with tree:
            walk = Walk(DEFAULT_LIMITS, self._threads.check)
            jobs = [partial(self._holds, root, walk, each) for group in self._groups for each in group]
            return all(self._threads.run(jobs, self._observer)) and tree.has_only(walk.names.folders)

    def _holds(self, root: Path, walk: Walk, placed: Placed) -> bool:
        """Tells whether the tree has what one entry's layer says."""
        layer = placed.layer
        skeleton = b"" if layer.format == "raw" else self._store.skeleton(layer.descriptor.digest)
        digest = rejoined_check(placed)
        try:
            if skeleton is None or digest is None:
                return self._source.holds(layer.descriptor) and self._is_same(root, walk, placed)
            count = Count(lambda _: self._threads.check()) if layer.compression else self._reached.count(placed)
            with (
                checking(digest, layer.descriptor.size) as update,
                gathered(both(update, count)) as take,
                RejoinedTree(root, skeleton, take) as tree,
            ):
                whole = walk.rejoin(tree, placed)
            self._reached.at(layer.descriptor.digest, layer.descriptor.size)
            return whole
        except (BadContent, AskAgain):
            return False

    def _is_same(self, root: Path, walk: Walk, placed: Placed) -> bool:
        """Compares the tree with one layer's blob."""
        results: list[bool] = []

        def compare(read: Read) -> None:
            with ComparedTree(root) as tree:
                results.append(walk.layer(tree, placed, read))

        self._stream(placed, [compare])
        return all(results)

    def _fill(self, folder: Path) -> bool:
        """Unpacks all layers into the folder. False: the bytes of one were wrong, and are to be asked for again."""
        touched = time.monotonic()

        def step() -> None:
            nonlocal touched
            self._threads.check()
            if time.monotonic() - touched > _TOUCH_SECONDS:
                touched = time.monotonic()
                os.utime(folder)  # other processes see that this one still works here

        walk = Walk(DEFAULT_LIMITS, step)
        jobs = [partial(self._unpack, folder, walk, each) for each in self._groups]
        return all(self._threads.run(jobs, self._observer))

    def _unpack(self, folder: Path, walk: Walk, group: list[Placed]) -> bool:
        """Unpacks one layer for all of its entries."""
        skeleton = Skeleton()

        def unpack(placed: Placed, read: Read) -> None:
            with WrittenTree(folder) as tree:
                walk.layer(tree, placed, read, skeleton.add if placed is group[0] else None)

        try:
            for start in range(0, len(group), _TOGETHER):
                self._stream(group[0], [partial(unpack, placed) for placed in group[start : start + _TOGETHER]])
        except AskAgain:
            return False
        if group[0].layer.format == "tar" and (packed := skeleton.packed()):
            self._store.keep_skeleton(group[0].layer.descriptor.digest, packed)
        return True

    def _stream(self, placed: Placed, works: Sequence[Callable[[Read], None]]) -> None:
        """Hands the bytes of a layer to all works; once it returns they were the right ones. Raises what they raise."""
        descriptor, count = placed.layer.descriptor, self._reached.count(placed)
        keep = self._keep or rejoined_check(placed) is None
        if descriptor.size < SMALL_BYTES:
            whole = io.BytesIO()
            self._source.stream(descriptor, both(whole.write, count), keep=keep)
            for work in works:
                whole.seek(0)
                work(whole.read)
        else:
            with lanes(*works) as put:
                self._source.stream(descriptor, both(put, count), keep=keep)


def _stamp(root: Path) -> str:
    """Returns what a tree looks like; "" if there is none."""
    try:
        with FoundTree(root) as tree:
            return tree.stamp()
    except OSError:
        return ""
