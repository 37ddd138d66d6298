"""The ONNX adapter."""

import os
from functools import cache
from typing import Any

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework, installed
from adapters.onnx.file import looks_like_onnx


@cache
def onnxruntime() -> Any:
    """Returns the module ONNX Runtime, imported with numpy and set up."""
    # A model could otherwise bring its own session options when the environment says so.
    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
    # Since 1.32 it sends telemetry and writes an identifier into the home folder:
    # https://github.com/microsoft/onnxruntime/pull/27379, https://github.com/microsoft/onnxruntime/pull/29843
    os.environ.update(ORT_DISABLE_TELEMETRY="1", ORT_TELEMETRY_DISABLED="1")
    ort = framework("onnxruntime", "onnx")
    ort.set_default_logger_severity(4)
    return ort


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, Refused."""
    from adapters.onnx import policy, session

    return session.open_model(onnxruntime(), files, policy.checked_facts(files), options)


ADAPTER = Adapter(
    name="onnx",
    frameworks=("onnx", "onnxruntime", "onnx-runtime", "ort"),
    suffixes=(".onnx",),
    sniff=looks_like_onnx,
    load=load,
    prepare=onnxruntime,
    check=installed("onnxruntime", "onnx"),
)
