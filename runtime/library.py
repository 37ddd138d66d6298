"""The runtime as a library: a kit as an ASGI application, and a kit as a model to call in this process.

There are no worker processes and no sandbox here: the kit is pulled and verified as `runtime` does it, and its model is
loaded into the process that asks. What a model file may do while it is loaded is decided by `trust`, as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from runtime.errors import Failure
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.link.board import Board
from runtime.link.messages import Load
from runtime.link.meter import Meter
from runtime.link.metrics import WIDTH
from runtime.link.model_files import ModelFacts
from runtime.log import LEVELS, Log, in_words
from runtime.progress import Progress
from runtime.serving.app import App
from runtime.serving.health import Health
from runtime.settings import Settings
from runtime.supervisor.cgroups import allowance
from runtime.supervisor.launcher import limits_of
from runtime.worker.failures import failed
from runtime.worker.loading import load as load_model

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from runtime.serving.served import Served

_PAUSE_SECONDS: Final = 5.0  # between two tries to load a kit without `lifespan`


class Options(TypedDict, total=False):
    """The options of `runtime` that mean something here, under the names of its variables without `RUNTIME_`."""

    model_name: str
    registry: str
    select: str | Sequence[str]
    mirror: str | Sequence[str]
    verify_key: str | Path | Sequence[str | Path]
    verify_claim: str | Sequence[str]
    signatures: str
    registry_user: str
    registry_password_file: str | Path
    cache_dir: str | Path
    plain_http: bool
    cache_max_bytes: int
    cache_check: str
    pull: str
    offline: bool
    retry_budget: float
    min_rate: int
    keep_blobs: str
    adapter: str
    trust: str
    allow_global: str | Sequence[str]
    threads: int
    batching: str
    inference_timeout: float
    max_in_flight: int
    max_in_flight_rows: int
    max_body_bytes: int
    log_inputs: bool


def load(reference: str | Path, **options: Unpack[Options]) -> Served:
    """Pulls a kit, verifies it and loads its model; `served.predict({"x": …})` asks it.

    Samples in the kit are replayed first, as for a server. Options that are not given are read from the environment.

    Raises Failure if the reference or an option is invalid, or the kit cannot be pulled, verified or served;
    AdapterError if the model cannot or may not be loaded.
    """
    return _Kit(*_read(reference, options)).load()


def app(reference: str | Path, **options: Unpack[Options]) -> KitApp:
    """Returns an ASGI application that serves a kit under any server: `uvicorn module:name`, hypercorn, Ray Serve.

    The server's lifespan start pulls, verifies and loads. Options as for `load`. Raises Failure if one, or
    the reference, is invalid.
    """
    return KitApp(reference, options)


class KitApp:
    """One kit as an ASGI application. Mounted in another one, pass it `lifespan`; else the first request loads."""

    def __init__(self, reference: str | Path, options: Options) -> None:
        self._make = partial(_Kit, *_read(reference, options))
        self._kit: _Kit | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI 3 connection: https://asgi.readthedocs.io/en/stable/specs/main.html."""
        if scope["type"] == "lifespan":
            await self._run(receive, send)
            return
        if self._kit is None or time.monotonic() > self._kit.try_again_at:
            self._kit = self._make()  # mounted without `lifespan`: this request starts the load, and gets 503
            self._kit.in_thread()
        await self._kit.app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Loads the kit, and releases it at the end: the `lifespan` of a Starlette application that mounts this one.

        Raises what `load` raises.
        """
        kit = self._kit = self._make()
        try:
            await asyncio.wrap_future(kit.in_thread())
            yield
        finally:
            kit.close()

    async def _run(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"runtime: {error}"})
            raise  # a server has heard enough; Starlette's TestClient waits for it
        else:
            await send({"type": "lifespan.shutdown.complete"})


class _Kit:
    """A kit between one start and its end."""

    def __init__(self, reference: Reference, settings: Settings) -> None:
        self._reference, self._settings, self._log = reference, settings, _StandardLog()
        board = Board.create(2, WIDTH)
        for file in board.files:  # mapped already; no other process gets them
            os.close(file)
        self._board, self._state, self._meter = board, board.models[0], Meter(board.slot(1))
        self._meter.set("runtime_start_timestamp_seconds", time.time())
        self._log.counted = self._meter.error
        self._limits = limits_of(settings, allowance())
        self._meter.limits(self._limits)
        self._served: dict[str, Served] = {}
        health = Health(board, reference.name)
        self.app = App(self._served, health=health, board=board, limits=self._limits, log=self._log)
        self._progress = Progress(
            self._log, on_bytes=self._state.note_bytes, on_phase=self._meter.pull_took,
            on_kitfile=lambda kitfile: ModelFacts.checked(kitfile, settings.adapter, settings.trust),
            on_retry=partial(self._meter.add, "runtime_pull_retries_total", 1),
        )  # fmt: skip
        self._trial: asyncio.Task[None] | None = None
        self.try_again_at = math.inf  # in seconds of time.monotonic(), once it could not be loaded

    def load(self) -> Served:
        """Returns the model, pulled, verified and loaded. Raises what `runtime.load` raises."""
        self._state.phase = "pulling"
        try:
            kit = pull(self._reference, self._settings.pull_options, self._progress)
            self._meter.add("runtime_verified_bytes_total", kit.verified_bytes)
            self._state.phase = "loading"
            terms, message = self._settings.terms(sandbox="off"), Load.of(kit)
            return load_model(message, terms, limits=self._limits, meter=self._meter, log=self._log)[0]
        except Exception as error:
            told = failed(self._reference.name, error).as_error()
            raise error if isinstance(error, Failure) or type(told) is type(error) else told from error

    def in_thread(self) -> Future[None]:
        """Starts a daemon thread that loads the model, which the application then serves."""
        done, loop = Future[None](), asyncio.get_running_loop()
        done.add_done_callback(partial(self._ended, loop))
        done.set_running_or_notify_cancel()  # from now on no waiter can cancel it
        threading.Thread(target=self._serve, args=(done,), name="load", daemon=True).start()
        return done

    def _serve(self, done: Future[None]) -> None:
        try:
            self.app.prepare()
            served = self.load()
        except Exception as error:  # noqa: BLE001 - handed to the waiter
            self._state.phase, self.try_again_at = "failed", time.monotonic() + _PAUSE_SECONDS
            self._log.error("runtime.failed", reason=str(error))
            done.set_exception(error)
            return
        self._served[served.name] = served
        self._state.phase = "ready"
        self._state.set_ready(1, True)
        done.set_result(None)

    def _ended(self, loop: asyncio.AbstractEventLoop, _: Future[None]) -> None:
        with suppress(RuntimeError):  # the loop was closed before
            loop.call_soon_threadsafe(self._loaded)

    def _loaded(self) -> None:
        for served in self._served.values():
            self._trial = asyncio.get_running_loop().create_task(served.try_batching())

    def close(self) -> None:
        """Ends a pull, and the model's threads."""
        self._progress.cancel()
        self._board.draining = True
        if self._trial:
            self._trial.cancel()
        for served in self._served.values():
            served.engine.close()


class _StandardLog(Log):
    """Events as lines of the logger `modelkit_runtime`: whose process this is decides what becomes of them."""

    def __init__(self) -> None:
        super().__init__(2, style="text", level="debug")
        self.has_status, self._logger = False, logging.getLogger("modelkit_runtime")

    def _event(self, level: str, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(LEVELS[level]):
            self._logger.log(LEVELS[level], "%s", in_words(event, fields))


def _read(reference: str | Path, options: Options) -> tuple[Reference, Settings]:
    """Reads a command line that says the same, so that options mean the same as there. Raises Failure."""
    if unknown := ", ".join(sorted(set(options) - set(Options.__annotations__))):
        raise TypeError(f"unknown option {unknown}; there are {', '.join(Options.__annotations__)}")
    words = [word for name, value in options.items() for word in _words(name, value)]
    read = {f"RUNTIME_{name.upper()}" for name in Options.__annotations__ if name not in options}
    environ = {name: value for name, value in os.environ.items() if name in read or not name.startswith("RUNTIME_")}
    # --port, since PORT is no variable of the library
    settings = Settings.read(["serve", f"--kit={os.fspath(reference)}", "--port=0", *words], environ)
    return Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name), settings


def _words(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None or isinstance(value, bool):
        return [flag] if value else []
    values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return [f"{flag}={item}" for item in values]
