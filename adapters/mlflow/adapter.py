"""The MLflow adapter: folders as `mlflow.FLAVOUR.save_model` writes them. https://mlflow.org/docs/latest/ml/model/"""

import re

from adapters.base import Adapter, Model, ModelFiles, Options

NAME = "MLmodel"


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of the flavour that `MLmodel` says. Raises LoadFailed, Refused, MissingFramework."""
    from adapters.mlflow import flavours

    return flavours.load(files, options)


def sniff(head: bytes) -> bool:
    """True if `head` begins an MLmodel."""
    return re.search(rb"^flavors:\s", head, re.MULTILINE) is not None


def folder(files: ModelFiles) -> str | None:
    """Returns the MLmodel of the folder at `path`, or the only one below it; None if there is none."""
    start = "" if files.path in (".", NAME) else files.path.removesuffix(f"/{NAME}") + "/"
    found = [f for f in files.files if f == start + NAME or (f.startswith(start) and f.endswith(f"/{NAME}"))]
    return start + NAME if start + NAME in found else found[0] if len(found) == 1 else None


ADAPTER = Adapter(
    name="mlflow",
    frameworks=("mlflow",),
    suffixes=("/mlmodel",),
    sniff=sniff,
    load=load,
    folder=folder,
)
