"""Paths that a Kitfile names: relative, inside the kit's folder; and the rule by which a model's path is another kit.

KitOps 1.7 `pkg/lib/repo/util/kitfile.go` for the references, `pkg/lib/kitfile/validate.go` for the paths.
"""

import posixpath
import re

from runtime.errors import InvalidKitfile
from runtime.kit.format.reference_rules import REPOSITORY, TAG
from runtime.kit.unpack.names import unfit_character

_MAX_PATH = 1024  # of what is unpacked, too
_DIGEST = r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}"
_REGISTRY = r"[A-Za-z0-9._~-]+(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]*://"


def clean_path(text: str, where: str) -> str:
    """Give `text` as Go's `path.Clean` does: "./model/" is "model", "" is ".".

    Raises InvalidKitfile for a path that is absolute, leaves the kit's folder, or cannot be a path of a kit.
    """
    if len(text) > _MAX_PATH:
        raise InvalidKitfile(f"the Kitfile's {where} has {len(text)} characters, at most {_MAX_PATH} are read")
    if "://" in text and re.match(_ADDRESS, text):
        raise InvalidKitfile(f"the Kitfile's {where} is an address, {text[:160]!r}; wanted a path inside the kit")
    if unfit_character(text):
        raise InvalidKitfile(f"the Kitfile's {where} has a backslash or a control character in it: {text[:160]!r}")
    if text.startswith("/"):
        raise InvalidKitfile(f"the Kitfile's {where} is absolute, {text[:160]!r}; wanted a path inside the kit")
    cleaned = posixpath.normpath(text) if text else "."
    if cleaned == ".." or cleaned.startswith("../"):
        raise InvalidKitfile(f"the Kitfile's {where} leaves the kit's folder: {text[:160]!r}")
    return cleaned


def is_kit_reference(text: str) -> bool:
    """Tell whether Kit takes a `model.path` for a reference to another kit: `:` or `@` in it, and of that form.

    What stands before the first `/` is a registry only if it has a `.` or a `:`; a tag before an `@` is dropped.
    Without a look at the disk `./models/film_slm:champion` is a reference too: the caller knows better sometimes.
    """
    if ":" not in text and "@" not in text:
        return False
    first, slash, rest = text.partition("/")
    is_registry = bool(slash) and ("." in first or ":" in first)
    if is_registry and re.fullmatch(_REGISTRY, first) is None:
        return False
    return _is_name(rest if is_registry else text)


def _is_name(text: str) -> bool:
    """Tell whether `text` is repository[:tag][@digest]."""
    name, at, digest = text.partition("@")
    repository, colon, tag = name.partition(":")
    if re.fullmatch(REPOSITORY, repository) is None:
        return False
    return re.fullmatch(_DIGEST, digest) is not None if at else not colon or re.fullmatch(TAG, tag) is not None
