"""`floor_app.py` with the least batcher: requests that wait for the event loop are one prediction.

Run as `uvicorn loadtests.floor_batching:app` with MODEL set to the path of the ONNX file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from loadtests.floor_app import NAMES, OUTPUTS, session

if TYPE_CHECKING:
    from starlette.requests import Request

WAITING: list[tuple[np.ndarray[Any, Any], asyncio.Future[list[np.ndarray[Any, Any]]]]] = []
MOST = 64
NAME = session.get_inputs()[0].name


async def infer(request: Request) -> Response:
    given = orjson.loads(await request.body())
    (x,) = given["inputs"]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[np.ndarray[Any, Any]]] = loop.create_future()
    WAITING.append((np.array(x["data"], np.float32).reshape(x["shape"]), answer))
    if len(WAITING) == 1:
        loop.call_soon(loop.call_soon, predict)  # when what the sockets have brought by now is read, too
    arrays = await answer
    outputs = [
        {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel()}
        for (name, datatype), array in zip(OUTPUTS, arrays, strict=True)
    ]
    body = {"model_name": request.path_params["model"], "id": given.get("id", ""), "outputs": outputs}
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def predict() -> None:
    batch, WAITING[:] = WAITING[:MOST], WAITING[MOST:]
    if WAITING:
        asyncio.get_running_loop().call_soon(predict)
    arrays = session.run(NAMES, {NAME: np.concatenate([rows for rows, _ in batch])})
    at = 0
    for rows, answer in batch:
        answer.set_result([array[at : at + len(rows)] for array in arrays])
        at += len(rows)


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
