"""oras-py, imported without what comes along and is of no use to a pull.

oras-py imports jsonschema to check what it pushes, and jsonschema imports every optional format checker that happens to
be installed; two of them compile grammars: 0.7 s and 23 MB in a process that should stay small. They are hidden from
that one import. Where jsonschema is imported already, nothing is left to save and nothing is done.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

_HIDDEN: Final = ("isoduration", "rfc3987_syntax")


def import_oras() -> tuple[Any, Any]:
    """The modules `oras.provider` and `oras.container`."""
    hidden = [name for name in _HIDDEN if name not in sys.modules] if "jsonschema" not in sys.modules else []
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        return import_module("oras.provider"), import_module("oras.container")
    finally:
        for name in hidden:
            del sys.modules[name]
