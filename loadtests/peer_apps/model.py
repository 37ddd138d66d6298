"""The model that all peers serve: the ONNX file in MODEL, with as many threads as the process has cores."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = len(os.sched_getaffinity(0))
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
NAMES = [output.name for output in session.get_outputs()]
DATATYPES = {"f": "FP32", "l": "INT64", "q": "INT64"}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    """Answers a V2 request as the floor does."""
    inputs = {x["name"]: np.array(x["data"], np.float32).reshape(x["shape"]) for x in given["inputs"]}
    outputs = [
        {"name": name, "datatype": DATATYPES[array.dtype.char], "shape": array.shape, "data": array.ravel().tolist()}
        for name, array in zip(NAMES, session.run(NAMES, inputs), strict=True)
    ]
    return {"model_name": "m", "outputs": outputs}
