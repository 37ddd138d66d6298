"""Imports what a model needs when it needs it: its framework, and the kit's own code if the model may run it."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from typing import Any

from adapters.base import LoadFailed, MissingFramework, ModelFiles
from adapters.wording import failing, with_class


def framework(module: str, extra: str) -> Any:  # frameworks are optional, and most of them carry no types
    """Returns the imported module. Raises MissingFramework with the extra that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise MissingFramework(
            f"this model needs the package {top!r}, which is not installed: pip install 'modelkit-runtime[{extra}]'"
        ) from error


@contextmanager
def kit_on_path(files: ModelFiles) -> Iterator[None]:
    """Puts the folder of each code entry, then the kit's root, first on `sys.path`.

    They stay there: what was imported may import more when it predicts.
    """
    folders = [posixpath.dirname(entry) if entry in files.files else entry for entry in files.code]
    places = dict.fromkeys(str(files.root / folder) for folder in (*folders, ""))
    sys.path[:0] = [place for place in places if place not in sys.path]
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
    with kit_on_path(files), failing(f"the entry point {text!r} cannot be imported", with_class):
        found = attrgetter(name)(import_module(module))
    if not callable(found):
        raise LoadFailed(f"the entry point {text!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # checked just above
