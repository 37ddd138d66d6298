"""CatBoost, from its own CBM files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from adapters import checks as own
from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.frameworks import framework

if TYPE_CHECKING:
    from adapters.base import Arrays

KNOWN: Final = {"threads": own.whole}
KINDS: Final = {"predict": "Class", "predict_proba": "Probability", "raw": "RawFormulaVal"}


def prepare() -> None:
    """Imports CatBoost."""
    framework("catboost", "catboost")


def load(files: ModelFiles, options: Options) -> Model:
    """The model in `files.path`. Raises LoadFailed, MissingFramework."""
    own.check(options.own, KNOWN, "catboost")
    catboost = framework("catboost", "catboost")
    from adapters.boosted import catboost_input

    model = catboost.CatBoost()
    try:
        # never load_model(blob=…): it reads past the end of bytes that are cut off
        model.load_model(str(files.root / files.path), format="cbm")
    except (catboost.CatBoostError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LoadFailed(f"{files.path} cannot be loaded by CatBoost {catboost.__version__}: {reason}") from error
    threads = int(str(options.own.get("threads", options.threads or 1)))
    given = catboost_input.rows_of(catboost, model, options)
    predict = _predict(model, threads)
    outputs = _outputs(model, predict, given.example())

    def answer(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        built = given.build(arrays)
        return {name: predict(name, built) for name in wanted}

    return Model(
        platform="catboost",
        inputs=given.specs,
        outputs=outputs,
        predict=answer,
        default_outputs=("predict",),
        batch=True,
        labels=tuple(str(label) for label in model.classes_) or None,
        properties={"catboost_version": catboost.__version__, **given.described},
    )


def _predict(model: Any, threads: int) -> Callable[[str, Any], Any]:
    from adapters.values import to_protocol

    is_classifier = bool(len(model.classes_))

    def predict(name: str, built: Any) -> Any:
        kind = KINDS[name] if is_classifier or name == "raw" else "RawFormulaVal"
        if name == "predict" and not is_classifier:
            kind = "Exponent" if str(model.get_all_params().get("loss_function")) in ("Poisson", "Tweedie") else kind
        made = model.predict(built, prediction_type=kind, thread_count=threads)
        array = to_protocol(made)
        return array.reshape(len(array)) if name == "predict" and array.ndim == 2 and array.shape[1] == 1 else array

    return predict


def _outputs(model: Any, predict: Callable[[str, Any], Any], example: Any) -> tuple[TensorSpec, ...]:
    from adapters.values import DATATYPE

    names = KINDS if len(model.classes_) else ("predict", "raw")
    made = {name: predict(name, example) for name in names}
    return tuple(TensorSpec(name, DATATYPE[array.dtype], (-1, *array.shape[1:])) for name, array in made.items())


def sniff(head: bytes) -> bool:
    """Whether `head` begins a CBM file."""
    return head.startswith(b"CBM1")


ADAPTER = Adapter(
    name="catboost",
    frameworks=("catboost", "cat-boost"),
    suffixes=(".cbm",),
    sniff=sniff,
    load=load,
    prepare=prepare,
)
