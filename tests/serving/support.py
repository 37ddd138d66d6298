"""A served model for tests: real engine, app, server and sockets; only the model is a small numpy function."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import uvloop

from adapters.base import Model, TensorSpec
from runtime.link.gateway import NO_GATEWAY, Gateway
from runtime.link.limits import Limits
from runtime.link.meter import Meter
from runtime.link.metrics import WIDTH
from runtime.log import Log
from runtime.serving import served as serving_wing
from runtime.serving.app import App
from runtime.serving.codec_table import CODECS
from runtime.serving.http.server import Server
from runtime.serving.image_inputs import pictures
from runtime.serving.inference import Endpoint, rehearse
from runtime.serving.protocol.codec import Codec, prepare
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.protocol.v2.encode import example_request
from runtime.serving.served import Provenance
from runtime.supervisor.sockets import Listener, listen

DIGEST = "sha256:" + "ab" * 32
PROVENANCE = Provenance(
    name="iris",
    reference=f"localhost:5000/kits/iris:v1@{DIGEST}",
    digest=DIGEST,
    versions=("v1", DIGEST, "1"),
    framework="onnx",
    adapter="onnx",
    verified="true",
    trust="restricted",
)
PATIENCE_SECONDS = 60.0
BODY = b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}'
INFER = "/v2/models/iris/infer"


def iris_like(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """(n, 4) float32 -> label (n,) int64, scores (n, 3) float32: each row's own, so that a mix-up shows."""
    x = arrays["X"]
    scores = np.stack([x.sum(axis=1), x.max(axis=1), x.min(axis=1)], axis=1).astype(np.float32)
    answers = {"label": scores.argmax(axis=1).astype(np.int64), "scores": scores}
    return {name: answers[name] for name in wanted}


def model(predict: Callable[..., Any] = iris_like, **changes: Any) -> Model:
    fields: dict[str, Any] = {
        "platform": "test_numpy",
        "inputs": (TensorSpec("X", "FP32", (-1, 4)),),
        "outputs": (TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP32", (-1, 3))),
        "predict": predict,
        "threadsafe": True,
        "labels": ("setosa", "versicolor", "virginica"),
        "properties": {"made_by": "hand"},
    }
    return Model(**{**fields, **changes})


def echo(datatype: str, shape: tuple[int, ...] = (-1,), **changes: Any) -> Model:
    """One input and one output of the same kind: what goes in comes out."""
    return model(
        lambda arrays, wanted: {"y": arrays["x"]},
        inputs=(TensorSpec("x", datatype, shape),),
        outputs=(TensorSpec("y", datatype, shape),),
        labels=None,
        **changes,
    )


@dataclass
class StaticHealth:
    ready: bool = True
    draining: bool = False
    model_names: tuple[str, ...] = ("iris",)
    reason: str = "pulling"

    def report(self) -> dict[str, Any]:
        if self.ready:
            return {"ready": True, "live": True}
        return {"ready": False, "live": True, "reason": self.reason, "progress": {"bytes": 1, "total_bytes": 2}}


class Slots:
    """As many slots as a board would have, without a board."""

    def __init__(self, count: int = 2, ready: int = 1) -> None:
        self._all = [memoryview(bytearray(WIDTH * 8)).cast("d") for _ in range(count)]
        self.slots, self.workers_ready = count, ready

    def slot(self, index: int) -> memoryview:
        return self._all[index]


MADE: list[Lines] = []
"""All that were made; tests/serving/conftest.py closes those of a module at its end."""


class Lines:
    """A real `Log` over memory, and the events that were written to it."""

    def __init__(self, level: str = "debug") -> None:
        self._fd = os.memfd_create("log")
        self.log = Log(self._fd, style="json", level=level)
        self._written = b""
        MADE.append(self)

    def close(self) -> None:
        """Ends the log; what was written stays readable."""
        if self._fd >= 0:
            self.log.close(5)
            self._written = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
            os.close(self._fd)
            self._fd = -1

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """All events, or those of one name; ends the log."""
        self.close()
        events = [json.loads(line) for line in self._written.splitlines()]
        return [event for event in events if name in ("", event["event"])]


@dataclass
class Served:
    """A running app and what stands around it."""

    models: dict[str, serving_wing.Served]
    health: StaticHealth
    limits: Limits
    lines: Lines
    slots: Slots
    app: Any
    port: int = 0
    server: Any = None
    loop: asyncio.AbstractEventLoop | None = None
    listener: Listener | None = None
    _thread: threading.Thread | None = field(default=None)

    @property
    def model(self) -> serving_wing.Served:
        """The one that is served."""
        (served,) = self.models.values()
        return served

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked for predictions in V2 JSON."""
        return Endpoint.of(self.model, (V2_JSON,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def scrape(self) -> str:
        """The metrics, with what requests have noted until now."""
        if self.loop is None:
            self.app._models.settle()
        else:
            self.loop.call_soon_threadsafe(self.app._models.settle)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(10)
        return str(self.app._scrape().decode())

    def drain(self, seconds: float = 5.0) -> None:
        """Stops the server, as a supervisor stops a worker, and waits until it has."""
        self.begin_drain(seconds).result(seconds + 10)

    def begin_drain(self, seconds: float) -> Future[None]:
        """Stops the server; once this returns, it has begun to."""
        assert self.listener is not None
        assert self.server is not None
        assert self.loop is not None
        self.listener.turn_away()
        stopping = asyncio.run_coroutine_threadsafe(self.server.drain(seconds), self.loop)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(10)
        return stopping


def app_of(
    *models: Model,
    limits: Limits | None = None,
    health: StaticHealth | None = None,
    provenance: Provenance = PROVENANCE,
    warm: bool = True,
    codecs: tuple[Codec, ...] = CODECS,
    gateway: Gateway = NO_GATEWAY,
    images: Mapping[str, dict[str, Any]] | None = None,
    sample: Mapping[str, Any] | None = None,
) -> Served:
    """The app over the models (the first as `provenance.name`), without a server; `images` as `Declared` has them, `sample` a request of the kit's."""
    limits, health, lines, slots = limits or Limits(), health or StaticHealth(), Lines(), Slots()
    served: dict[str, serving_wing.Served] = {}
    for loaded in models:
        looks = pictures(loaded.inputs, images or {})
        meter = Meter(slots.slot(1))
        lines.log.counted = meter.error
        one = serving_wing.Served(loaded, provenance, limits, meter, lines.log, looks)
        served[provenance.name] = one
        one.example = sample
        prepare(one, codecs)
        if warm:
            rehearse(one, V2_JSON, orjson.dumps(example_request(loaded)), times=5)
    app = App(served, health=health, board=slots, limits=limits, log=lines.log, codecs=codecs, gateway=gateway)
    return Served(served, health, limits, lines, slots, app)


@contextmanager
def serving(*models: Model, **options: Any) -> Iterator[Served]:
    """The app on a real server on an ephemeral loopback port, in a thread of its own."""
    served = app_of(*models, **options)
    listener = listen("127.0.0.1", 0)
    served.listener, served.port = listener, listener.getsockname()[1]
    served.server = Server(served.app, [listener], health=served.health, limits=served.limits, log=served.lines.log)
    started, stopping = threading.Event(), asyncio.Event()

    async def main() -> None:
        served.loop = asyncio.get_running_loop()
        assert served.server is not None
        await served.server.start()
        await served.server.accept()
        started.set()
        await stopping.wait()
        await served.server.drain(0.0)

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        yield served
    finally:
        assert served.loop is not None
        served.loop.call_soon_threadsafe(stopping.set)
        thread.join(PATIENCE_SECONDS)
        for one in served.models.values():
            one.engine.close()
        served.lines.close()
    assert not thread.is_alive()
