"""Kits that lie on a disk in OCI's own form: a layout folder, or a layout inside a tar (an oci-archive).

Source: OCI image-spec 1.1, image-layout.md. A blob is hashed before it is handed out, and what is handed out is the
same open file: a path that is exchanged in between changes nothing.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from runtime.errors import (
    DigestMismatch,
    Failure,
    InvalidManifest,
    NotAModelKit,
    NotFound,
    SizeMismatch,
    StorageFailed,
    UnsafeArchive,
)
from runtime.kit.disk.archive import index_members, open_window
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import MAX_DOCUMENT_BYTES, read_json
from runtime.kit.format.manifest import Descriptor, parse_descriptor, verified_digest
from runtime.kit.format.media_types import REF_NAME
from runtime.kit.format.reference import Reference
from runtime.kit.format.tags import newest

CHUNK_BYTES = 1 << 20
_AGAIN = "copy the kit there again"

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not make us wait

OpenMember = Callable[[str], BinaryIO | None]  # a path inside the layout to an open file, or None where there is none


def open_source(reference: Reference) -> "OciSource":
    """Give the source for a reference of kind layout or archive.

    Raises NotFound, NotAModelKit, StorageFailed where it cannot be read, UnsafeArchive for an archive with links.
    """
    if reference.path is None or reference.kind not in ("layout", "archive"):
        raise ValueError(f"{reference} is neither a layout nor an archive")
    return open_layout(reference.path) if reference.kind == "layout" else open_archive(reference.path)


def open_layout(folder: Path) -> "OciSource":
    """Give the OCI layout in a folder. Raises as `open_source` does."""
    try:
        is_folder = folder.is_dir()
    except OSError as problem:  # a part of the path that may not be searched, or is too long
        raise StorageFailed(f"cannot read {str(folder)!r}: {problem.strerror}") from problem
    if not is_folder:
        raise NotFound(f"there is no folder {str(folder)!r} with an OCI layout")
    return OciSource(f"OCI layout {str(folder)!r}", lambda name: _open_regular(folder / name, os.O_NOFOLLOW))


def open_archive(file: Path) -> "OciSource":
    """Give the OCI layout in a tar, which is indexed once and not unpacked. Raises as `open_source` does."""
    name = f"OCI archive {str(file)!r}"
    opened = _open_regular(file, 0)
    if opened is None:
        raise NotFound(f"there is no file {str(file)!r} with an OCI archive")
    with opened:
        members = index_members(opened, name)

    def open_member(path: str) -> BinaryIO | None:
        place = members.get(path)
        whole = _open_regular(file, 0) if place else None
        return open_window(whole, *place) if place and whole else None

    return OciSource(name, open_member)


class OciSource:
    """A source of manifests and blobs that are files of an OCI layout, wherever that is."""

    def __init__(self, name: str, open_member: OpenMember) -> None:
        self._name = name
        self._open = open_member
        version = self._document("oci-layout").get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise NotAModelKit(f"{self._name} has another version than 1.0.0 in its file oci-layout")

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """Find a manifest by digest, or by tag in the index. See `Source.resolve`."""
        listed = self._listed()
        if reference.digest is not None:
            digest, size = reference.digest, next((d.size for d in listed if d.digest == reference.digest), None)
        else:
            found = self._tagged(listed, reference.tag or "")
            digest, size = found.digest, found.size
        raw = self._small(_blob_path(digest), f"manifest {digest}")
        verified_digest(raw, digest, size)
        return reference.with_digest(digest), raw

    def blob(self, descriptor: Descriptor, progress: Callable[[int], None]) -> BinaryIO:
        """Open a blob and verify it. See `Source.blob`."""
        file = self._open(_blob_path(descriptor.digest))
        if file is None:
            raise NotFound(f"{self._name} has no blob {descriptor.digest}; {_AGAIN}")
        try:
            _verify(file, descriptor, progress, self._name)
        except BaseException:
            file.close()
            raise
        return file

    def _listed(self) -> list[Descriptor]:
        manifests = self._document("index.json").get("manifests")
        if not isinstance(manifests, list):
            raise InvalidManifest(f"{self._name} has no list of manifests in its index.json")
        return [parse_descriptor(item, f"{self._name}: index.json") for item in manifests]

    def _tagged(self, listed: list[Descriptor], tag: str) -> Descriptor:
        found = [item for item in listed if item.annotations.get(REF_NAME) == tag]
        if not found:
            raise NotFound(f"{self._name} has no tag {tag!r}; {_what_there_is(listed)}")
        if len({item.digest for item in found}) > 1:
            raise InvalidManifest(f"{self._name} has several manifests with the tag {tag!r}; ask for one by its digest")
        return found[0]

    def _document(self, name: str) -> dict[str, object]:
        document = read_json(self._small(name, name), f"{self._name}: {name}", InvalidManifest)
        if not isinstance(document, dict):
            raise InvalidManifest(f"{self._name}: {name} is not a JSON object")
        return document

    def _small(self, path: str, what: str) -> bytes:
        """Read a file that is held in memory, up to the size of a manifest."""
        file = self._open(path)
        if file is None:
            raise self._missing(path, what)
        with file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise InvalidManifest(f"{self._name}: {what} has more than the {MAX_DOCUMENT_BYTES} bytes that are read")
        return raw

    def _missing(self, path: str, what: str) -> Failure:
        if path.startswith("blobs/"):
            return NotFound(f"{self._name} has no {what}")
        return NotAModelKit(
            f"{self._name} is not one: it has no file {what}; a folder with a Kitfile is written ./FOLDER"
        )


def _what_there_is(listed: list[Descriptor]) -> str:
    tags = [tag for item in listed if (tag := item.annotations.get(REF_NAME))]
    if tags:
        return f"it has {', '.join(newest(tags))}" + (" and others" if len(tags) > len(newest(tags)) else "")
    digests = ", ".join(str(item.digest) for item in listed[:3])
    return f"it has no tags, ask for one of its digests: {digests}" if digests else "it lists no manifests at all"


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _open_regular(path: Path, flags: int) -> BinaryIO | None:
    """Open a regular file for reading, or give None where there is no such path."""
    try:
        descriptor = os.open(path, _READ | flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UnsafeArchive(f"{str(path)!r} is a symbolic link, wanted a file") from problem
        raise StorageFailed(f"cannot read {str(path)!r}: {problem.strerror}") from problem
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeArchive(f"{str(path)!r} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _verify(file: BinaryIO, descriptor: Descriptor, progress: Callable[[int], None], where: str) -> None:
    """Compare size and digest with the descriptor, and put the file back to its beginning."""
    size = file.seek(0, os.SEEK_END)
    if size != descriptor.size:
        raise SizeMismatch(f"blob {descriptor.digest} in {where} has {size} bytes, wanted {descriptor.size}; {_AGAIN}")
    file.seek(0)
    hasher = descriptor.digest.hasher()
    while chunk := file.read(CHUNK_BYTES):
        hasher.update(chunk)
        progress(len(chunk))
    if hasher.hexdigest() != descriptor.digest.hex:
        seen = f"{descriptor.digest.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(f"blob {descriptor.digest} in {where} has digest {seen}; {_AGAIN}")
    file.seek(0)
