"""The scikit-learn adapter."""

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework
from adapters.pickles.file import looks_like_pickle, looks_like_skops


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of the estimator in `files.path`. Raises LoadFailed, Refused, MissingFramework."""
    framework("sklearn", "sklearn")
    from adapters.sklearn import file, model

    return model.as_model(*file.load_estimator(files, options), files, options)


ADAPTER = Adapter(
    name="sklearn",
    frameworks=("sklearn", "scikit-learn", "scikitlearn", "scikit", "joblib", "pickle", "skops"),
    suffixes=(".joblib", ".pkl", ".pickle", ".skops", ".sav"),
    sniff=lambda head: looks_like_pickle(head) or looks_like_skops(head),
    load=load,
    prepare=lambda: framework("sklearn", "sklearn"),
)
