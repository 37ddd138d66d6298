"""scikit-learn: joblib and pickle files through an allow-list, skops files, checked before they predict."""

from __future__ import annotations

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.frameworks import framework
from adapters.pickles.file import looks_like_pickle, looks_like_skops


def prepare() -> None:
    """Imports scikit-learn."""
    framework("sklearn", "sklearn")


def load(files: ModelFiles, options: Options) -> Model:
    """The estimator in `files.path`. Raises LoadFailed, Refused, MissingFramework."""
    prepare()
    from adapters.sklearn import file as sklearn_file
    from adapters.sklearn import model as sklearn_model

    found = sklearn_file.load_estimator(files, options)
    return sklearn_model.as_model(found, files, options)


def sniff(head: bytes) -> bool:
    """Whether `head` begins a pickle, a joblib or a skops file."""
    return looks_like_pickle(head) or looks_like_skops(head)


ADAPTER = Adapter(
    name="sklearn",
    frameworks=("sklearn", "scikit-learn", "scikitlearn", "scikit", "joblib", "pickle", "skops"),
    suffixes=(".joblib", ".pkl", ".pickle", ".skops", ".sav"),
    sniff=sniff,
    load=load,
    prepare=prepare,
)
