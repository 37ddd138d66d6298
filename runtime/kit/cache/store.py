"""The cache: a folder that is an OCI layout (`skopeo` reads it), with our own folders beside its files.

    oci-layout  index.json  blobs/ALGORITHM/HEX      what the OCI says; index.json names complete kits by full reference
    ingest/HEX.PID.RANDOM                            bytes on their way in, locked by the process that writes them
    kits/HEX                                         unpacked kits by manifest digest (see `tree`)
    locks/NAME                                       taken with flock; they save work, correctness needs none of them

A blob gets its name by one rename, after its size and digest were checked and its bytes synced. It is checked again
whenever it is handed out: nothing about a file is believed but its content. What would help nobody else could still be
exchanged between that look and its use, so a cache that others can write into is refused. "Complete" means manifest,
config and the layers that serving needs; a kit with datasets or docs cannot be copied on as a whole.
Layout: OCI image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.errors import StorageFailed
from runtime.kit.format.media_types import REF_NAME

if TYPE_CHECKING:
    from runtime.kit.format.digest import Digest
    from runtime.kit.format.manifest import Descriptor, Manifest

CHUNK_BYTES: Final = 256 * 1024
PARTIAL: Final = ".tmp-"
"""How names of unfinished trees begin."""
_FOLDERS: Final = ("blobs", "blobs/sha256", "blobs/sha512", "ingest", "kits", "locks")
CACHE_NAMES: Final = frozenset({"oci-layout", "index.json", *(folder.partition("/")[0] for folder in _FOLDERS)})
"""Everything that can stand in a cache folder itself."""
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_OPEN: Final = (
    os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
)  # a planted link or pipe is an error, never followed or waited for
_FORGOTTEN_SECONDS: Final = 3600.0
_LOCK_LOOK_SECONDS: Final = 0.05
_NO_FILE: Final = "it is no regular file"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM})

Pause = Callable[[float], None]


class Spoiled(Exception):
    """A cached blob is not what its name says."""


class Store:
    """One cache folder. Reading needs no write access; the first write makes what is missing.

    Raises StorageFailed where others can write into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prepared = False
        self._check_ours()

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, if it is here. The only place where a blob's name is made."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def kit_path(self, digest: Digest) -> Path:
        """Where the tree of the kit with this manifest is, if it was unpacked."""
        return self.root / "kits" / digest.hex

    def prepare(self) -> None:
        """Make the folders, and remove what dead processes left. Raises StorageFailed."""
        if self._prepared:
            return
        with storing(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_ours()  # somebody may have been faster
            for folder in _FOLDERS:
                (self.root / folder).mkdir(mode=0o755, exist_ok=True)
            if not (self.root / "oci-layout").exists():
                self._write("oci-layout", _LAYOUT)
            self._sweep()
        self._prepared = True

    def open(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO | None:
        """The cached blob, hashed just now, at its beginning; None if there is none. `reached` gets each position.

        Raises Spoiled when its bytes are not those of the descriptor.
        """
        path = self.blob_path(descriptor.digest)
        try:
            fd = os.open(path, os.O_RDONLY | _OPEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Spoiled(_NO_FILE) from error
            raise StorageFailed(
                f"cannot read {path}: {error.strerror}; choose another folder with --cache-dir"
            ) from error
        try:
            _check_kind(fd, descriptor)
            file = open(fd, "rb", buffering=0, closefd=False)  # noqa: SIM115 - closes nothing
            with storing(self.root):
                _verify(file, descriptor, reached)
        except BaseException:
            os.close(fd)
            raise
        return open(fd, "rb", buffering=0)  # noqa: PTH123 - by descriptor; handed out

    def read(self, digest: Digest, most_bytes: int) -> bytes | None:
        """The bytes of a small cached blob of unknown size, hashed just now. None if absent, wrong or longer."""
        try:
            with open(os.open(self.blob_path(digest), os.O_RDONLY | _OPEN), "rb") as file:  # noqa: PTH123 - by descriptor
                data = file.read(most_bytes + 1)
        except OSError:
            return None
        hasher = digest.hasher()
        hasher.update(data)
        return data if hasher.hexdigest() == digest.hex and len(data) <= most_bytes else None

    def discard(self, digest: Digest) -> None:
        """Remove a spoiled blob. Raises StorageFailed."""
        with storing(self.root):
            remove(self.blob_path(digest))

    @contextmanager
    def ingest(self, digest: Digest) -> Iterator[Ingest]:
        """A new file for the bytes of a blob; gone at the end unless it was published. Raises StorageFailed."""
        self.prepare()
        path = self.root / "ingest" / partial_name(digest.hex)
        with storing(self.root):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
            ingest = Ingest(fd, path, self.blob_path(digest))
            try:
                try_lock(fd)
                yield ingest
            finally:
                ingest.close()

    def add(self, digest: Digest, data: bytes) -> None:
        """Keep bytes whose digest was checked by the caller. Nothing is written if they are here already."""
        if self.read(digest, len(data)) == data:
            return
        with self.ingest(digest) as ingest:
            ingest.write(data)
            ingest.publish().close()

    def name(self, reference: str, manifest: Manifest, media_type: str) -> None:
        """Have index.json call the manifest `reference`, and nothing else by that name. Raises StorageFailed."""
        entry = {
            "mediaType": media_type,
            "digest": str(manifest.digest),
            "size": len(manifest.raw),
            "annotations": {REF_NAME: reference},
        }
        if entry in self._index():
            return
        with self.locked("index", time.sleep):
            others = [each for each in self._index() if each.get("annotations", {}).get(REF_NAME) != reference]
            index = {"schemaVersion": 2, "manifests": [*others, entry]}
            with storing(self.root):
                self._write("index.json", json.dumps(index, separators=(",", ":")).encode())

    @contextmanager
    def locked(self, name: str, pause: Pause) -> Iterator[None]:
        """Hold the lock `name` between processes and threads; waits by `pause`, which may raise to give up.

        Where the file system has no locks, nobody waits: a lock saves work, renames keep things right.
        """
        self.prepare()
        with storing(self.root):
            fd = os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | _OPEN, 0o600)
        try:
            while not try_lock(fd):
                pause(_LOCK_LOOK_SECONDS)
            yield
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Take the cache away, and with it its folder and those above that are empty then. Raises StorageFailed."""
        with storing(self.root):
            for name in CACHE_NAMES:
                remove(self.root / name)
        with suppress(OSError):  # not empty, or a mount
            for folder in (self.root, *self.root.parents):
                folder.rmdir()

    def free_bytes(self) -> int:
        """Bytes that may still be written below the cache folder. Raises StorageFailed."""
        self.prepare()
        with storing(self.root):
            system = os.statvfs(self.root)
        return system.f_bavail * system.f_frsize

    def _check_ours(self) -> None:
        """Refuse folders in which somebody else could exchange what was verified."""
        with storing(self.root):
            for folder in (self.root, *(self.root / name for name in _FOLDERS)):
                with suppress(FileNotFoundError, NotADirectoryError):
                    if refusal := _stranger(folder.lstat()):
                        raise StorageFailed(f"the cache folder {folder} {refusal} with --cache-dir")

    def _index(self) -> list[dict[str, dict[str, str]]]:
        """Entries of index.json; none if it is missing or unreadable: it is made of what is known, not believed."""
        try:
            manifests = json.loads((self.root / "index.json").read_bytes())["manifests"]
            return [entry for entry in manifests if isinstance(entry.get("annotations", {}), dict)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return []

    def _write(self, name: str, data: bytes) -> None:
        """Replace a small file as a whole."""
        path = self.root / "ingest" / partial_name(name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o644)
        try:
            _write_all(fd, data)
            os.fsync(fd)
            path.rename(self.root / name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        sync_folder(self.root)

    def _sweep(self) -> None:
        """Remove partial files and trees whose process is dead."""
        for path in (*(self.root / "ingest").iterdir(), *(self.root / "kits").glob(f"{PARTIAL}*")):
            with suppress(OSError):
                fd = os.open(path, os.O_RDONLY | _OPEN)
                try:
                    if _is_abandoned(path, fd):
                        remove(path)
                finally:
                    os.close(fd)


class Ingest:
    """Bytes on their way into the cache, in a file that no reader looks at."""

    def __init__(self, fd: int, path: Path, target: Path) -> None:
        self._fd, self._path, self._target = fd, path, target

    def write(self, data: bytes) -> None:
        """Append. Raises OSError, which `Store.ingest` turns into StorageFailed."""
        _write_all(self._fd, data)

    def restart(self) -> None:
        """Throw away what was written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def publish(self) -> BinaryIO:
        """Give the blob its name; only for bytes that were verified. Hands out the file, at its beginning.

        Synced before the rename and the folder after it: a crash leaves the whole blob or none.
        """
        os.fchmod(self._fd, 0o444)
        os.fsync(self._fd)
        self._path.rename(self._target)
        sync_folder(self._target.parent)
        os.lseek(self._fd, 0, os.SEEK_SET)
        fd, self._fd = self._fd, -1
        return open(fd, "rb", buffering=0)  # noqa: PTH123 - by descriptor; handed out

    def close(self) -> None:
        """Remove the file, unless it was published."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)


def partial_name(name: str) -> str:
    """A name for something unfinished that says whose it is."""
    return f"{name}.{os.getpid()}.{os.urandom(4).hex()}"


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Turn an OSError inside the block into StorageFailed, which says what to do about the cache at `root`."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{_trouble(root, error)}; choose another folder with --cache-dir") from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _trouble(root: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return f"no space left for the cache {root}: free some"
    if error.errno == errno.EROFS:
        return f"the cache {root} is on a read-only file system"
    if error.errno == errno.EXDEV:
        return f"the cache {root} is on several file systems, wanted one"
    if error.errno in _REFUSED:
        return f"the cache {root} is not writable for user {os.geteuid()}"
    return f"cannot use the cache {root}: {error.strerror or error}"


def _stranger(status: os.stat_result) -> str | None:
    """Why a folder is neither ours nor root's, and what to do; None where it is.

    Root's may be writable for everybody: that is what Kubernetes mounts as an emptyDir. What we make inside is ours.
    """
    us = os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link, which others may be able to turn: name the folder itself"
    if status.st_uid not in (us, 0):
        return f"belongs to user {status.st_uid}, wanted user {us} (us) or root: choose another folder"
    return None


def _check_kind(fd: int, descriptor: Descriptor) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Spoiled(_NO_FILE)
    if status.st_size != descriptor.size:
        raise Spoiled(f"it has {status.st_size} bytes, wanted {descriptor.size}")


def _verify(file: BinaryIO, descriptor: Descriptor, reached: Callable[[int], None]) -> None:
    hasher, position = descriptor.digest.hasher(), 0
    while chunk := file.read(CHUNK_BYTES):
        hasher.update(chunk)
        position += len(chunk)
        reached(position)
    if hasher.hexdigest() != descriptor.digest.hex:
        raise Spoiled(f"its digest is {descriptor.digest.algorithm}:{hasher.hexdigest()}")
    file.seek(0)


def remove(path: Path) -> None:
    """Take away a file, a link or a whole folder, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # costs more to import than a start without leftovers has use for

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _is_abandoned(path: Path, fd: int) -> bool:
    """Whether the writer is gone: its lock is free and its pid nobody's, as where locks do nothing it would be held.

    Time decides where there are no locks (the writer may be on another machine), and where the pid is somebody's, for
    they begin anew in each container.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(path.name.split(".")[-2]), 0)
    except BlockingIOError:
        return False
    except (ProcessLookupError, ValueError, IndexError, OverflowError):
        return True
    except OSError:
        pass
    return time.time() - os.fstat(fd).st_mtime > _FORGOTTEN_SECONDS


def try_lock(fd: int) -> bool:
    """Take the lock on an open file or folder, if it is free; where there are no locks, it always is."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # some network file systems
    return True
