"""The floor: the least Starlette app that answers with one model inline. No checks, no limits, no metrics, no log.

Run as `uvicorn loadtests.u3:app` with MODEL set to an ONNX or joblib file. With BINARY, tensors come in binary; with
BATCHES, requests that wait for the event loop are one prediction (the batching floor).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

Array = np.ndarray[Any, Any]
DTYPES: dict[str, type[np.generic]] = {"FP32": np.float32, "FP64": np.float64}
DATATYPES = {"f": "FP32", "d": "FP64", "l": "INT64", "q": "INT64"}
MOST_ROWS = 64

if os.environ["MODEL"].endswith(".onnx"):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = len(
        os.sched_getaffinity(0)
    )  # its default counts cores that a pinned process has not
    session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    NAMES = [output.name for output in session.get_outputs()]

    def predict(inputs: dict[str, Array]) -> list[Array]:
        arrays: list[Array] = session.run(NAMES, inputs)
        return arrays
else:
    import joblib

    model = joblib.load(os.environ["MODEL"])
    NAMES = ["predict"]

    def predict(inputs: dict[str, Array]) -> list[Array]:
        (x,) = inputs.values()
        return [model.predict(x)]


def from_json(_: Request, body: bytes) -> dict[str, Array]:
    given = orjson.loads(body)
    return {x["name"]: np.array(x["data"], DTYPES[x["datatype"]]).reshape(x["shape"]) for x in given["inputs"]}


def from_binary(request: Request, body: bytes) -> dict[str, Array]:
    at = int(request.headers["inference-header-content-length"])
    inputs = {}
    for x in orjson.loads(body[:at])["inputs"]:
        size = x["parameters"]["binary_data_size"]
        inputs[x["name"]] = np.frombuffer(body[at : at + size], DTYPES[x["datatype"]]).reshape(x["shape"])
        at += size
    return inputs


WAITING: list[tuple[dict[str, Array], asyncio.Future[list[Array]]]] = []


async def joined(inputs: dict[str, Array]) -> list[Array]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Array]] = loop.create_future()
    WAITING.append((inputs, answer))
    if len(WAITING) == 1:
        loop.call_soon(loop.call_soon, predict_waiting)  # when what the sockets have brought by now is read, too
    return await answer


def predict_waiting() -> None:
    batch, WAITING[:] = WAITING[:MOST_ROWS], WAITING[MOST_ROWS:]
    if WAITING:
        asyncio.get_running_loop().call_soon(predict_waiting)
    arrays = predict({name: np.concatenate([inputs[name] for inputs, _ in batch]) for name in batch[0][0]})
    at = 0
    for inputs, answer in batch:
        rows = len(next(iter(inputs.values())))
        answer.set_result([array[at : at + rows] for array in arrays])
        at += rows


BATCHES = "BATCHES" in os.environ
read = from_binary if "BINARY" in os.environ else from_json


async def infer(request: Request) -> Response:
    inputs = read(request, await request.body())
    arrays = await joined(inputs) if BATCHES else predict(inputs)
    outputs = [
        {"name": name, "datatype": DATATYPES[array.dtype.char], "shape": array.shape, "data": array.ravel()}
        for name, array in zip(NAMES, arrays, strict=True)
    ]
    answer = {"model_name": request.path_params["model"], "id": "", "outputs": outputs}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
