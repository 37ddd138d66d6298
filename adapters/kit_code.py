"""The kit's own Python code: importable while a model that may run it is loaded, and afterwards."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from adapters.base import LoadFailed, ModelFiles


def folders(files: ModelFiles) -> tuple[str, ...]:
    """Where the kit's code is imported from: the folder of each code entry in Kitfile order, then the kit's root."""
    found = []
    for entry in files.code:
        is_file = entry in files.files
        found.append(posixpath.dirname(entry) if is_file else entry)
    places = [str(files.root if folder in ("", ".") else files.root / folder) for folder in found]
    return tuple(dict.fromkeys((*places, str(files.root))))


@contextmanager
def on_path(files: ModelFiles) -> Iterator[None]:
    """Puts the kit's folders in front of the others for good: what was imported may import more when it predicts."""
    wanted = [folder for folder in folders(files) if folder not in sys.path]
    sys.path[:0] = wanted
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the kit's folder is not ours to write to
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes


def entrypoint(files: ModelFiles, text: str) -> Callable[..., Any]:
    """The callable that `module:callable` names in the kit's code. Raises LoadFailed."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise LoadFailed(f"serving.options.entrypoint is {text!r}; it must be module:callable")
    with on_path(files):
        try:
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except Exception as error:  # the kit's own code can raise anything when it is imported
            said = " ".join(str(error).split())[:200]
            raise LoadFailed(f"the entry point {text!r} cannot be imported: {type(error).__name__}: {said}") from error
    if not callable(found):
        raise LoadFailed(f"the entry point {text!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # checked just above
