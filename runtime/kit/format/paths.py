"""Paths inside a kit: those that a Kitfile or a receipt names, those of archive members, and the names with a meaning.

Rules for the paths of a Kitfile: KitOps 1.7, https://github.com/kitops-ml/kitops/blob/main/pkg/lib/kitfile/validate.go
"""

import posixpath
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import InvalidKitfile
from runtime.kit.format.limits import DEFAULT_LIMITS, UnpackLimits

Parts = tuple[str, ...]  # the components of a relative path

KITFILE_NAME = "Kitfile"
RECEIPT_NAME = ".modelkit-receipt.json"
STAGING_NAME = ".modelkit-unpack"  # the folder where `runtime unpack` works: there while it runs, or if it was killed
LOST_AND_FOUND = "lost+found"  # at the top of many file systems, readable for root only

_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: controls, lone surrogates, line and paragraph separators
_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]*://"


def kit_home(environ: Mapping[str, str]) -> Path:
    """Returns the folder where Kit has its store and its logins."""
    if home := environ.get("KITOPS_HOME"):
        return Path(home)
    data = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or "/", ".local", "share"))
    return Path(data, "kitops")


def clean_path(text: str, where: str) -> str:
    """Returns `text` as Go's `path.Clean` does: "./model/" is "model", "" is ".".

    Raises InvalidKitfile for a path that is absolute, leaves the kit's folder, or cannot be a path of a kit.
    """
    if len(text) > (most := DEFAULT_LIMITS.path_bytes):
        raise InvalidKitfile(f"the Kitfile's {where} has {len(text)} characters, at most {most} are read")
    if "://" in text and re.match(_ADDRESS, text):
        raise InvalidKitfile(f"the Kitfile's {where} is an address, {text[:160]!r}; wanted a path inside the kit")
    if _unfit_character(text):
        raise InvalidKitfile(f"the Kitfile's {where} has a backslash or a control character in it: {text[:160]!r}")
    if text.startswith("/"):
        raise InvalidKitfile(f"the Kitfile's {where} is absolute, {text[:160]!r}; wanted a path inside the kit")
    cleaned = posixpath.normpath(text) if text else "."
    if cleaned == ".." or cleaned.startswith("../"):
        raise InvalidKitfile(f"the Kitfile's {where} leaves the kit's folder: {text[:160]!r}")
    return cleaned


def entry_path(path: str) -> Parts:
    """Returns the components of a cleaned path; none for ".", which is the kit's folder."""
    return () if path == "." else tuple(path.split("/"))


def lies_under(parts: Parts, entry: Parts, *, is_folder: bool) -> bool:
    """Tells whether a member belongs to an entry's path: is it, is below it, or is a folder above it."""
    return parts[: len(entry)] == entry or (is_folder and entry[: len(parts)] == parts)


def checked_parts(name: str, limits: UnpackLimits = DEFAULT_LIMITS) -> Parts:
    """Splits the relative path of a file or folder. Raises ValueError with the reason why it is refused."""
    if name.startswith("/"):
        raise ValueError("it is absolute")
    if unfit := _unfit_character(name):
        raise ValueError(f"it holds the character U+{ord(unfit):04X}")
    parts = tuple(name.split("/"))
    if ".." in parts:
        raise ValueError("it has a '..' component")
    if "" in parts or "." in parts:
        raise ValueError("it has a component that is empty or '.'")
    if len(parts) > limits.depth:
        raise ValueError(f"it is {len(parts)} levels deep, at most {limits.depth} are allowed")
    longest, most = max(len(part.encode()) for part in parts), limits.component_bytes
    if longest > most or len(name.encode()) > limits.path_bytes:
        raise ValueError(f"it is longer than {limits.path_bytes} bytes, or than {most} in one component")
    return parts


def _unfit_character(name: str) -> str | None:
    """Returns the first character that no path of a kit may have: a backslash, or one that is not text."""
    if name.isprintable() and "\\" not in name:
        return None
    return next((letter for letter in name if letter == "\\" or unicodedata.category(letter) in _UNFIT), None)
