"""The receipt that `runtime unpack` leaves in a folder: which kit its files are, so that a server can check them again.

    {"version": 1,
     "reference": "HOST/REPOSITORY:TAG@sha256:…",     as it was resolved
     "digest": "sha256:…",                            of the manifest
     "files": {"Kitfile": "sha256:…", …}}             every file in the folder but this one

It is no signature: whoever can write into the folder can write another receipt. It finds what went wrong between the
container that unpacked and the one that serves: a file that is lost, cut short, changed, or somebody else's.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import BadContent, InvalidReference, StorageFailed, Unsupported
from runtime.kit.format.digest import Digest
from runtime.kit.format.folder_names import KITFILE_NAME, RECEIPT_NAME, STAGING_NAME
from runtime.kit.format.json_text import read_json
from runtime.kit.format.reference import Reference
from runtime.kit.unpack.expand import UnpackLimits
from runtime.kit.unpack.names import checked_parts

VERSION: Final = 1
MAX_RECEIPT_BYTES: Final = 32 << 20
"""A kit of as many files as it may have, with names of ordinary length, needs half of it."""

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not make us wait
_LIMITS: Final = UnpackLimits()
_AGAIN: Final = "empty the folder and unpack the kit again with `runtime unpack REF DIR`"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The kit that was unpacked, by its resolved reference and the digest of its manifest, and the digest of each file.

    `files`: by path relative to the folder; the Kitfile is among them, the receipt is not.
    """

    reference: Reference
    digest: Digest
    files: Mapping[str, Digest]

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Receipt:
        """Read a receipt; `where` is its path, for messages. Raises BadContent, Unsupported for a newer version."""
        subject = f"the receipt {where!r}"
        try:
            document = read_json(raw, subject, BadContent, most_bytes=MAX_RECEIPT_BYTES)
        except BadContent as problem:
            raise BadContent(f"{problem}; {_AGAIN}") from problem
        try:
            return _receipt(_object(document, "it"))
        except _OtherVersion as other:
            raise Unsupported(
                f"{subject} has version {other}, this runtime reads {VERSION}; serve with the version that unpacked"
            ) from other
        except ValueError as problem:
            raise BadContent(f"{subject} is not one: {problem}; {_AGAIN}") from problem

    def to_bytes(self) -> bytes:
        """The text that `parse` reads. Raises Unsupported where that would be too long."""
        files = {path: str(self.files[path]) for path in sorted(self.files)}
        document = {"version": VERSION, "reference": str(self.reference), "digest": str(self.digest), "files": files}
        raw = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
        if len(raw) > MAX_RECEIPT_BYTES:
            size = f"{len(raw)} bytes, at most {MAX_RECEIPT_BYTES} are read"
            raise Unsupported(f"the receipt of {len(files)} files would have {size}; serve the kit by its reference")
        return raw


def read_receipt(path: Path) -> Receipt | None:
    """The receipt at `path`; None where there is nothing. Raises BadContent, Unsupported, StorageFailed."""
    try:
        descriptor = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise BadContent(f"the receipt {str(path)!r} is a symbolic link; {_AGAIN}") from problem
        raise StorageFailed(f"cannot read the receipt {str(path)!r}: {problem.strerror}") from problem
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadContent(f"the receipt {str(path)!r} is not a regular file; {_AGAIN}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return Receipt.parse(file.read(MAX_RECEIPT_BYTES + 1), str(path))
    finally:
        os.close(descriptor)


class _OtherVersion(ValueError):
    """A receipt of a version that came later."""


def _receipt(document: Mapping[str, object]) -> Receipt:
    version = document.get("version")
    if type(version) is int and version > VERSION:
        raise _OtherVersion(str(version))
    if type(version) is not int or version != VERSION:  # True is 1, too
        raise ValueError(f"its version is {version!r}, wanted {VERSION}")
    digest = _digest(document.get("digest"), "digest")
    files = _object(document.get("files"), "files")
    if KITFILE_NAME not in files:
        raise ValueError(f"its files lack the {KITFILE_NAME}")
    checked = {_path(path): _digest(text, f"digest of {path[:200]!r}") for path, text in files.items()}
    return Receipt(_reference(document.get("reference"), digest), digest, checked)


def _reference(text: object, digest: Digest) -> Reference:
    if not isinstance(text, str):
        raise ValueError("its reference is not text")  # noqa: TRY004 - about the document, not about a Python type
    try:
        reference = Reference.parse(text)
    except InvalidReference as problem:
        raise ValueError(f"its reference is bad: {problem}") from problem
    if reference.digest != digest:
        raise ValueError(f"its reference {text[:200]!r} and its digest {digest} name two kits")
    return reference


def _path(path: str) -> str:
    try:
        parts = checked_parts(path, _LIMITS)
    except ValueError as problem:
        raise ValueError(f"it lists {path[:200]!r}, and {problem}") from problem
    if parts[0] in (RECEIPT_NAME, STAGING_NAME):
        raise ValueError(f"it lists {path[:200]!r}, which is no file of a kit")
    return path


def _digest(text: object, what: str) -> Digest:
    if not isinstance(text, str):
        raise ValueError(f"its {what} is not text")  # noqa: TRY004 - about the document, not about a Python type
    try:
        return Digest.parse(text)
    except ValueError as problem:
        raise ValueError(f"its {what} is bad: {problem}") from problem


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")  # noqa: TRY004 - about the document, not about a Python type
    return value
