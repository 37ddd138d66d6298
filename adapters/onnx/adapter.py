"""ONNX, through ONNX Runtime."""

from __future__ import annotations

import mmap
import os
from functools import cache
from typing import Any

from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options
from adapters.frameworks import framework
from adapters.onnx.file import Facts, looks_like_onnx, read_facts


def prepare() -> None:
    """Imports ONNX Runtime (and with it numpy)."""
    _onnxruntime()


@cache
def _onnxruntime() -> Any:
    # A model could otherwise bring session options of its own when the environment says so.
    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
    # Since 1.32 it would report to its makers and keep an identifier in the home folder (onnxruntime PR 27379, 29843).
    os.environ.update(ORT_DISABLE_TELEMETRY="1", ORT_TELEMETRY_DISABLED="1")
    ort = framework("onnxruntime", "onnx")
    ort.set_default_logger_severity(4)
    return ort


def load(files: ModelFiles, options: Options) -> Model:
    """The model in `files.path`. Raises LoadFailed, Refused."""
    from adapters.onnx import policy as onnx_policy
    from adapters.onnx import session as onnx_session

    facts = read(files)
    onnx_policy.check_operators(facts, files.path)
    onnx_policy.check_external_data(facts, files)
    return onnx_session.open_model(_onnxruntime(), files, facts, options)


def read(files: ModelFiles) -> Facts:
    """What the file says of itself, read without ONNX Runtime. Raises LoadFailed."""
    path = files.root / files.path
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            return read_facts(data, files.path)
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{files.path} cannot be read: {error}") from error


ADAPTER = Adapter(
    name="onnx",
    frameworks=("onnx", "onnxruntime", "onnx-runtime", "ort"),
    suffixes=(".onnx",),
    sniff=looks_like_onnx,
    load=load,
    prepare=prepare,
)
