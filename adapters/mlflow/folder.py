"""Finds the `MLmodel` of a folder: its path alone says that the folder is one of MLflow."""

from typing import Final

from adapters.base import ModelFiles

NAME: Final = "MLmodel"


def mlmodel_in(files: ModelFiles) -> str | None:
    """Returns the MLmodel of the folder at `path`, or the only one below it; None if there is none."""
    start = "" if files.path in (".", NAME) else files.path.removesuffix(f"/{NAME}") + "/"
    found = [f for f in files.files if f == start + NAME or (f.startswith(start) and f.endswith(f"/{NAME}"))]
    return start + NAME if start + NAME in found else found[0] if len(found) == 1 else None
