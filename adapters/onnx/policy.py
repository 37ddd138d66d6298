"""What an ONNX file may ask for: operators that come with ONNX Runtime, data from regular files of its own kit."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING, Final

from adapters.base import LoadFailed, ModelFiles, Refused

if TYPE_CHECKING:
    from adapters.onnx.file import External, Facts

DOMAINS: Final = frozenset({
    "", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training",
    "com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc", "org.pytorch.aten",
})  # fmt: skip
"""ONNX's own domains and those built into ONNX Runtime."""


def check_operators(facts: Facts, name: str) -> None:
    """Raises Refused when the graph uses operators that neither ONNX Runtime nor the file itself defines."""
    foreign = sorted((d, op) for d, op in facts.operators - facts.functions if d not in DOMAINS)
    if foreign:
        domain, operator = foreign[0]
        raise Refused(
            f"{name} uses the operator {operator} of the domain {domain!r}, which is not part of ONNX Runtime; "
            "libraries of custom operators are not loaded: export the model with standard operators",
            file=name,
        )


def check_external_data(facts: Facts, files: ModelFiles) -> None:
    """Holds external data to regular, single-link files of the kit, named exactly. Raises Refused, LoadFailed.

    ONNX Runtime itself refuses paths that leave the folder, but follows hard links, and gives a
    meaning of its own to locations that are memory addresses.
    """
    folder = posixpath.dirname(files.path)
    for location in sorted({external.location for external in facts.externals}):
        member = _member(location, folder, files)
        size = _single_file_size(member, files)
        for external in facts.externals:
            if external.location == location:
                _check_range(external, size, files.path)


def _member(location: str, folder: str, files: ModelFiles) -> str:
    clean = posixpath.normpath(location)
    if (
        not location
        or "\0" in location
        or "\\" in location
        or location.startswith(("/", "*/"))
        or ".." in clean.split("/")
    ):
        raise Refused(
            f"{files.path} keeps data in {location!r}, which is not the name of a file beside it", file=files.path
        )
    if ".." in location.split("/"):
        raise Refused(f"{files.path} keeps data in {location!r}; write the name without '..'", file=files.path)
    member = posixpath.normpath(posixpath.join(folder, clean))
    if member not in files.files:
        raise LoadFailed(f"{files.path} keeps data in {location!r}, which is not in the kit: {_listed(files.files)}")
    return member


def _single_file_size(member: str, files: ModelFiles) -> int:
    facts = (files.root / member).lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise Refused(
            f"{member}, external data of {files.path}, is a link; it has to be a regular file with one name",
            file=member,
        )
    return facts.st_size


def _check_range(external: External, size: int, name: str) -> None:
    end = external.offset + (external.length or 0)
    if end > size:
        raise LoadFailed(f"{name} wants {end} bytes of {external.location!r}, which has {size}")


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
