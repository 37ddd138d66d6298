"""The least that answers a prediction: onnxruntime and uvicorn, nothing else. `startup.py` compares with it.

python loadtests/bare.py MODEL.onnx PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers whatever is asked."""
    body = b""
    more = True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    inputs = json.loads(body)["inputs"]
    feed = {tensor["name"]: np.array(tensor["data"], np.float32).reshape(tensor["shape"]) for tensor in inputs}
    outputs = session.run(None, feed)
    answer = [{"name": name, "data": array.ravel().tolist()} for name, array in zip(names, outputs, strict=True)]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"outputs": answer}).encode()})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", lifespan="off")
