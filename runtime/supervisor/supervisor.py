"""The life of the workers: pull for them, start them, replace a dead one, drain them, and choose the exit code.

The supervisor holds the credentials, the network, the cache and the listening socket; it parses no byte of a model.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from runtime.errors import Cancelled, CrashLoop, Failure
from runtime.exits import KILLED, failure
from runtime.libraries import listen
from runtime.link.metrics import Meter
from runtime.link.model_files import ModelFacts
from runtime.progress import Progress, human_bytes
from runtime.supervisor.cgroups import oom_kills
from runtime.supervisor.sockets import curl_address, url

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.format.reference import Reference
    from runtime.kit.pull import Kit
    from runtime.link.channel import Message
    from runtime.supervisor.launcher import Launcher
    from runtime.supervisor.process import WorkerProcess

_CRASH_DEATHS: Final = 5
_CRASH_SECONDS: Final = 60.0
_KILL_GRACE_SECONDS: Final = 0.5
"""After the drain timeout, for workers that are about to end by themselves."""


class Supervisor:
    """One kit and its workers, from the first order to the exit code.

    Not `serving`, it ends as soon as a worker is ready, and `proof` is that worker's message; or with the first signal.
    """

    def __init__(self, reference: Reference, launcher: Launcher, first: WorkerProcess, *, serving: bool) -> None:
        self.reference, self._launcher, self._serving = reference, launcher, serving
        self.proof: Message | None = None
        self._settings, self._board, self._log = launcher.settings, launcher.board, launcher.log
        self._meter = Meter(self._board.slot(0))
        self._log.dropped = self._meter.log_dropped
        self._workers = {first.slot: first}
        self.kit: Kit | None = None
        self._deaths: deque[float] = deque(maxlen=_CRASH_DEATHS)
        self._started, self._oom_kills = time.monotonic(), oom_kills()
        listen(self._log, stderr=True)
        self._stopping = False

    async def run(self) -> int:
        """Brings the kit up, serves until told to stop, and gives the exit code.

        Raises:
            Failure: the pull failed, or workers die one after another.
            AdapterError: a worker could not load the kit.
        """
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._asked_to_stop, signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        for worker in self._workers.values():
            self._watch(worker)
        self._progress = self._pull_in_thread(loop)
        try:
            return await self._ended
        finally:
            self._progress.cancel()
            self._kill_all()
            for worker in self._workers.values():
                if worker.output:
                    worker.output.finish()

    # pull

    def _pull_in_thread(self, loop: asyncio.AbstractEventLoop) -> Progress:
        progress = Progress(
            self._log,
            on_bytes=self._note_bytes,
            on_phase=self._meter.pull_phase,
            on_kitfile=lambda kitfile: self._in_loop(loop, self._prepare, kitfile),
        )
        self._board.phase = "pulling"
        threading.Thread(target=self._pull, args=(loop, progress), name="pull", daemon=True).start()
        return progress

    def _pull(self, loop: asyncio.AbstractEventLoop, progress: Progress) -> None:
        from runtime.kit.pull import pull  # in this thread: workers import meanwhile

        try:
            kit = pull(self.reference, self._settings.pull_options, progress)
        except Exception as error:  # noqa: BLE001 - handed to the loop, which ends with it
            self._in_loop(loop, self._end, error)
        else:
            self._in_loop(loop, self._pulled, kit)

    @staticmethod
    def _in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
        try:
            loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: stopped in the middle of a pull
            return

    def _note_bytes(self, done: int, total: int) -> None:
        self._board.progress_bytes = (done, total)

    def _prepare(self, kitfile: Kitfile) -> None:
        if kitfile.model and kitfile.model.path:
            self._tell_all({"do": "prepare", "model": asdict(ModelFacts.of(kitfile))})

    def _pulled(self, kit: Kit) -> None:
        if self._stopping:
            return
        self.kit = kit
        self._meter.verified(kit.verified_bytes)
        self._board.phase = "loading"
        self._log.info("kit.verified", **_what_was_verified(kit, self.reference))
        self._tell_all({"do": "load", "kit": _as_message(kit)})
        for slot in range(2, self._settings.workers + 1):
            self._start(slot, accept=False)

    # workers

    def _start(self, slot: int, *, accept: bool) -> None:
        worker = self._workers[slot] = self._launcher.start(slot, accept=accept)
        if self.kit:
            worker.channel.send({"do": "load", "kit": _as_message(self.kit)})
        self._watch(worker)

    def _watch(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(worker.channel.fileno(), self._hear, worker)
        loop.add_reader(worker.pidfd, self._died, worker)

    def _tell_all(self, message: Message) -> None:
        for worker in self._workers.values():
            worker.channel.send(message)

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            messages = worker.channel.receive()
        except EOFError:  # it is ending, or has to: `_died` follows
            asyncio.get_running_loop().remove_reader(worker.channel.fileno())
            worker.kill()
            return
        for message in messages:
            match message:
                case {"event": "ready", "load_seconds": float(), "sandbox": str(), "curl": str()}:
                    self._is_ready(worker, message)
                case {"event": "failed", "kind": str(kind), "message": str(text)}:
                    self._failed(worker, failure(kind, text))
                case _:  # a worker that a model has taken over may say anything
                    self._log.error("worker.not_understood", worker=worker.slot)
                    worker.kill()

    def _is_ready(self, worker: WorkerProcess, message: Message) -> None:
        first = not self._board.workers_ready
        worker.ready = True
        self._board.set_ready(worker.slot, True)
        facts = {key: message[key] for key in ("load_seconds", "sandbox")}
        self._log.info(
            "worker.ready",
            message=f"worker {worker.slot} loaded the model in {message['load_seconds']:g} s",
            worker=worker.slot,
            pid=worker.pid,
            **facts,
        )
        if not self._serving:
            self.proof = message
            self._end(0)
        elif first and not self._stopping:
            self._board.phase = "ready"
            self._say_ready(message)

    def _say_ready(self, message: Message) -> None:
        address = url(self._launcher.listener)
        seconds = round(time.monotonic() - self._started, 2)
        curl = message["curl"].replace("{address}", curl_address(self._launcher.listener))
        self._log.info(
            "server.ready",
            message=(f"ready at {address} after {seconds:g} s; try", f"  {curl}"),
            address=address,
            model=self.reference.name,
            seconds=seconds,
            example=curl,
        )

    def _failed(self, worker: WorkerProcess, why: Exception) -> None:
        if any(other.ready for other in self._workers.values() if other is not worker):
            self._log.error("worker.failed", worker=worker.slot, reason=str(why))
            worker.kill()  # its death counts
        else:
            self._end(why)

    def _died(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.pidfd)
        loop.remove_reader(worker.channel.fileno())
        self._board.set_ready(worker.slot, False)
        del self._workers[worker.slot]
        reason = self._out_of_memory(worker.reap())
        if self._stopping or self._ended.done():  # done: we killed it ourselves
            if not self._workers:
                self._end(0)
            return
        self._log.error("worker.died", worker=worker.slot, pid=worker.pid, reason=reason)
        self._meter.restarted()
        self._deaths.append(loop.time())
        if len(self._deaths) == _CRASH_DEATHS and self._deaths[-1] - self._deaths[0] < _CRASH_SECONDS:
            self._end(
                CrashLoop(
                    f"workers died {_CRASH_DEATHS} times within {_CRASH_SECONDS:g} s, last of {reason}: giving up"
                )
            )
        else:
            self._start(worker.slot, accept=self._board.phase != "ready")

    def _out_of_memory(self, reason: str) -> str:
        """`reason`, more certain where the control group counts the processes that the kernel has ended."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        if reason.startswith("SIGKILL") and self._oom_kills > before:
            return "SIGKILL by the kernel: out of memory; give the container more, or serve a smaller model"
        return reason

    # the end

    def _asked_to_stop(self, signum: int) -> None:
        if self._stopping or not self._serving:
            self._log.warning("server.killed", signal=signal.Signals(signum).name)
            self._end(KILLED + signum)
            return
        self._stopping = True
        delay = self._settings.drain_delay if signum == signal.SIGTERM and self._board.workers_ready else 0.0
        name = signal.Signals(signum).name
        message = f"stopping on {name}: requests are accepted for {delay:g} s more"
        self._log.info("server.draining", message=message, signal=name, delay_seconds=delay)
        self._draining = asyncio.get_running_loop().create_task(self._drain(delay))

    async def _drain(self, delay: float) -> None:
        """Everything is accepted for `delay` seconds more; then our copy of the listener closes before theirs."""
        loop = asyncio.get_running_loop()
        self._progress.cancel()
        deadline = loop.time() + self._settings.drain_timeout
        self._board.phase = "draining"
        await asyncio.sleep(delay)
        self._launcher.listener.turn_away()
        self._launcher.listener.close()
        self._tell_all({"do": "stop", "seconds": max(deadline - loop.time(), 0.0)})
        if not self._workers:
            self._end(0)
        await asyncio.sleep(max(deadline - loop.time(), 0.0) + _KILL_GRACE_SECONDS)
        self._log.warning("server.drain_timed_out", seconds=self._settings.drain_timeout, workers=len(self._workers))
        self._kill_all()

    def _end(self, how: int | Exception) -> None:
        if self._ended.done():
            return
        if isinstance(how, Cancelled) or (self._stopping and isinstance(how, Failure)):
            return  # a pull that was told to end: the drain goes on
        if isinstance(how, Exception):
            self._board.phase = "failed"
            self._ended.set_exception(how)
        else:
            self._ended.set_result(how)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            worker.kill()


def _what_was_verified(kit: Kit, asked: Reference) -> dict[str, object]:
    facts: dict[str, object] = {"reference": str(kit.reference), "verified": kit.verified}
    if kit.verified == "false":
        reason = "a plain folder: nothing says what its bytes should be"
        return {"message": f"NOT verified: {kit.reference} is {reason}", **facts, "reason": reason}
    facts |= {"digest": str(kit.digest), "verified_bytes": kit.verified_bytes}
    verified = f"verified {human_bytes(kit.verified_bytes)}"
    if kit.verified == "receipt":
        message = f"{verified} by receipt: every byte is what the receipt in {asked} says, of {kit.reference}"
        return {"message": message, **facts, "folder": str(asked)}
    return {"message": f"{verified}: every byte is what {kit.digest} says", **facts}


def _as_message(kit: Kit) -> Message:
    return {
        "name": kit.reference.name,
        "reference": str(kit.reference),
        "tag": kit.reference.tag,
        "digest": str(kit.digest) if kit.digest else None,
        "model": asdict(ModelFacts.of(kit.kitfile)),
        "root": str(kit.root),
        "verified": kit.verified,
        "layers": {path: str(digest) for path, digest in kit.layers.items()},
    }
