"""From an MLflow folder to a model: the adapter of its flavour loads the file, MLmodel says names and datatypes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.boosted import xgboost
from adapters.boosted.catboost import ADAPTER as CATBOOST
from adapters.boosted.lightgbm import ADAPTER as LIGHTGBM
from adapters.imports import framework
from adapters.mlflow import pyfunc
from adapters.mlflow.folder import NAME, mlmodel_in
from adapters.mlflow.mlmodel import ALONE, MLmodel, read
from adapters.onnx.adapter import ADAPTER as ONNX
from adapters.pytorch.adapter import ADAPTER as PYTORCH
from adapters.sklearn.adapter import ADAPTER as SKLEARN
from adapters.values import DTYPES, Arrays
from adapters.wording import listed

Load = Callable[[ModelFiles, Options, Mapping[str, Any]], Model]


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
        raise LoadFailed(f"{path} does not say {key} of its flavour {flavour}")
    file = said.inside(facts[key])
    if file not in files.files:
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
        model = loader(replace(files, path=file, code=(*files.code, *code)), told, facts)
    except LoadFailed as error:
        if options.inputs:
            raise
        raise LoadFailed(str(error).replace("serving.inputs", f"the signature in {path}")) from error
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
    if len(model.inputs) == 1 and ALONE in row:
        row = {model.inputs[0].name: row[ALONE]}
    fits = {spec.name for spec in model.inputs} <= row.keys() | {s.name for s in model.inputs if s.optional}
    optional, predict, learn = [s for s in model.inputs if s.optional and not s.ignored], model.predict, model.learn
    return replace(
        model,
        example=row if row and fits else model.example,
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
    return lambda files, options, _facts: adapter.load(files, options)


def _xgboost(files: ModelFiles, options: Options, facts: Mapping[str, Any]) -> Model:
    """Returns the model of a native file: of a wrapper if it was saved from one, whose answers differ."""
    wrapper = str(facts.get("model_class", "")).removeprefix("xgboost.sklearn.")
    if wrapper not in ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor"):
        return xgboost.load(files, options)
    data = (files.root / files.path).read_bytes()
    xgboost.load_raw(data, files.path)  # checks it
    framework("sklearn", "sklearn")
    from adapters.sklearn.model import as_model

    estimator = getattr(framework("xgboost", "xgboost"), wrapper)()
    estimator.load_model(bytearray(data))
    return as_model(estimator, None, files, options)


def _lightgbm(files: ModelFiles, options: Options, _facts: Mapping[str, Any]) -> Model:
    """Returns the model of a native file, or of a wrapper in a pickle."""
    return (LIGHTGBM if files.path.endswith(".lgb") else SKLEARN).load(files, options)


FLAVOURS: Final[Mapping[str, tuple[str, Load]]] = {
    "sklearn": ("pickled_model", _by(SKLEARN)),
    "xgboost": ("data", _xgboost),
    "lightgbm": ("data", _lightgbm),
    "catboost": ("data", _by(CATBOOST)),
    "onnx": ("data", _by(ONNX)),
    "pytorch": ("model_data", _by(PYTORCH)),
}
"""Flavours, the key that names the model file, and what loads it."""
TABLES: Final = ("sklearn", "xgboost", "lightgbm", "catboost")
"""Flavours whose models take columns."""
