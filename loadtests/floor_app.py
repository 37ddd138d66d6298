"""The least Starlette app that does what the runtime does with one small ONNX model: no checks, no limits, no metrics.

The floor of `floor.py`: run as `uvicorn loadtests.floor_app:app` with MODEL set to the path of the ONNX file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

options = ort.SessionOptions()
options.intra_op_num_threads = len(os.sched_getaffinity(0))  # its default counts cores that a pinned process has not
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
NAMES = [output.name for output in session.get_outputs()]
DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}
OUTPUTS = [(output.name, DATATYPES[output.type]) for output in session.get_outputs()]


async def infer(request: Request) -> Response:
    given = orjson.loads(await request.body())
    inputs = {x["name"]: np.array(x["data"], np.float32).reshape(x["shape"]) for x in given["inputs"]}
    arrays = session.run(NAMES, inputs)
    outputs = [
        {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel()}
        for (name, datatype), array in zip(OUTPUTS, arrays, strict=True)
    ]
    answer = {"model_name": request.path_params["model"], "id": given.get("id", ""), "outputs": outputs}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
