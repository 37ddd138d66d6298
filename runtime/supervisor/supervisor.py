"""One server from its first order to its exit code: pulls the kit, has workers load it, says ready, drains.

The supervisor holds the credentials, the network, the cache and the listening sockets; it parses no byte of a model.
Workers are in `workers.py`; what one sends decides nothing but whether its own model is loaded.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.base import AdapterError
from runtime.errors import Failure
from runtime.exits import KILLED
from runtime.kit.format.reference import Reference
from runtime.library_events import listen
from runtime.link.curl import curl_line
from runtime.link.messages import Failed, Load, Prepare, Ready, Stop
from runtime.link.meter import Meter
from runtime.link.model_files import ModelFacts
from runtime.progress import Progress, human_bytes
from runtime.supervisor.forget import forget
from runtime.supervisor.launcher import Launcher
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import curl_address, url
from runtime.supervisor.strays import adopt
from runtime.supervisor.workers import Workers

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.kit import Kit

_FORGET_SECONDS: Final = 0.2
"""After the model is loaded: where a worker takes the last memory, the kernel ends who asks for some, too."""
_LATEST_FORGET_SECONDS: Final = 10.0
"""After the pull, however long the model takes to load."""
_KILL_GRACE_SECONDS: Final = 0.5  # after the drain timeout, for workers that are about to end by themselves


class Supervisor:
    """One kit and its workers, from the first order to the exit code.

    Not `serving`, it ends as soon as a worker is ready, or with the first signal. `proof` is that worker's message, and
    `load_seconds` the time that passed here from the order to load until then.
    """

    def __init__(self, reference: Reference, launcher: Launcher, first: WorkerProcess | None, *, serving: bool) -> None:
        """`first` has its order already; None: it could not be started, and is tried again."""
        self.reference, self._launcher, self._serving = reference, launcher, serving
        self.kit: Kit | None = None
        self.proof: Ready | None = None
        self.load_seconds: float | None = None
        self._settings, self._board, self._log = launcher.settings, launcher.board, launcher.log
        self._model = self._board.models[0]
        self._meter = Meter(self._board.slot(0))
        self._meter.set("runtime_start_timestamp_seconds", time.time())
        self._log.dropped = partial(self._meter.add, "runtime_log_dropped_total")
        listen(self._log, stderr=True)
        self._workers = Workers(launcher, self._meter, first, self)
        self._address, self._curl_address = url(launcher.listener), curl_address(launcher.listener)
        self._started = self._ordered = time.monotonic()
        self._served = self._stopping = False
        self._forgetting: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Pulls the kit, serves until told to stop, and returns the exit code.

        Raises Failure if the pull fails or workers die one after another, AdapterError if none can load the kit.
        """
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.set_exception_handler(self._fault)
        adopt()
        stops = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            stops.append(signal.SIGHUP)
        for signum in stops:
            loop.add_signal_handler(signum, self._asked_to_stop, signum)
        loop.add_signal_handler(signal.SIGCHLD, self._workers.sweep)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        self._workers.watch()
        on_bytes, on_kitfile = self._model.note_bytes, partial(self._prepare, loop)
        on_phase, style = self._meter.pull_took, self._settings.progress
        progress = Progress(
            self._log, style=style, on_bytes=on_bytes, on_phase=on_phase, on_kitfile=on_kitfile,
            on_retry=partial(self._meter.add, "runtime_pull_retries_total", 1),
        )  # fmt: skip
        self._progress, self._model.phase = progress, "pulling"
        threading.Thread(target=self._pull, args=(loop, progress), name="pull", daemon=True).start()
        try:
            code = await self._ended
            if code == 0 and self._launcher.telemetry:
                self._launcher.telemetry.close()
            return code
        finally:
            for signum in stops:  # a further one must not replace the exit code
                loop.remove_signal_handler(signum)
                signal.signal(signum, signal.SIG_IGN)
            self._progress.cancel()
            self._workers.end()
            self._launcher.close_listeners()
            self._launcher.close_logs()

    # pull

    def _pull(self, loop: asyncio.AbstractEventLoop, progress: Progress) -> None:
        from runtime.kit.pull import pull  # in this thread: workers import meanwhile

        try:
            kit = pull(self.reference, self._settings.pull_options, progress)
        except Exception as error:  # noqa: BLE001 - handed to the loop, which ends with it
            self._in_loop(loop, self.ended, error)
        else:
            self._in_loop(loop, self._pulled, kit)

    @staticmethod
    def _in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: stopped in the middle of a pull
            loop.call_soon_threadsafe(callback, *arguments)

    def _prepare(self, loop: asyncio.AbstractEventLoop, kitfile: "Kitfile") -> None:
        """Has workers import the framework. In the pulling thread: raises AdapterError before a layer is fetched."""
        if facts := ModelFacts.checked(kitfile, self._settings.adapter, self._settings.trust):
            self._in_loop(loop, self._workers.tell, Prepare(self.reference.name, facts))

    def _pulled(self, kit: "Kit") -> None:
        if self._stopping:
            return
        self.kit = kit
        self._meter.add("runtime_verified_bytes_total", kit.verified_bytes)
        self._model.phase = "loading"
        self._log.info("kit.verified", **_what_was_verified(kit, self.reference))
        self._ordered = time.monotonic()
        self._workers.load(Load.of(kit), self._settings.workers)
        self._forget_after(_LATEST_FORGET_SECONDS)

    def _forget_after(self, seconds: float) -> None:
        if self._forgetting:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(seconds, forget)

    # what workers do (`workers.Owner`)

    def heard(self, worker: WorkerProcess, message: Ready | Failed) -> None:
        """Notes that a worker is ready. If it failed, ends the server, or only that worker if one has served before."""
        if isinstance(message, Ready):
            self._is_ready(worker, message)
        elif self._served:
            self._log.error("worker.failed", worker=worker.slot, reason=message.message)
            worker.kill()
        else:
            self.ended(message.as_error())

    def ended(self, failure: Exception | None) -> None:
        """Ends the server with the failure, or with 0. While it drains, a failed pull or load does not matter."""
        if self._ended.done() or (self._stopping and isinstance(failure, Failure | AdapterError)):
            return
        if failure is None:
            self._ended.set_result(0)
        else:
            self._model.phase = "failed"
            self._ended.set_exception(failure)

    def _is_ready(self, worker: WorkerProcess, message: Ready) -> None:
        first, self._served = not self._served, True
        self._model.set_ready(worker.slot, True)
        seconds, loaded = message.load_seconds, {"worker": worker.slot, "pid": worker.pid}
        said = f"worker {worker.slot} loaded the model in {seconds:g} s"
        self._log.info("worker.ready", message=said, **loaded, load_seconds=seconds, sandbox=message.sandbox)
        if not self._serving:
            self.proof, self.load_seconds = message, round(time.monotonic() - self._ordered, 2)
            self.ended(None)
        elif first and not self._stopping:
            self._model.phase = "ready"
            self._forget_after(_FORGET_SECONDS)
            if self._launcher.telemetry and self.kit:
                self._launcher.telemetry.start(self.reference.name, self._meter, self.kit)
            seconds, name, address = round(time.monotonic() - self._started, 2), self.reference.name, self._address
            curl = curl_line(self._curl_address, name, message.example)
            grpc = self._launcher.grpc_address
            lines = f"ready at {address}{grpc and f', gRPC at {grpc},'} after {seconds:g} s; try", f"  {curl}"
            more = {"grpc": grpc} if grpc else {}
            self._log.info(
                "server.ready", message=lines, address=address, **more, model=name, seconds=seconds, example=curl
            )

    # the end

    def _asked_to_stop(self, signum: int) -> None:
        name = signal.Signals(signum).name
        if self._stopping or not self._serving:
            self._log.warning("server.killed", signal=name)
            if not self._ended.done():
                self._ended.set_result(KILLED + signum)
            return
        self._stopping = True
        delay = self._settings.drain_delay if signum == signal.SIGTERM and self._workers.ready else 0.0
        message = f"stopping on {name}: requests are accepted for {delay:g} s more"
        self._log.info("server.draining", message=message, signal=name, delay_seconds=delay)
        self._draining = asyncio.get_running_loop().create_task(self._drain(delay))
        self._draining.add_done_callback(lambda task: task.cancelled() or task.result())

    async def _drain(self, delay: float) -> None:
        """Accepts everything for `delay` seconds more, then closes the listeners here, and then those of workers."""
        loop = asyncio.get_running_loop()
        self._progress.cancel()
        deadline = loop.time() + self._settings.drain_timeout
        self._board.draining = True
        await asyncio.sleep(delay)
        self._workers.stop(Stop(self.reference.name, max(deadline - loop.time(), 0.0)))
        await asyncio.sleep(max(deadline - loop.time(), 0.0) + _KILL_GRACE_SECONDS)
        self._log.warning("server.drain_timed_out", seconds=self._settings.drain_timeout, workers=len(self._workers))
        self.ended(None)

    def _fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Ends the server after an exception in a callback: no part of it may go on without the rest."""
        error = context.get("exception")
        self.ended(error if isinstance(error, Exception) else RuntimeError(context["message"]))


def _what_was_verified(kit: "Kit", asked: Reference) -> dict[str, object]:
    facts: dict[str, object] = {"reference": str(kit.reference), "verified": kit.verified}
    if kit.verified == "false":
        kind = "folder" if kit.reference.path and kit.reference.path.is_dir() else "file"
        reason = f"a plain {kind}: nothing says what its bytes should be"
        return {"message": f"NOT verified: {kit.reference} is {reason}", **facts, "reason": reason}
    facts |= {"digest": str(kit.digest), "verified_bytes": kit.verified_bytes}
    verified = f"verified {human_bytes(kit.verified_bytes)}"
    if kit.verified == "receipt":
        message = f"{verified} by receipt: every byte is what the receipt in {asked} says, of {kit.reference}"
        return {"message": message, **facts, "folder": str(asked)}
    signed = f", signed by {kit.signer}" if kit.signer else ""
    facts |= {"signed_by": kit.signer} if kit.signer else {}
    return {"message": f"{verified}: every byte is what {kit.digest} says{signed}", **facts}
