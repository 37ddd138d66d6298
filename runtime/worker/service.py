"""What a worker does: serves at once, imports while the supervisor pulls, loads, warms up, says ready, drains.

A worker has the model and nothing else: no credentials, no network of its own, no input but its supervisor's orders.
"""

import asyncio
import gc
import os
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import orjson

import adapters
from adapters.base import DATATYPES, AdapterError, LoadFailed, Model, TensorSpec
from adapters.wording import with_class
from runtime.library_events import listen
from runtime.link.board import BREAK_OFF, Board
from runtime.link.channel import Channel
from runtime.link.messages import Learnt, Load, Order, Output, Prepare, Ready, Stop, Traced
from runtime.link.meter import Meter
from runtime.link.model_files import ModelFacts
from runtime.link.usage import usage
from runtime.log import Log, Style
from runtime.serving.app import App
from runtime.serving.codec_table import CODECS
from runtime.serving.health import Health
from runtime.serving.http.server import Server
from runtime.serving.in_hand import InHand
from runtime.serving.protocol.codec import prepare
from runtime.serving.served import Models, Served
from runtime.worker.failures import failed
from runtime.worker.harden import flush, narrow
from runtime.worker.loading import load

if TYPE_CHECKING:
    from runtime.link.spans import Sampling
    from runtime.serving.grpc.server import Server as GrpcServer
    from runtime.serving.protocol.codec import Codec
    from runtime.serving.traced import Tracer
_BEAT_SECONDS: Final = 0.5
_MOST_NEW_OBJECTS: Final = 200_000
"""Python looks for garbage after 700 new objects. A thousand requests in flight have 60,000, and none of it is garbage:
so each beat looks among the new ones, every tenth among those of the last ten, every hundredth among all."""
_MOST_OUTPUTS: Final = 100  # other workers show no more of a model before they learn them: a message has a bound
_SETTLE_SECONDS: Final = 0.5  # after ready, before what would compete with the first requests


class Service:
    """One worker, from its first order to its end."""

    def __init__(self, channel: Channel, order: Order) -> None:
        self._channel, self._order = channel, order
        control, metrics, log, *listeners = channel.files
        self._board = Board(control, metrics)
        style: Style = "json" if order.log_style == "json" else "text"
        self._log = Log(log, gather=True, encode=_encode, style=style, level=order.log_level)
        self._meter = Meter(self._board.slot(order.slot))
        self._meter.limits(order.limits)
        self._log.access, self._log.always = order.limits.access_log, {"worker": order.slot}
        self._log.dropped = partial(self._meter.add, "runtime_log_dropped_total")
        self._log.counted = self._meter.error
        listen(self._log)
        self._signs = self._board.signs(order.slot)
        self._in_hand = InHand(self._board, self._signs, self._meter)
        self._beats = 0
        self._predicts_since = 0.0  # when the model that is being loaded was first asked; 0: not yet
        self._served = dict[str, Served]()
        self._tracer: Tracer | None = None
        health = Health(self._board, order.model)
        self._codecs: tuple[Codec, ...] = CODECS
        self._health = health
        self._app = App(self._served, health=health, board=self._board, limits=order.limits, log=self._log,
                        gateway=order.gateway)  # fmt: skip
        sockets = [socket.socket(fileno=listener) for listener in listeners]
        http = Server(self._app, sockets[:1], health=health, limits=order.limits, log=self._log,
                      waiting=self._signs.waiting)  # fmt: skip
        self._servers: list[Server | GrpcServer] = [http]
        self._grpc_sockets = sockets[1:]

    async def run(self) -> None:
        """Serves until told to stop, or until the supervisor is gone."""
        self._stopped, self._accepting = asyncio.Event(), asyncio.Event()
        self._log.write_with(asyncio.get_running_loop())
        servers = 1 + len(self._grpc_sockets)
        await self._servers[0].start(servers)
        if self._order.accept:
            await self._servers[0].accept()
        if self._grpc_sockets:
            self._servers.append(grpc := self._grpc_server(self._grpc_sockets))
            await grpc.start(servers)
            if self._order.accept:
                await grpc.accept()
        signal.signal(BREAK_OFF, self._break_off)
        self._beat()
        os.set_blocking(self._channel.fileno(), False)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear)
        await self._stopped.wait()
        self._log.close()
        flush()
        os._exit(0)  # all is answered; a return would wait for threads, such as one that loads a model

    def _beat(self) -> None:
        """Writes on the board that the event loop runs, and since when a call is past its deadline."""
        now, seconds = time.monotonic(), self._order.limits.deadline_seconds
        late = [served.engine.late_since for served in self._served.values()]
        if self._predicts_since and 0 < seconds < now - self._predicts_since:
            late.append(self._predicts_since + seconds)
        oldest = min(filter(None, late), default=0.0)
        self._signs.note(now, oldest)
        self._in_hand.look(late=oldest > 0)
        self._meter.uses(usage())
        if self._tracer is not None:
            self._tracer.flush()
        if gc.isenabled():
            self._beats += 1
            gc.collect(2 if self._beats % 100 == 0 else 1 if self._beats % 10 == 0 else 0)
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _break_off(self, _signal: int, _frame: object) -> None:
        """Ends a call that holds the event loop past its deadline, unless it is in code that Python cannot leave."""
        for served in self._served.values():
            served.engine.break_off()

    def _first_prediction(self) -> None:
        self._predicts_since = time.monotonic()

    def _hear(self) -> None:
        try:
            message = self._channel.receive(Prepare, Load, Learnt, Stop)
        except EOFError:
            os._exit(1)  # the supervisor is gone
        loop = asyncio.get_running_loop()
        match message:
            case Prepare():
                loop.run_in_executor(None, self._prepare, message.facts)
            case Load():
                self._loading = loop.create_task(self._load_and_accept(message))
            case Learnt():
                self._show(message)
            case Stop():
                self._draining = loop.create_task(self._stop(message.seconds))

    def _grpc_server(self, sockets: list[socket.socket]) -> "GrpcServer":
        from runtime.serving.grpc.server import Server as GrpcServer  # HTTP is served already

        models = Models(self._served, self._health, self._board, self._log)
        self._app.later = ("grpc",)
        return GrpcServer(models, sockets, bodies=self._app.bodies, health=self._health, limits=self._order.limits,
                          log=self._log, speak=self._speak)  # fmt: skip

    def _speak(self, codec: "Codec") -> None:
        """Adds a protocol. May be called in any thread."""
        self._codecs = self._app.speak(codec)
        for served in tuple(self._served.values()):
            prepare(served, self._codecs)

    async def _stop(self, seconds: float) -> None:
        if any(server.missed for server in self._servers):  # of a worker that died when the stop began
            began = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._accepting.wait(), seconds)
            seconds = max(seconds - (time.monotonic() - began), 0.0)
        await asyncio.gather(*(server.drain(seconds) for server in self._servers))
        if self._tracer is not None:
            self._tracer.flush()
        self._stopped.set()

    # the model

    def _prepare(self, facts: ModelFacts) -> None:
        """Imports the framework that the Kitfile names, while the layers are still on their way."""
        asked = self._order.terms.adapter
        try:
            adapter = adapters.guess(facts.path, framework=facts.framework, format=facts.format, adapter=asked)
            if adapter:
                adapter.prepare()
        except AdapterError:
            return  # loading raises it again, with the files at hand

    def _load(self, kit: Load) -> tuple[Served, Ready]:
        terms = self._order.terms
        if kit.root != self._order.kits:
            terms = terms._replace(sandbox=narrow(terms.sandbox, kit.root))
        try:
            return load(kit, terms, limits=self._order.limits, meter=self._meter, log=self._log,
                        codecs=self._codecs, predicts=self._first_prediction)  # fmt: skip
        except Exception:
            raise
        except BaseException as error:  # of the kit's code; a CancelledError would cancel the task below
            raise LoadFailed(f"the kit's code failed: {with_class(error)}") from error

    async def _load_and_accept(self, kit: Load) -> None:
        try:
            served, ready = await asyncio.get_running_loop().run_in_executor(None, self._load, kit)
        except Exception as error:  # noqa: BLE001 - the supervisor reports it and ends
            self._log.debug("model.load_failed", error=repr(error))
            flush()  # the supervisor ends this worker when it hears of it
            self._channel.send(failed(kit.model, error))
            return
        gc.freeze()  # the garbage collector never looks at what is there now
        gc.set_threshold(_MOST_NEW_OBJECTS)
        gc.enable()
        self._log.private = not self._order.limits.log_inputs  # from now on texts may quote inputs
        self._predicts_since, served.in_hand = 0.0, self._in_hand
        if self._order.sampling is not None:
            self._trace(served, self._order.sampling)
        if served.model.learn is not None:
            loop = asyncio.get_running_loop()
            served.learnt = lambda model: loop.call_soon_threadsafe(self._tell_learnt, kit.model, model)
        self._served[kit.model] = served
        prepare(served, self._codecs)  # a protocol may have been added during the load
        if not self._order.accept:
            for server in self._servers:
                await server.accept()
        self._accepting.set()
        self._meter.uses(usage())  # with the model, from the moment that it is ready
        self._channel.send(ready)
        await asyncio.sleep(_SETTLE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, self._app.prepare)  # unless a request has asked for it
        await served.try_batching()

    def _tell_learnt(self, name: str, model: Model) -> None:
        outputs = tuple(Output(spec.name, spec.datatype, spec.shape) for spec in model.outputs[:_MOST_OUTPUTS])
        self._channel.send(Learnt(name, outputs, model.batch))

    def _show(self, learnt: Learnt) -> None:
        served = self._served.get(learnt.model)
        if served is not None and served.model.learn is not None:
            outputs = (TensorSpec(*output) for output in learnt.outputs if output.datatype in DATATYPES)
            served.show(tuple(outputs), batch=learnt.batch)

    def _trace(self, served: Served, sampling: "Sampling") -> None:
        from runtime.serving.traced import TracedCall, Tracer

        self._tracer = Tracer(
            sampling,
            lambda notes: self._channel.send(Traced(served.name, notes)),
            partial(self._meter.add, "runtime_spans_dropped_total"),
        )
        served.begin = partial(TracedCall, self._tracer)


def _encode(fields: dict[str, object]) -> str:
    """Returns a log line's JSON, in a third of the time that the standard library takes."""
    return orjson.dumps(fields, default=str).decode()
