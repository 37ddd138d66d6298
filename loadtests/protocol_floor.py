"""The least server of a picture that Python allows: uvloop receives the tensor in place, one `session.run`, always the
same answer. It reads no HTTP, checks nothing, counts nothing, logs nothing: what is above it is the runtime's own.

    python -m loadtests.protocol_floor MODEL PORT REQUEST_BYTES
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import numpy as np
import onnxruntime as ort
import uvloop

SHAPE = (1, 3, 224, 224)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def serve(model: str, port: int, request_bytes: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    run = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run
    memory = np.empty(request_bytes, np.uint8)
    picture = memory[: int(np.prod(SHAPE)) * 4].view(np.float32).reshape(SHAPE)

    class Floor(asyncio.BufferedProtocol):
        received = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)

        def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
            return memory[self.received :].data

        def buffer_updated(self, nbytes: int) -> None:
            self.received += nbytes
            if self.received == request_bytes:
                self.received = 0
                run(None, {"X": picture})
                self.transport.write(ANSWER)

    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
