"""Kits in OCI's own form on a disk: a layout folder, or a layout inside a tar (an oci-archive).

A blob is checked before it is handed out, and what is handed out is the same open file: a path that is exchanged in
between changes nothing. https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from runtime.errors import InvalidManifest, NotAModelKit, NotFound, UnsafeArchive
from runtime.kit.files import open_plain, read_checked, reading
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.json_text import read_object
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, parse_descriptor, verified_digest
from runtime.kit.format.media_types import REF_NAME
from runtime.kit.format.reference import LATEST, TAG, Reference, newest
from runtime.kit.lane import Take, stream_checked
from runtime.kit.unpack.tar import TarReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_AGAIN = "copy the kit there again"
_MAX_MEMBERS = 100_000
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz"}


def open_source(reference: Reference) -> "LayoutSource":
    """Returns its source. Raises NotFound, NotAModelKit, StorageFailed, UnsafeArchive for an archive with links."""
    assert reference.path is not None  # of a layout and an archive
    return open_layout(reference.path) if reference.kind == "layout" else open_archive(reference.path)


def open_layout(folder: Path) -> "LayoutSource":
    """Returns the OCI layout in a folder. Raises as `open_source` does."""
    with reading(repr(str(folder))):  # a part of the path may not be searched, or be too long
        if not folder.is_dir():
            raise NotFound(f"there is no folder {str(folder)!r} with an OCI layout")
    return LayoutSource(f"OCI layout {str(folder)!r}", lambda name: open_file(folder / name))


def open_archive(file: Path) -> "LayoutSource":
    """Returns the OCI layout in a tar, whose members are listed once and not unpacked. Raises as `open_source` does."""
    name = f"OCI archive {str(file)!r}"
    opened = open_file(file, follow=True)
    if opened is None:
        raise NotFound(f"there is no file {str(file)!r} with an OCI archive")
    with opened:
        members = _index_members(opened, name)

    def open_member(path: str) -> BinaryIO | None:
        place = members.get(path)
        whole = open_file(file, follow=True) if place else None
        return io.BufferedReader(_Window(whole, *place), 64 << 10) if place and whole else None

    return LayoutSource(name, open_member)


class LayoutSource:
    """The manifests and blobs that are files of an OCI layout. See `kit.source.RegistrySource`."""

    store = None  # nothing is kept of what is here

    def __init__(self, name: str, open_member: Callable[[str], BinaryIO | None]) -> None:
        self._name, self._open = name, open_member
        version = self._document("oci-layout").get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise NotAModelKit(f"{self._name} has another version than 1.0.0 in its file oci-layout")

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """Finds a manifest by digest, or by tag in the index. Raises NotFound with the tags that exist."""
        listed = self._listed()
        if reference.digest is not None:
            digest, size = reference.digest, next((d.size for d in listed if d.digest == reference.digest), None)
        else:
            tag = self._tag(listed, reference)
            digest, size = self._tagged(listed, tag)
            # some tools write whole names, HOST/REPOSITORY:TAG, which no reference can have behind its ':'
            reference = replace(reference, tag=tag if tag and re.fullmatch(TAG, tag) else None)
        raw = self._small(digest.blob_path, f"manifest {digest}")
        verified_digest(raw, digest, size)
        return replace(reference, digest=digest), raw

    def blob(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        """Opens a blob and checks it."""
        return read_checked(self._open_blob(descriptor), self._check(descriptor), reached)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tells whether a blob is here, right or wrong."""
        file = self._open(descriptor.digest.blob_path)
        if file is not None:
            file.close()
        return file is not None

    def stream(self, descriptor: Descriptor, take: Take, *, keep: bool) -> None:  # noqa: ARG002 - the registry's
        """Hands the bytes of a blob to `take`, and checks them at the end; there is no cache to `keep` them in."""
        with self._open_blob(descriptor) as file:
            check = self._check(descriptor)
            check.check_size(file.seek(0, os.SEEK_END))
            file.seek(0)
            stream_checked(file.read, check, descriptor.size, take)

    def attached(self, name: str) -> bytes | None:
        """Returns the manifest with this tag or digest, which is compared; None if there is none."""
        named = (item.digest for item in self._listed() if item.annotations.get(REF_NAME) == name)
        digest = Digest.parse(name) if ":" in name else next(named, None)
        with suppress(NotFound):
            if digest is not None:
                raw = self._small(digest.blob_path, f"manifest {digest}")
                verified_digest(raw, digest, None)
                return raw
        return None

    def referrers(self, digest: Digest, artifact_type: str) -> Iterator[bytes]:  # noqa: ARG002 - the registry's
        """Yields nothing: a layout has their index under a tag."""
        return iter(())

    def document(self, descriptor: Descriptor) -> bytes:
        """Returns a small blob, checked."""
        with self.blob(descriptor, lambda _: None) as file:
            return file.read()

    def _open_blob(self, descriptor: Descriptor) -> BinaryIO:
        file = self._open(descriptor.digest.blob_path)
        if file is None:
            raise NotFound(f"{self._name} has no blob {descriptor.digest}; {_AGAIN}")
        return file

    def _check(self, descriptor: Descriptor) -> DigestCheck:
        subject = f"blob {descriptor.digest} in {self._name}"
        return DigestCheck(descriptor.digest, descriptor.size, subject, f"; {_AGAIN}")

    def close(self) -> None:
        """Does nothing: nothing stays open."""

    def _listed(self) -> list[Descriptor]:
        manifests = self._document("index.json").get("manifests")
        if not isinstance(manifests, list):
            raise InvalidManifest(f"{self._name} has no list of manifests in its index.json")
        return [parse_descriptor(item, f"{self._name}: index.json") for item in manifests]

    def _tag(self, listed: list[Descriptor], reference: Reference) -> str | None:
        """Returns the tag of the reference; if it has none, `latest` or the only tag."""
        tags = _tags(listed)
        if reference.tag_given or LATEST in tags or not tags:
            return reference.tag
        if len(tags) > 1:
            raise NotFound(f"{self._name} has several tags, name one of them: {_some(tags)}")
        return tags[0]

    def _tagged(self, listed: list[Descriptor], tag: str | None) -> tuple[Digest, int]:
        found = {(item.digest, item.size) for item in listed if item.annotations.get(REF_NAME) == tag}
        if not found:
            raise NotFound(f"{self._name} has no tag {tag!r}; {_what_there_is(listed)}")
        if len(found) > 1:
            raise InvalidManifest(f"{self._name} has several manifests with the tag {tag!r}; ask for one by its digest")
        return found.pop()

    def _document(self, name: str) -> dict[str, object]:
        return read_object(self._small(name, name), f"{self._name}: {name}", InvalidManifest)

    def _small(self, path: str, what: str) -> bytes:
        """Reads a file into memory, at most one byte more than what reads it accepts."""
        file = self._open(path)
        if file is None and path.startswith("blobs/"):
            raise NotFound(f"{self._name} has no {what}")
        if file is None:
            fix = "a folder with a Kitfile is written ./FOLDER"
            raise NotAModelKit(f"{self._name} is not one: it has no file {what}; {fix}")
        with file:
            return file.read(MAX_DOCUMENT_BYTES + 1)


def _tags(listed: list[Descriptor]) -> list[str]:
    return list(dict.fromkeys(tag for item in listed if (tag := item.annotations.get(REF_NAME))))


def _some(tags: list[str]) -> str:
    return ", ".join(newest(tags)) + (" and others" if len(tags) > len(newest(tags)) else "")


def _what_there_is(listed: list[Descriptor]) -> str:
    if tags := _tags(listed):
        return f"it has {_some(tags)}"
    digests = ", ".join(str(item.digest) for item in listed[:3])
    return f"it has no tags, ask for one of its digests: {digests}" if digests else "it lists no manifests at all"


def open_file(path: Path, *, follow: bool = False) -> BinaryIO | None:
    """Returns the open file, None if there is none. Raises UnsafeArchive for anything else, StorageFailed."""
    with reading(repr(str(path)), UnsafeArchive, ", wanted a file"), suppress(FileNotFoundError, NotADirectoryError):
        return open_plain(path, follow=follow)
    return None


def _index_members(file: BinaryIO, subject: str) -> dict[str, tuple[int, int]]:
    """Returns where each regular file of a tar lies, offset and size, by name without a leading "./".

    Raises UnsafeArchive if it holds anything else than files and folders, NotAModelKit if it is compressed.
    """
    if compression := _COMPRESSED.get(file.read(2)):
        raise NotAModelKit(f"{subject} is compressed with {compression}; decompress it first")
    file.seek(0)
    reader = TarReader(file.read, subject, skip=lambda size: file.seek(size, os.SEEK_CUR))
    members: dict[str, tuple[int, int]] = {}
    for number, member in enumerate(reader):
        if number >= _MAX_MEMBERS:
            raise UnsafeArchive(f"{subject} has more than {_MAX_MEMBERS} members")
        name = member.name.removeprefix("./")
        if name in members:
            raise UnsafeArchive(f"{subject} has the member {name[:200]!r} twice")
        if not member.is_folder:
            members[name] = (reader.offset, member.size)
    return members


class _Window(io.RawIOBase):
    """`size` bytes of `file` from `offset` on as a file of their own, which closes `file` when it is closed."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._position = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        wanted = max(0, min(len(view), self._size - self._position))
        data = os.pread(self._file.fileno(), wanted, self._offset + self._position)  # whatever the file's own position
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
