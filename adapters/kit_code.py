"""The kit's own Python code, importable once a model that may run it is being loaded."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from adapters.base import LoadFailed, ModelFiles
from adapters.wording import failing, with_class


def folders(files: ModelFiles) -> tuple[str, ...]:
    """Returns where the kit's code is imported from: the folder of each code entry, in order, then the kit's root."""
    found = [posixpath.dirname(entry) if entry in files.files else entry for entry in files.code]
    places = [str(files.root if folder in ("", ".") else files.root / folder) for folder in found]
    return tuple(dict.fromkeys((*places, str(files.root))))


@contextmanager
def on_path(files: ModelFiles) -> Iterator[None]:
    """Puts the kit's folders first on `sys.path`, for good: what was imported may import more when it predicts."""
    wanted = [folder for folder in folders(files) if folder not in sys.path]
    sys.path[:0] = wanted
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the kit's folder is not ours to write to
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes


def entrypoint(files: ModelFiles, text: str) -> Callable[..., Any]:
    """Returns the callable that `module:callable` names in the kit's code. Raises LoadFailed."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise LoadFailed(f"serving.options.entrypoint is {text!r}; it must be module:callable")
    with on_path(files), failing(f"the entry point {text!r} cannot be imported", with_class):
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise LoadFailed(f"the entry point {text!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # checked just above
