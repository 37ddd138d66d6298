"""Reads `MLmodel` and the input example beside it: flavours, signature, a row that the model takes.

Formats: https://mlflow.org/docs/latest/ml/model/signatures/.
"""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import yaml

from adapters.base import LoadFailed, ModelFiles, TensorSpec
from adapters.values import DATATYPE, DTYPES, Arrays
from adapters.wording import failing

MAX_BYTES: Final = 16 << 20
"""Of MLmodel and of an input example, each."""
COLUMNS: Final = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64", "string": "BYTES",
    "binary": "BYTES", "datetime": "BYTES",
}  # fmt: skip
"""Types of columns in a signature, and their datatypes; a datetime is text of ISO 8601."""
ALONE: Final = "x"
"""The name of a tensor that has none, as the adapters call it."""


@dataclass(frozen=True)
class MLmodel:
    """What an MLflow folder says of its model."""

    path: str
    flavours: Mapping[str, Mapping[str, Any]]
    columns: tuple[TensorSpec, ...]
    """The inputs, if the signature says columns."""
    tensors: tuple[TensorSpec, ...]
    """The inputs, if the signature says tensors."""
    row: Mapping[str, list[Any]]
    """By name, the elements of the first row of the input example, in JSON; those of an unnamed one are `ALONE`."""
    version: str

    def inside(self, path: object) -> str:
        """Returns the path in the kit of what MLmodel names."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), str(path)))

    def sample(self) -> Arrays:
        """Returns the first row of the input example as arrays; none if it does not fit the signature."""
        made: Arrays = {}
        for spec in (*self.columns, *self.tensors):
            try:
                values = [v.encode() if isinstance(v, str) else v for v in self.row[spec.name]]
                made[spec.name] = np.array(values, DTYPES[spec.datatype]).reshape(1, *spec.shape[1:])
            except (KeyError, TypeError, ValueError, OverflowError):
                return {}
        return made


def read(files: ModelFiles, path: str) -> MLmodel:
    """Returns what the MLmodel at `path` says. Raises LoadFailed."""
    with failing(f"{path} is not as MLflow writes it"):
        found = yaml.safe_load(_text(files, path))
        flavours = {str(name): dict(facts) for name, facts in found["flavors"].items()}
        given = json.loads((found.get("signature") or {}).get("inputs") or "[]")
        columns = tuple(_column(one) for one in given if one.get("name") and one["type"] in COLUMNS)
        tensors = tuple(_tensor(one) for one in given if one["type"] == "tensor")
        whole = len(given) in (len(columns), len(tensors))  # else a type of column that no adapter takes
        version = str(found.get("mlflow_version", ""))
        said = MLmodel(path, flavours, columns if whole else (), tensors if whole else (), {}, version)
        return replace(said, row=_row(files, said, found.get("saved_input_example_info") or {}))


def _text(files: ModelFiles, path: str) -> str:
    if path not in files.files:
        raise LoadFailed(f"{path} is not in the kit")
    with (files.root / path).open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise LoadFailed(f"{path} has more than {MAX_BYTES} bytes")
    return raw.decode()


def _column(said: Mapping[str, Any]) -> TensorSpec:
    kind = COLUMNS[said["type"]]
    return TensorSpec(str(said["name"]), kind, (-1,), not said.get("required", True), kind == "BYTES")


def _tensor(said: Mapping[str, Any]) -> TensorSpec:
    spec = said["tensor-spec"]
    dtype = np.dtype(spec["dtype"])
    kind = "BYTES" if dtype.kind in "OUS" else DATATYPE[dtype]
    return TensorSpec(str(said.get("name") or ALONE), kind, tuple(map(int, spec["shape"])))


def _row(files: ModelFiles, said: MLmodel, info: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the first row of the input example; none if it is of a kind that has no rows."""
    path = said.inside(info.get("artifact_path"))
    if path not in files.files or info.get("type") not in ("dataframe", "ndarray", "json_object"):
        return {}
    found = json.loads(_text(files, path))
    if info["type"] == "json_object":
        named = found if isinstance(found, dict) else {ALONE: found}
        firsts = {name: value[0] if isinstance(value, list) else value for name, value in named.items() if value}
        return {str(name): [value] for name, value in firsts.items() if isinstance(value, str)}
    if info["type"] == "dataframe":
        names = found.get("columns") or [spec.name for spec in said.columns]
        pairs = zip(map(str, names), found["data"][0], strict=True)
        return {name: [value] for name, value in pairs if value is not None}
    arrays = found.get("inputs", found) if isinstance(found, dict) else found
    named = arrays if isinstance(arrays, dict) else {ALONE: arrays}
    return {str(name): np.asarray(array[0], dtype=object).ravel().tolist() for name, array in named.items()}
