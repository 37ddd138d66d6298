"""From an MLflow folder to a model: the adapter of its flavour loads the file, MLmodel says names and datatypes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.boosted import xgboost
from adapters.boosted.catboost import ADAPTER as CATBOOST
from adapters.boosted.lightgbm import ADAPTER as LIGHTGBM
from adapters.huggingface import adapter as huggingface
from adapters.imports import framework
from adapters.mlflow import pyfunc
from adapters.mlflow.folder import NAME, mlmodel_in
from adapters.mlflow.mlmodel import ALONE, MLmodel, read
from adapters.onnx.adapter import ADAPTER as ONNX
from adapters.pytorch.adapter import ADAPTER as PYTORCH
from adapters.sklearn.adapter import ADAPTER as SKLEARN
from adapters.values import DTYPES, Arrays
from adapters.wording import listed

Load = Callable[[ModelFiles, Options, MLmodel], Model]


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of an MLflow folder. Raises LoadFailed, Refused, MissingFramework."""
    path = mlmodel_in(files)
    if path is None:
        raise LoadFailed(f"{files.path} is no folder of MLflow: it holds no {NAME}; pack what save_model wrote, whole")
    said = read(files, path)
    flavour = next((name for name in FLAVOURS if name in said.flavours), None)
    if flavour is None:
        return pyfunc.load(files, options, said)
    key, loader = FLAVOURS[flavour]
    facts = said.flavours[flavour]
    if key not in facts:
        hint = ": save it with save_pretrained=True" if flavour == "transformers" else ""
        raise LoadFailed(f"{path} does not say {key} of its flavour {flavour}{hint}")
    file = said.inside(facts[key])
    if file not in files.files and flavour != "transformers":  # whose model is a folder
        file = _only_below(files, file, path)
    code = (said.inside(facts["code"]),) if facts.get("code") else ()
    columns = said.columns if flavour in TABLES else ()
    if flavour == "catboost":  # which has no missing texts
        columns = tuple(replace(column, nullable=False) for column in columns)
    told = replace(
        options,
        inputs=options.inputs or columns,
        sampled=options.sampled or said.tensors or said.columns,
        sample=options.sample or said.sample(),
    )
    try:
        model = loader(replace(files, path=file, code=(*files.code, *code)), told, said)
    except LoadFailed as error:
        if options.inputs:
            raise
        raise LoadFailed(str(error).replace("model.parameters.serving.inputs", f"the signature in {path}")) from error
    return _as_said(model, said, flavour)


def _only_below(files: ModelFiles, path: str, said_by: str) -> str:
    """Returns the model in a folder, where MLmodel says no more."""
    found = [f for f in files.files if f.startswith(f"{path}/model.")]
    if len(found) != 1:
        raise LoadFailed(f"{said_by} says that its model is {path}, which holds {listed(found)}")
    return found[0]


def _as_said(model: Model, said: MLmodel, flavour: str) -> Model:
    """Returns the model with the example of the folder, and with its optional columns filled in."""
    row = dict(said.row)
    required = [spec.name for spec in model.inputs if not spec.optional]
    if len(required) == 1 and ALONE in row:
        row = {required[0]: row[ALONE]}
    optional, predict, learn = [s for s in model.inputs if s.optional and not s.ignored], model.predict, model.learn
    return replace(
        model,
        example=row if row and row.keys() >= {*required} else model.example,
        predict=(lambda arrays, wanted: predict(_filled(arrays, optional), wanted)) if optional else predict,
        learn=learn and (lambda arrays: _as_said(learn(_filled(arrays, optional)), said, flavour)),
        properties={"mlflow_version": said.version, "mlflow_flavor": flavour, **model.properties},
    )


def _filled(arrays: Arrays, optional: Sequence[TensorSpec]) -> Arrays:
    """Returns the columns, with missing values for those that a request leaves out."""
    rows = len(next(iter(arrays.values()), ()))
    for spec in optional:
        if spec.name not in arrays:
            is_text = spec.datatype == "BYTES"
            kind = DTYPES[spec.datatype] if spec.datatype.startswith("FP") else np.dtype(np.float64)
            arrays[spec.name] = np.full(rows, None) if is_text else np.full(rows, np.nan, kind)
    return arrays


def _by(adapter: Adapter) -> Load:
    return lambda files, options, _said: adapter.load(files, options)


def _xgboost(files: ModelFiles, options: Options, said: MLmodel) -> Model:
    """Returns the model of a native file: of a wrapper if it was saved from one, whose answers differ."""
    wrapper = str(said.flavours["xgboost"].get("model_class", "")).removeprefix("xgboost.sklearn.")
    if wrapper not in ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor"):
        return xgboost.load(files, options)
    data = (files.root / files.path).read_bytes()
    xgboost.load_raw(data, files.path)  # checks it
    framework("sklearn", "sklearn")
    from adapters.sklearn.model import as_model

    estimator = getattr(framework("xgboost", "xgboost"), wrapper)()
    estimator.load_model(bytearray(data))
    return as_model(estimator, None, files, options)


def _lightgbm(files: ModelFiles, options: Options, _said: MLmodel) -> Model:
    """Returns the model of a native file, or of a wrapper in a pickle."""
    return (LIGHTGBM if files.path.endswith(".lgb") else SKLEARN).load(files, options)


def _transformers(files: ModelFiles, options: Options, said: MLmodel) -> Model:
    """Returns the model of a pipeline, whose tokenizer or image processor has a folder of its own."""
    facts = said.flavours["transformers"]
    if "peft_adaptor" in facts:
        raise LoadFailed(
            f"{said.path} has a PEFT adapter beside its model: merge them (merge_and_unload), and save that"
        )
    parts = facts.get("components") or ()
    found = [said.inside(f"components/{part}") for part in PROCESSORS if part in parts]
    return huggingface.load(files, options, *found[:1])


FLAVOURS: Final[Mapping[str, tuple[str, Load]]] = {
    "sklearn": ("pickled_model", _by(SKLEARN)),
    "xgboost": ("data", _xgboost),
    "lightgbm": ("data", _lightgbm),
    "catboost": ("data", _by(CATBOOST)),
    "onnx": ("data", _by(ONNX)),
    "pytorch": ("model_data", _by(PYTORCH)),
    "transformers": ("model_binary", _transformers),
}
"""Flavours, the key that names the model file, and what loads it."""
PROCESSORS: Final = ("tokenizer", "image_processor", "feature_extractor")
"""Parts of a pipeline that prepare what the model takes."""
TABLES: Final = ("sklearn", "xgboost", "lightgbm", "catboost")
"""Flavours whose models take columns."""
