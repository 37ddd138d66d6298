"""Imports a framework when it is needed, and says how to install it when it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from adapters.base import MissingFramework


def framework(module: str, extra: str) -> Any:
    """Returns the imported module. Raises MissingFramework with the extra that installs it.

    Typed `Any`: the frameworks are optional and most of them carry no types.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise MissingFramework(
            f"this model needs the package {top!r}, which is not installed: pip install 'modelkit-runtime[{extra}]'"
        ) from error
