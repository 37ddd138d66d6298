"""The MLflow adapter: folders as `mlflow.FLAVOUR.save_model` writes them. https://mlflow.org/docs/latest/ml/model/"""

import re

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.mlflow.folder import mlmodel_in


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of the flavour that `MLmodel` says. Raises LoadFailed, Refused, MissingFramework."""
    from adapters.mlflow import flavours

    return flavours.load(files, options)


def sniff(head: bytes) -> bool:
    """True if `head` begins an MLmodel."""
    return re.search(rb"^flavors:\s", head, re.MULTILINE) is not None


ADAPTER = Adapter(
    name="mlflow",
    frameworks=("mlflow",),
    suffixes=("/mlmodel",),
    sniff=sniff,
    load=load,
    folder=mlmodel_in,
)
