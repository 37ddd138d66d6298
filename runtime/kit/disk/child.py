"""A folder whose model comes from another kit: its own files as layers beside its parent's, as if it were packed.

Nothing says what the bytes of these files should be: their digests are taken when they are read first.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from runtime.kit.disk.folder import FolderKit
from runtime.kit.disk.layout import LayoutSource, open_file
from runtime.kit.files import CHUNK_BYTES, open_plain, reading
from runtime.kit.format.digest import Digest
from runtime.kit.format.head import Head
from runtime.kit.format.ignore import ignoring
from runtime.kit.format.kitfile import Entry, Section
from runtime.kit.format.manifest import FILE_PATH, Descriptor, Layer, Manifest
from runtime.kit.format.placing import Placed
from runtime.kit.format.reference import Reference

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


def open_child(reference: Reference, folder: FolderKit) -> tuple[Head, LayoutSource]:
    """Returns the folder as a kit with a parent. Raises StorageFailed."""
    placed, members = list[Placed](), dict[str, Path]()
    for section, entry, path in _files(folder):
        named = {FILE_PATH: str(path.relative_to(folder.root))}
        descriptor = Descriptor("", *_digest(path), named)
        members[descriptor.digest.blob_path] = path
        placed.append(Placed(entry, section, Layer(descriptor, section, "raw", "", prompt=False)))

    def open_member(name: str) -> BinaryIO | None:
        if name == "oci-layout":
            return io.BytesIO(_LAYOUT)
        return open_file(members[name]) if name in members else None

    layers = tuple(each.layer for each in placed)
    raw = json.dumps([[str(each.descriptor.digest), each.path] for each in layers]).encode()
    config = Descriptor("", Digest.of(b""), 0, {})
    head = Head(reference, Manifest(Digest.of(raw), raw, config, layers), b"", folder.kitfile, tuple(placed))
    return head, LayoutSource(f"folder {str(folder.root)!r}", open_member)


def _digest(path: Path) -> tuple[Digest, int]:
    """Returns the digest and the size of a file."""
    found = hashlib.sha256()
    with reading(repr(str(path))), open_plain(path) as file:
        while data := file.read(CHUNK_BYTES):
            found.update(data)
        return Digest("sha256", found.hexdigest()), file.tell()


def _files(folder: FolderKit) -> Iterator[tuple[Section, Entry, Path]]:
    """Yields the files of each part and of the code, each file once."""
    is_ignored, seen = ignoring(folder.kitfile.ignored), set[Path]()
    for section, entry in folder.kitfile.entries:
        top = folder.root / entry.path
        if section in ("part", "code"):
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                name = str(path.relative_to(folder.root))
                is_link = any(each.is_symlink() for each in (path, *path.parents) if each.is_relative_to(folder.root))
                if path not in seen and path.is_file() and not is_link and not is_ignored(name):
                    seen.add(path)
                    yield section, entry, path
