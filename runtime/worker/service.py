"""Life inside one worker: serve at once, import while the supervisor pulls, load, warm up, say ready, drain.

A worker holds the model and nothing else: no credentials, no network of its own, no text but its supervisor's orders.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

import adapters
from adapters.base import AdapterError
from runtime.libraries import listen
from runtime.link.board import Board
from runtime.link.metrics import Meter
from runtime.link.model_files import ModelFacts
from runtime.log import Log
from runtime.serving.app import App
from runtime.serving.engine.limits import Limits
from runtime.serving.http.server import Server
from runtime.serving.protocols import CODECS
from runtime.worker.curl import curl_line
from runtime.worker.failures import failure_of
from runtime.worker.loading import load

if TYPE_CHECKING:
    from runtime.link.channel import Channel, Message
    from runtime.serving.served import Served


class BoardHealth:
    """`runtime.serving.health.Health`, read from what all processes share."""

    def __init__(self, board: Board, model_name: str) -> None:
        self._board, self.model_names = board, (model_name,)

    @property
    def draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._board.draining

    @property
    def ready(self) -> bool:
        """Whether some worker has the model and nobody has asked the server to stop."""
        return self._board.phase == "ready" and self._board.workers_ready > 0

    def model_ready(self, name: str) -> bool:
        """Whether predictions of this model are answered."""
        return self.ready and name in self.model_names

    def report(self) -> dict[str, Any]:
        """The body of `GET /v2/health/ready`."""
        if self.ready:
            return {"ready": True, "live": True}
        done, total = self._board.progress_bytes
        phase = self._board.phase
        reason = "no worker is ready" if phase == "ready" else phase
        return {"ready": False, "live": True, "reason": reason, "progress": {"bytes": done, "total_bytes": total}}


class Service:
    """What a worker does, from its first order to its end."""

    def __init__(self, channel: Channel, order: Message) -> None:
        self._channel, self._order = channel, order
        board, listener, log = channel.files
        for fd in channel.files:
            os.set_inheritable(fd, False)
        self._board = Board(board)
        self._log = Log(log, gather=True, encode=_encode, **order["log"])
        self._meter = Meter(self._board.slot(order["slot"]))
        self._log.dropped = self._meter.log_dropped
        listen(self._log)
        self._limits = Limits(**order["limits"])
        self._served: dict[str, Served] = {}
        self._accepting = False
        health = BoardHealth(self._board, order["name"])
        self._app = App(self._served, health=health, scrape=self._scrape, limits=self._limits, log=self._log)
        sockets = [socket.socket(fileno=listener)]
        self._server = Server(self._app, sockets, health=health, limits=self._limits, log=self._log)

    async def run(self, later: list[Message]) -> None:
        """Serves until told to stop, or until the supervisor is gone."""
        self._stopped = asyncio.Event()
        await self._server.start()
        if self._order["accept"]:
            await self._accept()
        self._channel.unblock()
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear)
        for message in later:
            self._obey(message)
        await self._stopped.wait()
        self._log.close()
        os._exit(0)  # everything is answered; a model that is still loading in its thread would else be waited for

    def _hear(self) -> None:
        try:
            messages = self._channel.receive()
        except EOFError:
            os._exit(1)  # the supervisor is gone: nothing of it may live on
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        if message["do"] == "prepare":
            loop.run_in_executor(None, self._prepare, message["model"])
        elif message["do"] == "load":
            self._loading = loop.create_task(self._load_and_accept(message["kit"]))
        elif message["do"] == "stop":
            self._draining = loop.create_task(self._stop(message["seconds"]))

    async def _accept(self) -> None:
        if not self._accepting:
            self._accepting = True
            await self._server.accept()

    async def _stop(self, seconds: float) -> None:
        await self._server.drain(seconds)
        self._stopped.set()

    def _scrape(self) -> bytes:
        from runtime.serving.scrape import render  # with prometheus_client: 40 ms that no start has to wait for

        models = [served.provenance for served in self._served.values()]
        return render(self._board, models, [codec.name for codec in CODECS])

    # the model

    def _prepare(self, model: Message) -> None:
        """Imports the framework that the Kitfile names, while the layers are still on their way."""
        facts, asked = ModelFacts(**model), self._order["adapter"]
        try:
            adapter = adapters.guess(facts.path, framework=facts.framework, format=facts.format, adapter=asked)
            if adapter:
                adapter.prepare()
        except AdapterError:
            return  # loading says it again, with the files at hand

    async def _load_and_accept(self, kit: Message) -> None:
        started = time.monotonic()
        work = partial(load, kit, self._order, limits=self._limits, meter=self._meter, log=self._log)
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(None, work)
        except Exception as error:  # noqa: BLE001 - whatever it was, the supervisor says it and ends
            self._log.debug("model.load_failed", error=repr(error))
            self._channel.send({"event": "failed", **failure_of(error)})
            return
        gc.freeze()  # what is there now stays: no collection has to look at it again
        gc.enable()
        seconds = time.monotonic() - started
        self._meter.model_loaded(seconds)
        provenance = loaded.served.provenance
        self._served[provenance.name] = loaded.served
        await self._accept()
        self._channel.send(
            {
                "event": "ready",
                "load_seconds": round(seconds, 4),
                "samples": loaded.samples,
                "adapter": provenance.adapter,
                "sandbox": provenance.sandbox,
                "reference": provenance.reference,
                "curl": curl_line(provenance.name, loaded.request),
            }
        )
        asyncio.get_running_loop().run_in_executor(None, self._app.prepare)  # nobody waits for it any more


def _encode(fields: dict[str, object]) -> str:
    """A log line's JSON, three times as fast as the standard library's."""
    return orjson.dumps(fields, default=str).decode()
