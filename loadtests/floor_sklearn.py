"""The least Starlette app that does what the runtime does with a scikit-learn model: `floor_app.py` for those kits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import joblib
import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

model = joblib.load(os.environ["MODEL"])
METHODS = os.environ["METHODS"].split(",")
DATATYPES = {"f": "FP64", "i": "INT64", "U": "BYTES", "O": "BYTES"}


async def infer(request: Request) -> Response:
    given = orjson.loads(await request.body())
    (x,) = given["inputs"]
    rows = x["data"] if x["datatype"] == "BYTES" else np.array(x["data"]).reshape(x["shape"])
    outputs = []
    for method in METHODS:
        array = getattr(model, method)(rows)
        kind = DATATYPES[array.dtype.kind]
        data = array.tolist() if kind == "BYTES" else array.ravel()
        outputs.append({"name": method, "datatype": kind, "shape": array.shape, "data": data})
    answer = {"model_name": request.path_params["model"], "id": given.get("id", ""), "outputs": outputs}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


app = Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])
