"""A client of the service: grpcio's own, with the messages of `inference.proto`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import uvloop

from adapters.base import Model
from runtime.serving.grpc.server import Server
from runtime.serving.protocol.codec import Codec, prepare
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE
from runtime.serving.served import Models
from runtime.supervisor.sockets import listen
from tests.serving.support import Served, app_of

PATIENCE_SECONDS = 60.0
Infer, Answer = METHODS["ModelInfer"]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]], np.float32)


def infer_request(model: str = "iris", data: np.ndarray = ROWS, *, raw: bool = True, **fields: Any) -> Any:
    tensor: dict[str, Any] = {"name": "X", "datatype": "FP32", "shape": data.shape}
    if raw:
        return Infer(model_name=model, inputs=[tensor], raw_input_contents=[data.tobytes()], **fields)
    return Infer(model_name=model, inputs=[{**tensor, "contents": {"fp32_contents": data.ravel()}}], **fields)


class Client:
    """Each method of the service as a method of Python."""

    def __init__(self, address: str, *options: tuple[str, Any]) -> None:
        self.channel = grpc.insecure_channel(
            address, (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1), *options)
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request: Any = None, *, kind: str = "unary_unary", **options: Any) -> Any:
        asked, answered = METHODS[method]
        made = getattr(self.channel, kind)(f"/{SERVICE}/{method}", asked.SerializeToString, answered.FromString)
        return made(asked() if request is None else request, **{"timeout": PATIENCE_SECONDS, **options})

    def infer(self, request: Any, **options: Any) -> Any:
        return self.call("ModelInfer", request, **options)

    def future(self, request: Any, **options: Any) -> grpc.Future:
        made = self.channel.unary_unary(f"/{SERVICE}/ModelInfer", Infer.SerializeToString, Answer.FromString)
        return made.future(request, **{"timeout": PATIENCE_SECONDS, **options})


@contextmanager
def serving(*models: Model, **options: Any) -> Iterator[tuple[Served, Client]]:
    """The models on a real gRPC server on a free loopback port, in a thread of its own, and a client of it."""
    served = app_of(*models, **options)
    listener, started, stopping = listen("127.0.0.1", 0), threading.Event(), asyncio.Event()

    def speak(codec: Codec) -> None:
        codecs = served.app.speak(codec)
        for one in served.models.values():
            prepare(one, codecs)

    async def main() -> None:
        served.loop = asyncio.get_running_loop()
        models = Models(served.models, served.health, served.slots, served.lines.log)
        server = Server(models, [listener], bodies=served.app.bodies, health=served.health, limits=served.limits,
                        log=served.lines.log, speak=speak)  # fmt: skip
        served.server, served.port = server, listener.getsockname()[1]
        await server.start()
        await server.accept()
        started.set()
        await stopping.wait()
        await server.drain(0.1)

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        with Client(f"127.0.0.1:{listener.getsockname()[1]}") as client:
            yield served, client
    finally:
        served.loop.call_soon_threadsafe(stopping.set)
        thread.join(PATIENCE_SECONDS)
        for one in served.models.values():
            one.engine.close()
        served.lines.close()
    assert not thread.is_alive()
