"""The runtime as a library: a kit as an ASGI application, and a kit as a model to call in this process.

There are no worker processes and no sandbox here: the kit is pulled and verified as `runtime` does it, and its model is
loaded into the process that asks. What a model file may do while it is loaded is decided by `trust`, as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.link.board import Board
from runtime.link.messages import Load
from runtime.link.metrics import WIDTH, Meter
from runtime.log import LEVELS, Log, in_words
from runtime.progress import Progress
from runtime.serving.app import App
from runtime.serving.engine.limits import Limits
from runtime.serving.health import Health
from runtime.settings import Settings
from runtime.worker.loading import load as load_model

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from runtime.serving.served import Served


class Options(TypedDict, total=False):
    """The options of `runtime` that mean something here, under the names of its variables without `RUNTIME_`."""

    model_name: str
    registry: str
    cache_dir: str | Path
    plain_http: bool
    retry_budget: float
    adapter: str
    trust: str
    allow_global: str | Sequence[str]
    threads: int
    inference_timeout: float
    max_in_flight: int
    max_body_bytes: int
    log_inputs: bool


def load(reference: str, **options: Unpack[Options]) -> Served:
    """Pulls a kit, verifies it and loads its model; `served.predict({"x": …})` asks it.

    Samples in the kit are replayed first, as for a server. Options that are not given are read from the environment.

    Raises:
        Failure: the reference or an option is no good, or the kit cannot be had, verified or served.
        AdapterError: the model cannot be loaded, or may not.
    """
    return KitApp(reference, options).load()


def app(reference: str, **options: Unpack[Options]) -> KitApp:
    """An ASGI application that serves a kit under any ASGI server: `uvicorn module:name`, hypercorn, Ray Serve.

    The server's lifespan start pulls, verifies and loads. Options as for `load`.

    Raises:
        Failure: the reference or an option is no good.
    """
    return KitApp(reference, options)


class KitApp:
    """One kit as an ASGI application. Mounted in another one, pass it `lifespan`; else the first request loads."""

    def __init__(self, reference: str, options: Options) -> None:
        self._settings = settings = _read(reference, options)
        self._reference = Reference.parse(reference, registry=settings.registry, model_name=settings.model_name)
        self._log, self._board = _StandardLog(), Board.create(2, WIDTH)
        self._state, self._meter = self._board.models[0], Meter(self._board.slot(1))
        self._limits = Limits(
            body_bytes=settings.max_body_bytes,
            in_flight=settings.max_in_flight,
            deadline_seconds=settings.inference_timeout,
            threads=settings.threads or os.cpu_count() or 1,
            log_inputs=settings.log_inputs,
        )
        self._served: dict[str, Served] = {}
        health = Health(self._board, self._reference.name)
        self._app = App(self._served, health=health, board=self._board, limits=self._limits, log=self._log)
        self._loading: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._run(receive, send)
            return
        if self._loading is None:  # mounted, and nobody told it of a start: whoever asks now is told to come again
            self._in_thread().add_done_callback(self._loaded_late)
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Loads the kit, and lets go of it at the end: the `lifespan` of a Starlette application that mounts this one.

        Raises what `load` raises.
        """
        await self._in_thread()
        try:
            yield
        finally:
            self._board.draining = True
            for served in self._served.values():
                served.engine.close()

    def load(self) -> Served:
        """Returns the model, pulled, verified and loaded. Raises what `runtime.load` raises."""
        progress = Progress(self._log, on_bytes=self._state.note_bytes)
        self._state.phase = "pulling"
        kit = pull(self._reference, self._settings.pull_options, progress)
        self._state.phase = "loading"
        terms = self._settings.terms(self._limits.threads, sandbox="off")
        started = time.monotonic()
        loaded = load_model(Load.of(kit), terms, limits=self._limits, meter=self._meter, log=self._log)
        self._meter.set("runtime_model_load_seconds", time.monotonic() - started)
        return loaded.served

    def _in_thread(self) -> asyncio.Future[None]:
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._serve)
        return self._loading

    def _serve(self) -> None:
        self._app.prepare()
        try:
            served = self.load()
        except Exception:
            self._state.phase = "failed"
            raise
        self._served[served.name] = served
        self._state.phase = "ready"
        self._state.set_ready(1, True)

    def _loaded_late(self, loading: asyncio.Future[None]) -> None:
        """Says how a load ended that no server waits for."""
        if not loading.cancelled() and (error := loading.exception()):
            self._log.error("runtime.failed", message=f"runtime: {error}", reason=str(error))

    async def _run(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:  # noqa: BLE001 - the server says it, in one line, and ends
            await send({"type": "lifespan.startup.failed", "message": f"runtime: {error}"})
        else:
            await send({"type": "lifespan.shutdown.complete"})


class _StandardLog(Log):
    """Events as lines of the logger `modelkit_runtime`: whose process this is decides what becomes of them."""

    def __init__(self) -> None:
        super().__init__(2, style="text", level="debug")
        self.has_status, self._logger = False, logging.getLogger("modelkit_runtime")

    def _event(self, level: str, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(LEVELS[level]):
            self._logger.log(LEVELS[level], "%s", in_words(event, fields))


def _read(reference: str, options: Options) -> Settings:
    """The settings of a command line that says the same, so that options mean and may be the same. Raises Failure."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}; there are {known}")
    words = [word for name, value in options.items() for word in _words(name, value)]
    given = {f"RUNTIME_{name.upper()}" for name in options}
    environ = {name: value for name, value in os.environ.items() if name not in given}
    return Settings.read(["serve", f"--kit={reference}", *words], environ)


def _words(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None or isinstance(value, bool):
        return [flag] if value else []
    values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return [f"{flag}={item}" for item in values]
