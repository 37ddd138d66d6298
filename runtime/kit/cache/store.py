"""The cache: an OCI layout (`skopeo` reads it), with `ingest`, `kits`, `skeletons` and `locks` beside its files.

A blob comes in under `ingest`, locked by the process that writes it, and gets its name by one rename, after its size
and digest were checked and its bytes synced. It is checked again whenever it is opened. A cache that others can write
into is refused all the same, since a file could be exchanged after its check; a single blob that others can write to
counts as spoiled. `index.json` names kits whose manifest and config are here, and their layers for serving if blobs are
kept: one with datasets or docs cannot be copied on as a whole. Locks save work; correctness needs none.
https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from runtime.errors import DigestMismatch, StorageFailed
from runtime.kit import files
from runtime.kit.cache.index import entry_of, read_index, write_index
from runtime.kit.cache.waiting import Wait
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.media_types import REF_NAME
from runtime.kit.lane import Take, stream_checked

TEMPORARY: Final = ".tmp-"  # how names of unfinished trees begin
_FOLDERS: Final = (
    *("blobs", "blobs/sha256", "blobs/sha512"),
    *("skeletons", "skeletons/sha256", "skeletons/sha512"),
    *("ingest", "kits", "locks", "signatures"),
)
CACHE_NAMES: Final = frozenset({"oci-layout", "index.json", *(folder.partition("/")[0] for folder in _FOLDERS)})
"""Everything that can stand in a cache folder itself."""
MAX_SKELETON_BYTES: Final = 64 << 20
RESUMED_BYTES: Final = 1 << 20
"""A shorter beginning of a blob is not kept."""
_RESUMED_SECONDS: Final = 86_400.0
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_TROUBLES: Final = {
    **dict.fromkeys(files.NO_SPACE, "no space left for the cache {root}: free some"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "the cache {root} is not writable for user {user}"),
    errno.EROFS: "the cache {root} is on a read-only file system",
    errno.EXDEV: "the cache {root} is on several file systems, wanted one",
}
_OTHER_FOLDER: Final = "choose another folder with --cache-dir"


class Store:
    """One cache folder. Reading needs no write access. Raises StorageFailed if others can write into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prepared = False
        self._group: int | None = None
        self._check_owners()

    def blob_path(self, digest: Digest) -> Path:
        """Returns where the blob is, if it is here."""
        return self.root / digest.blob_path

    def kit_path(self, digest: Digest) -> Path:
        """Returns where the tree of the kit with this manifest is, if it was unpacked."""
        return self.root / "kits" / digest.hex

    def prepare(self) -> None:
        """Makes the folders, and removes what dead processes left. Raises StorageFailed."""
        if self._prepared:
            return
        with storing(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owners()  # another process may have made it meanwhile
            for folder in _FOLDERS:
                (self.root / folder).mkdir(mode=0o755, exist_ok=True)
            if not (self.root / "oci-layout").exists():
                self._write("oci-layout", _LAYOUT)
            self._sweep((self.root / "kits").glob(f"{TEMPORARY}*"))
            self._sweep((self.root / "ingest").iterdir(), resumed_seconds=_RESUMED_SECONDS)
        self._prepared = True

    def open(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO | None:
        """Returns the cached blob, just checked, or None. Raises SizeMismatch; DigestMismatch also if it is exposed."""
        with storing(self.root):
            file = self._open(descriptor.digest)
            return file and files.read_checked(file, self._check(descriptor), reached)

    def stream(self, descriptor: Descriptor, take: Take) -> bool:
        """Hands the bytes of a cached blob to `take`, and checks them as `open` does. False: there is none."""
        with storing(self.root):
            if (file := self._open(descriptor.digest)) is None:
                return False
            with file:
                check = self._check(descriptor)
                check.check_size(os.fstat(file.fileno()).st_size)
                stream_checked(file.read, check, descriptor.size, take)
            return True

    def _open(self, digest: Digest) -> BinaryIO | None:
        subject = f"blob {digest} in the cache"
        try:
            file = files.open_plain(self.blob_path(digest))
        except FileNotFoundError:
            return None
        except files.NotPlain as problem:
            raise DigestMismatch(f"{subject} {problem.strerror}") from problem
        if refusal := self._who_else_writes(digest, file):
            file.close()
            raise DigestMismatch(f"{subject} {refusal}")
        return file

    def _check(self, descriptor: Descriptor) -> DigestCheck:
        return DigestCheck(descriptor.digest, descriptor.size, f"blob {descriptor.digest} in the cache")

    def read(self, digest: Digest, most_bytes: int) -> bytes | None:
        """Returns a small cached blob, checked just now. None if it is absent, exposed, wrong or longer."""
        with suppress(OSError), files.open_plain(self.blob_path(digest)) as file:
            size, data = os.fstat(file.fileno()).st_size, file.read(most_bytes + 1)
            if len(data) == size <= most_bytes and not self._who_else_writes(digest, file):
                return data if Digest.of(data, digest.algorithm) == digest else None
        return None

    def discard(self, digest: Digest) -> None:
        """Removes a blob and its skeleton. Raises StorageFailed."""
        with storing(self.root):
            files.remove(self.blob_path(digest))
            files.remove(self._skeleton_path(digest))

    def stamp(self, kit: Digest) -> str | None:
        """Returns what `keep_stamp` was given for a kit last; or None."""
        with suppress(OSError, UnicodeDecodeError):
            return self._stamp_path(kit).read_text()
        return None

    def keep_stamp(self, kit: Digest, stamp: str) -> None:
        """Keeps what the files of a kit looked like when they were checked. A full or read-only cache keeps nothing."""
        with suppress(OSError):
            files.write_whole(self._stamp_path(kit), stamp.encode(), beside=self.root / "ingest")

    def signature(self, digest: Digest) -> bytes | None:
        """Returns what `keep_signature` was given for a manifest, or whatever is there now; or None."""
        with suppress(OSError), files.open_plain(self._signature_path(digest)) as file:
            return file.read(MAX_DOCUMENT_BYTES)
        return None

    def keep_signature(self, digest: Digest, data: bytes) -> None:
        """Keeps the signature of a manifest, unchecked. A full or read-only cache keeps nothing."""
        with suppress(OSError, StorageFailed):
            self.prepare()
            files.write_whole(self._signature_path(digest), data, beside=self.root / "ingest")

    @contextmanager
    def ingest(self, digest: Digest) -> Iterator[files.NewFile]:
        """Makes a new file for the bytes of a blob, to be published once they are verified. Raises StorageFailed."""
        self.prepare()
        with storing(self.root), files.NewFile(self.blob_path(digest), self.root / "ingest") as file:
            yield file
            self._sweep(self._partials(digest))

    def partial(self, digest: Digest) -> BinaryIO | None:
        """Returns the longest beginning of a blob that an earlier download left, not checked; or None."""
        with suppress(OSError):  # another process may have finished it meanwhile
            size, path = max(((path.lstat().st_size, path) for path in self._partials(digest)), default=(0, None))
            return files.open_plain(path) if path and size >= RESUMED_BYTES else None
        return None

    def skeleton(self, digest: Digest) -> bytes | None:
        """Returns what `keep_skeleton` was given for this layer, or whatever is there now; or None."""
        with suppress(OSError), files.open_plain(self._skeleton_path(digest)) as file:
            return file.read(MAX_SKELETON_BYTES)
        return None

    def keep_skeleton(self, digest: Digest, data: bytes | bytearray) -> None:
        """Keeps the bytes of a layer's tar that belong to no file: with its tree they are all of the layer."""
        with storing(self.root):
            files.write_whole(self._skeleton_path(digest), data, beside=self.root / "ingest")

    def add(self, digest: Digest, data: bytes) -> None:
        """Keeps bytes whose digest was checked by the caller. Nothing is written if they are here already."""
        if self.read(digest, len(data)) == data:
            return
        with self.ingest(digest) as file:
            file.write(data)
            file.publish().close()

    def name(self, reference: str, manifest: Manifest) -> None:
        """Has index.json call the manifest `reference`, and nothing else by that name. Raises StorageFailed."""
        entry = entry_of(reference, manifest)
        if entry in read_index(self.root):
            return
        with self.locked("index"), storing(self.root):
            others = [each for each in read_index(self.root) if each.get("annotations", {}).get(REF_NAME) != reference]
            write_index(self.root, [*others, entry])

    @contextmanager
    def locked(
        self, name: str, check: files.Check = lambda: None, warn: Callable[..., None] = lambda event, **fields: None
    ) -> Iterator[None]:
        """Holds the lock `name` between processes and threads. While it waits, `check` may raise to give up.

        A wait is reported with `warn`. It ends without the lock once no process has written here for two minutes.
        """
        self.prepare()
        with storing(self.root):
            lock = files.open_lock(self.root / "locks" / name)
        with files.locked(lock, check, Wait(self.root / "locks" / name, self.unfinished, warn)):
            yield

    def unfinished(self) -> list[Path]:
        """Returns the files and trees that have no names yet, being written or left behind. Raises OSError."""
        return [*(self.root / "ingest").glob("*"), *(self.root / "kits").glob(f"{TEMPORARY}*")]

    def use(self, digest: Digest) -> "Use | None":
        """Marks a kit as used now, and as in use as long as what is returned lives. None on a read-only disk."""
        with suppress(OSError):
            lock = self.lock_of_use(digest)
            use = Use(lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(lock)
            return use
        return None

    def lock_of_use(self, digest: Digest, *, make: bool = True) -> int:
        """Opens the file that processes lock while they use a kit; when it was written is when it was used last.

        Raises OSError.
        """
        path = self.root / "locks" / f"use-{digest.hex}"
        if make and not path.exists():
            os.close(files.open_lock(path))
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def forget(self, digest: Digest) -> None:
        """Removes the tree of a kit, and its names from index.json. Raises StorageFailed."""
        with self.locked("index"), storing(self.root):
            write_index(self.root, [each for each in read_index(self.root) if str(each.get("digest")) != str(digest)])
            files.remove(self._stamp_path(digest))
            files.remove(self._signature_path(digest))
            aside = self.root / "kits" / files.temporary_name(f"{TEMPORARY}kit")
            with suppress(FileNotFoundError):
                self.kit_path(digest).rename(aside)  # no process sees half of it
                files.remove(aside)

    def remove(self) -> None:
        """Removes the cache, its folder, and those above that are empty then. Raises StorageFailed."""
        with storing(self.root):
            for name in CACHE_NAMES:
                files.remove(self.root / name)
        with suppress(OSError):  # not empty, or a mount
            for folder in (self.root, *self.root.parents):
                folder.rmdir()

    def _stamp_path(self, kit: Digest) -> Path:
        return self.root / "locks" / f"stamp-{kit.hex}"

    def _signature_path(self, digest: Digest) -> Path:
        return self.root / "signatures" / digest.hex

    def _skeleton_path(self, digest: Digest) -> Path:
        return self.root / "skeletons" / digest.algorithm / digest.hex

    def _partials(self, digest: Digest) -> list[Path]:
        return list((self.root / "ingest").glob(f"{digest.hex}.*"))

    def _sweep(self, paths: Iterable[Path], resumed_seconds: float = 0.0) -> None:
        """Removes what no process writes any more; a file to resume from, after `resumed_seconds`."""
        for path in paths:
            with suppress(OSError):
                status, digits = path.lstat(), path.name.partition(".")[0]
                is_whole = any((self.root / "blobs" / kind / digits).exists() for kind in ("sha256", "sha512"))
                is_kept = status.st_size >= RESUMED_BYTES and time.time() - status.st_mtime < resumed_seconds
                if (is_whole or not is_kept) and files.is_abandoned(path):
                    files.remove(path)

    def _check_owners(self) -> None:
        """Refuses folders in which another user could exchange what was verified."""
        for folder in (self.root, *(self.root / name for name in _FOLDERS)):
            with storing(self.root), suppress(FileNotFoundError, NotADirectoryError):
                status = folder.lstat()
                self._group = files.volume_group(status) if folder == self.root else self._group
                refusal = files.who_else_writes(folder, status, self._group)
                if folder == self.root:
                    refusal = refusal or files.who_else_renames(folder)
                if stat.S_ISLNK(status.st_mode):
                    refusal = "is a symbolic link, which others may be able to change: name the folder itself"
                if refusal:
                    raise StorageFailed(f"the cache folder {folder} {refusal}, or choose another with --cache-dir")

    def _who_else_writes(self, digest: Digest, blob: BinaryIO) -> str | None:
        return files.who_else_writes(self.blob_path(digest), os.fstat(blob.fileno()), self._group)

    def _write(self, name: str, data: bytes) -> None:
        files.write_whole(self.root / name, data, beside=self.root / "ingest", mode=0o644)


class Use:
    """Holds a lock until it is deleted, with the kit that it is for."""

    def __init__(self, lock: int) -> None:
        self._lock, self._close = lock, os.close  # of a module that an interpreter that ends may have emptied

    def __del__(self) -> None:
        self._close(self._lock)


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Turns an OSError inside the block into StorageFailed, which says what to do about the cache at `root`."""
    try:
        yield
    except OSError as error:
        trouble = _TROUBLES.get(error.errno or 0, "cannot use the cache {root}: {error}")
        trouble = trouble.format(root=root, user=os.geteuid(), error=error.strerror or error)
        cure = "raise RLIMIT_NOFILE (ulimit -n)" if error.errno == errno.EMFILE else _OTHER_FOLDER
        raise StorageFailed(f"{trouble}; {cure}") from error
