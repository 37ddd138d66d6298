"""The receipt that `runtime unpack` leaves in a folder: which kit its files are, so that a server can check them again.

What can be computed is not believed: the digest of the reference must be the manifest's, the config what the manifest
says, every file under an entry of the Kitfile, and a raw layer its file. The digests of files from tar layers cannot be
computed: whoever can write into the folder can write other files and another receipt. So a kit with a receipt counts
as verified by receipt, and not as verified.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from runtime.errors import BadContent, InvalidReference, Unsupported
from runtime.kit.files import open_plain, reading
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.head import Head, combined_kitfile, combined_layers
from runtime.kit.format.json_text import read_object
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.paths import KITFILE_NAME, RECEIPT_NAME, STAGING_NAME, checked_parts, entry_path, lies_under
from runtime.kit.format.placing import Placed, needed
from runtime.kit.format.reference import Reference

VERSION: Final = 2
MAX_RECEIPT_BYTES: Final = 64 << 20  # twice what as many files as a kit may have need, with names of ordinary length
_AGAIN: Final = "empty the folder and unpack the kit again with `runtime unpack REF DIR`"


class Receipt(NamedTuple):
    """The kit that was unpacked: its resolved reference, manifest and config, byte for byte, and each file's digest.

    `files`: by path relative to the folder; the Kitfile is among them, the receipt is not. `kitfile` and `placed` are
    those of the kit and its `parents` together.
    """

    reference: Reference
    manifest: Manifest
    config: bytes
    kitfile: Kitfile
    placed: tuple[Placed, ...]
    files: Mapping[str, Digest]
    parents: tuple[Head, ...] = ()

    @classmethod
    def of(
        cls,
        reference: Reference,
        manifest: Manifest,
        config: bytes,
        files: Mapping[str, Digest],
        parents: tuple[Head, ...] = (),
    ) -> "Receipt":
        """Returns the receipt for `files`, beside the Kitfile. Raises ValueError and BadContent if they do not fit."""
        heads = (_head(reference, manifest, config), *parents)
        kitfile, placed = combined_kitfile(heads), combined_layers(heads)
        _check_files(files, needed(placed))
        files = {KITFILE_NAME: manifest.config.digest, **files}
        return cls(reference, manifest, config, kitfile, placed, files, parents)

    @classmethod
    def parse(cls, raw: bytes, where: str) -> "Receipt":
        """Reads a receipt; `where` is its path, for messages. Raises BadContent, Unsupported for a newer version."""
        subject = f"the receipt {where!r}"
        try:
            document = read_object(raw, "it", BadContent, MAX_RECEIPT_BYTES)
            version = document.get("version")
            if type(version) is not int or version <= VERSION:
                return _receipt(document, version)
        except (ValueError, BadContent) as problem:
            raise BadContent(f"{subject} cannot be used: {problem}; {_AGAIN}") from problem
        seen = f"has version {version}, this runtime reads {VERSION}"
        raise Unsupported(f"{subject} {seen}; serve with the version that unpacked")

    def to_bytes(self) -> bytes:
        """Returns the text that `parse` reads. Raises Unsupported if that would be too long."""
        files = {path: str(self.files[path]) for path in sorted(self.files) if path != KITFILE_NAME}
        document: dict[str, object] = {"version": VERSION, **_texts(self.reference, self.manifest, self.config)}
        if self.parents:
            document["parents"] = [_texts(*parent[:3]) for parent in self.parents]
        document["files"] = files
        raw = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
        if len(raw) > MAX_RECEIPT_BYTES:
            subject, size = f"the receipt of {len(self.files)} files", f"{len(raw)} bytes"
            most = f"at most {MAX_RECEIPT_BYTES} are read; serve the kit by its reference"
            raise Unsupported(f"{subject} would have {size}, {most}")
        return raw


def installed(folder: Path) -> Receipt | None:
    """Returns the receipt of a folder that `runtime unpack` filled, None for any other folder.

    Raises BadContent, also if the kit in it is not whole, Unsupported, StorageFailed.
    """
    if os.path.lexists(folder / STAGING_NAME):
        seen = "`runtime unpack` is at work in it, or was ended before it was done"
        raise BadContent(f"folder {str(folder)!r} is not whole: {seen}; run it again")
    return read_receipt(folder / RECEIPT_NAME)


def read_receipt(path: Path) -> Receipt | None:
    """Returns the receipt at `path`, None if there is nothing. Raises BadContent, Unsupported, StorageFailed."""
    missing = suppress(FileNotFoundError, NotADirectoryError)
    with reading(f"the receipt {str(path)!r}", BadContent, f"; {_AGAIN}"), missing, open_plain(path) as file:
        return Receipt.parse(file.read(MAX_RECEIPT_BYTES + 1), str(path))
    return None


def _receipt(document: Mapping[str, object], version: object) -> Receipt:
    if type(version) is not int or version != VERSION:
        raise ValueError(f"its version is {version!r}, wanted {VERSION}")
    listed = document.get("files")
    if not isinstance(listed, dict):
        raise ValueError("files is not a JSON object")  # noqa: TRY004 - about the document, not about a Python type
    files = {path: _digest(listed, path) for path in listed}
    parents = document.get("parents", [])
    if not isinstance(parents, list) or not all(isinstance(each, dict) for each in parents):
        raise ValueError("parents is not a list of JSON objects")
    return Receipt.of(*_stated(document), files, tuple(_head(*_stated(each)) for each in parents))


def _texts(reference: Reference, manifest: Manifest, config: bytes) -> dict[str, str]:
    return {"reference": str(reference), "manifest": manifest.raw.decode(), "config": config.decode()}


def _stated(document: Mapping[str, object]) -> tuple[Reference, Manifest, bytes]:
    """Reads what `_texts` wrote."""
    text = _text(document, "reference")
    try:
        reference = Reference.parse(text)
    except InvalidReference as problem:
        raise ValueError(f"its reference is bad: {problem}") from problem
    if reference.digest is None:
        raise ValueError(f"its reference {text[:200]!r} has no digest")
    manifest = Manifest.parse(_text(document, "manifest").encode(), expected=reference.digest, subject="its manifest")
    return reference, manifest, _text(document, "config").encode()


def _head(reference: Reference, manifest: Manifest, config: bytes) -> Head:
    DigestCheck(manifest.config.digest, manifest.config.size, "its config").check_whole(config)
    return Head.of(reference, manifest, config)


def _check_files(files: Mapping[str, Digest], placed: tuple[Placed, ...]) -> None:
    """Raises ValueError for a path that is none of the kit's, and for a raw layer that is not its file."""
    entries = [entry_path(each.entry.path) for each in placed]
    for path in files:
        try:
            parts = checked_parts(path)
        except ValueError as problem:
            raise ValueError(f"it lists {path[:200]!r}, and {problem}") from problem
        if parts[0] in (KITFILE_NAME, RECEIPT_NAME, STAGING_NAME):
            raise ValueError(f"it lists {path[:200]!r}, which is no file of a layer")
        if not any(lies_under(parts, entry, is_folder=False) for entry in entries):
            raise ValueError(f"it lists {path[:200]!r}, which is under no entry of the kit that serving needs")
    for each in placed:
        layer = each.layer
        if layer.format == "raw" and not layer.compression and files.get(layer.path or "") != layer.descriptor.digest:
            raise ValueError(f"its file {layer.path!r} is not the layer {layer.descriptor.digest}")


def _text(document: Mapping[str, object], key: str, what: str = "") -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise ValueError(f"its {what or key} is not text")  # noqa: TRY004 - about the document, not about a Python type
    return value


def _digest(listed: Mapping[str, object], path: str) -> Digest:
    text = _text(listed, path, what := f"digest of {path[:200]!r}")
    try:
        return Digest.parse(text)
    except ValueError as problem:
        raise ValueError(f"its {what} is bad: {problem}") from problem
