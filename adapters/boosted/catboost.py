"""The CatBoost adapter: CBM files."""

from pathlib import Path
from typing import Any, Final

from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.imports import framework, installed
from adapters.trust import allows_code
from adapters.wording import failing

KINDS: Final = {"predict": "Class", "predict_proba": "Probability", "raw": "RawFormulaVal"}

OF_LOSS: Final = {
    "Poisson": "Exponent", "Tweedie": "Exponent", "RMSEWithUncertainty": "RMSEWithUncertainty",
}  # fmt: skip
"""What CatBoostRegressor predicts for a loss function, where it is no raw value."""


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, MissingFramework."""
    model = load_cbm(files.root / files.path, files.path, texts=allows_code(options.trust))
    return as_model(model, options)


def load_cbm(path: Path, name: str, *, texts: bool = False) -> Any:
    """Returns the CatBoost model in a CBM file. Raises LoadFailed, MissingFramework; Refused for text features unless
    `texts`."""
    catboost = framework("catboost", "catboost")
    from adapters.boosted.cbm import check_cbm

    check_cbm(path.read_bytes(), name, texts=texts)
    model = catboost.CatBoost()
    with failing(f"{name} cannot be loaded by CatBoost {catboost.__version__}"):
        # never load_model(blob=…): it reads past the end of a file that is cut off
        model.load_model(str(path), format="cbm")
    return model


def as_model(model: Any, options: Options) -> Model:
    """Returns the model of a loaded CatBoost model."""
    catboost = framework("catboost", "catboost")
    from adapters.boosted import rows
    from adapters.values import to_protocol

    threads = rows.threads_of(options, "catboost")
    names = [str(name) for name in model.feature_names_]
    if model.get_cat_feature_indices() or model.get_text_feature_indices():
        given = _columns(catboost, model, options, names)
    else:
        shown = [] if names == [str(i) for i in range(len(names))] else names
        given = rows.rows_of(options, len(names), shown, "FP32")
    is_classifier = bool(len(model.classes_))
    loss = str(model.get_all_params().get("loss_function")).partition(":")[0]

    def predict(name: str, built: Any) -> Any:
        kind = KINDS[name] if is_classifier or name == "raw" else OF_LOSS.get(loss, "RawFormulaVal")
        array = to_protocol(model.predict(built, prediction_type=kind, thread_count=threads))
        return array.reshape(len(array)) if name == "predict" and array.shape[1:] == (1,) else array

    answers = KINDS if is_classifier else ("predict", "raw")
    return rows.as_model(catboost, given, predict, answers, labels=model.classes_)


def _columns(catboost: Any, model: Any, options: Options, names: list[str]) -> Any:
    """Returns the rows of a model with categories or texts: a column for each feature, BYTES for those."""
    import numpy as np

    from adapters.values import Rows, check_lengths, to_text

    categories, texts = sorted(model.get_cat_feature_indices()), sorted(model.get_text_feature_indices())
    named = [f"x{name}" if name.isdigit() else name for name in names]
    sampled = {s.name: s.datatype for s in options.sampled if s.datatype != "BYTES"}
    kinds = ["BYTES" if i in (*categories, *texts) else sampled.get(n, "FP32") for i, n in enumerate(named)]
    specs = options.inputs or tuple(TensorSpec(n, k, (-1,)) for n, k in zip(named, kinds, strict=True))
    if sorted(s.name for s in specs) != sorted(named):
        raise LoadFailed(f"model.parameters.serving.inputs must name the model's features: {', '.join(named)}")
    ordered = sorted(specs, key=lambda s: named.index(s.name))

    def build(arrays: dict[str, Any]) -> Any:
        check_lengths(arrays)
        made = np.empty((len(arrays[named[0]]), len(ordered)), dtype=object)
        for i, spec in enumerate(ordered):
            array = arrays[spec.name]
            made[:, i] = to_text(array, f"input {spec.name!r}") if spec.datatype == "BYTES" else array
        return catboost.Pool(made, cat_features=categories, text_features=texts, feature_names=names)

    return Rows(specs, build)


ADAPTER = Adapter(
    name="catboost",
    frameworks=("catboost", "cat-boost"),
    suffixes=(".cbm",),
    sniff=lambda head: head.startswith(b"CBM1"),
    load=load,
    prepare=lambda: framework("catboost", "catboost"),
    check=installed("catboost", "catboost"),
)
