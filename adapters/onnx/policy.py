"""What an ONNX file may use: operators that are part of ONNX Runtime, and data in regular files of its own kit."""

import mmap
import posixpath
import stat
from typing import Final

from adapters.base import LoadFailed, ModelFiles, Refused
from adapters.onnx.file import Facts, read_facts
from adapters.wording import listed

DOMAINS: Final = frozenset({
    "", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training",
    "com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc", "org.pytorch.aten",
})  # fmt: skip
"""ONNX's own operator domains and those built into ONNX Runtime.
https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/graph/constants.h"""


def checked_facts(files: ModelFiles) -> Facts:
    """Returns what the file says about itself, read without ONNX Runtime. Raises LoadFailed, Refused."""
    try:
        with (
            (files.root / files.path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            facts = read_facts(data, files.path)
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{files.path} cannot be read: {error}") from error
    _check_operators(facts, files.path)
    _check_external_data(facts, files)
    return facts


def _check_operators(facts: Facts, name: str) -> None:
    """Raises Refused if the graph uses an operator that neither ONNX Runtime nor the file itself defines."""
    foreign = sorted((d, op) for d, op in facts.operators - facts.functions if d not in DOMAINS)
    if foreign:
        domain, operator = foreign[0]
        said = f"{name} uses the operator {operator} of the domain {domain!r}, which is not part of ONNX Runtime"
        why = "libraries of custom operators are not loaded: export the model with standard operators"
        raise Refused(f"{said}; {why}", file=name)


def _check_external_data(facts: Facts, files: ModelFiles) -> None:
    """Raises Refused or LoadFailed unless external data is in regular files of the kit that have no other hard link.

    https://onnx.ai/onnx/repo-docs/ExternalData.html. ONNX Runtime itself refuses paths that leave the folder, but it
    follows hard links, and it reads some locations as memory addresses.
    """
    for location in sorted({external.location for external in facts.externals}):
        member = _member(location, files)
        found = (files.root / member).lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            said = f"{member}, external data of {files.path}, is a link; it has to be a regular file with one name"
            raise Refused(said, file=member)
        ends = [e.offset + (e.length or 0) for e in facts.externals if e.location == location]
        if max(ends) > found.st_size:
            raise LoadFailed(f"{files.path} wants {max(ends)} bytes of {location!r}, which has {found.st_size}")


def _member(location: str, files: ModelFiles) -> str:
    """Returns the file of the kit that `location` names."""
    clean = posixpath.normpath(location)
    odd = not location or "\0" in location or "\\" in location or location.startswith(("/", "*/"))
    said = f"{files.path} keeps data in {location!r}"
    if odd or ".." in clean.split("/"):
        raise Refused(f"{said}, which is not the name of a file beside it", file=files.path)
    if ".." in location.split("/"):
        raise Refused(f"{said}; write the name without '..'", file=files.path)
    member = posixpath.normpath(posixpath.join(posixpath.dirname(files.path), clean))
    if member not in files.files:
        if files.files == (files.path,) and (files.root / member).is_file():
            raise LoadFailed(f"{said}, and is served alone: name the folder that has both")
        raise LoadFailed(f"{said}, which is not in the kit: {listed(files.files)}")
    return member
