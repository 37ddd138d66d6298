"""Starts, watches, replaces and ends the workers of one server. Nothing here knows what they serve.

Whatever a worker sends, or does to what it shares, may be the work of a hostile model: it costs that worker at most.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from runtime.errors import CrashLoop
from runtime.link.board import BREAK_OFF
from runtime.link.messages import Failed, Learnt, Load, Message, Ready, Stop, Traced
from runtime.link.meter import Meter
from runtime.link.usage import usage
from runtime.supervisor.cgroups import oom_kills
from runtime.supervisor.launcher import Launcher
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.sockets import is_intact, queue
from runtime.supervisor.strays import sweep, sweep_until_none
from runtime.supervisor.vitals import Vitals

_CRASH_DEATHS: Final = 5
_CRASH_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.5  # before a failed start is tried again; doubled each time. Five are a crash loop, too
_MOST_NOT_UNDERSTOOD: Final = 16  # messages that are no messages; a worker that sends one more is ended
_MOST_TRACED: Final = 100  # messages with notes of traced requests in a second; an honest worker sends 40
_LOOK_SECONDS: Final = 1.0
_STUCK_LOOKS: Final = 10  # 10 s: a busy event loop, too, accepts connections in that time
_LONGEST_PAUSE_SECONDS: Final = 10.0
_END_SECONDS: Final = 1.0  # for killed workers to end, then for the processes that they left


class Owner(Protocol):
    """Gets what happens to workers."""

    def heard(self, worker: WorkerProcess, message: Ready | Failed) -> None:
        """Gets a worker's answer to the order to load a model."""

    def ended(self, failure: Exception | None) -> None:
        """Is called when no worker is left: all were told to stop, or too many died."""


class Workers:
    """The workers by slot."""

    def __init__(self, launcher: Launcher, meter: Meter, first: WorkerProcess | None, owner: Owner) -> None:
        self._launcher, self._log, self._meter, self._owner = launcher, launcher.log, meter, owner
        self._workers: dict[int, WorkerProcess] = {first.slot: first} if first else {}
        self._loads: list[Load] = []
        self._learnt: dict[str, Learnt] = {}
        self._deaths: deque[float] = deque(maxlen=_CRASH_DEATHS)
        self._blamed: deque[float] = deque(maxlen=2 * _CRASH_DEATHS)  # times of deaths that requests caused
        self._vitals = Vitals(launcher.board, launcher.settings.inference_timeout)
        self._failed_starts, self._oom_kills = 0, oom_kills()
        self.stopping = False  # True: no worker is replaced any more
        self._served = False

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def ready(self) -> bool:
        """True if a worker serves a model."""
        return any(worker.ready for worker in self)

    def watch(self) -> None:
        """Begins to watch all workers on the running loop."""
        for worker in self:
            self._watch(worker)
        if not self._workers:
            self._not_started(1, "a worker cannot be started")
        self._look()

    def tell(self, message: Message) -> None:
        """Sends a message to all workers."""
        for worker in self:
            worker.tell(message)

    def load(self, message: Load, slots: int) -> None:
        """Has all workers load a model, later ones too, and brings their number to `slots`."""
        self._loads.append(message)
        for worker in self:
            self._tell_to_load(worker, message)
        for slot in sorted(set(range(1, slots + 1)) - self._workers.keys()):
            self._start(slot)

    def stop(self, message: Stop) -> None:
        """Tells all workers to answer what they have accepted, and to end. None is replaced any more."""
        self.stopping = True
        self._launcher.close_listeners()
        self.tell(message)
        if not self._workers:
            self._owner.ended(None)

    def end(self) -> None:
        """Kills all workers and the processes that they left, and waits up to 2 seconds for their end."""
        self.stopping = True
        for worker in self:
            worker.kill()
        ends = time.monotonic() + _END_SECONDS
        for worker in self:
            if worker.ends_within(max(ends - time.monotonic(), 0.0)):
                worker.reap()
        sweep_until_none(_END_SECONDS)

    def sweep(self) -> None:
        """Kills processes that workers left behind, and reaps those that have ended."""
        if sweep({worker.pid for worker in self._workers.values()}):
            self._log.error("worker.left_a_process", reason="a process that a worker left behind was killed")

    # life

    def _start(self, slot: int, *, again: bool = False) -> None:
        if self.stopping:
            return
        accept = not self._served and not any(worker.accepts for worker in self)
        try:
            if again:
                self._renew_listeners(slot)
            worker = self._workers[slot] = self._launcher.start(slot, accept=accept)
        except OSError as error:
            self._not_started(slot, f"a worker cannot be started: {error.strerror}")
            return
        self._failed_starts = 0
        for message in self._loads:
            self._tell_to_load(worker, message)
        self._watch(worker)

    def _renew_listeners(self, slot: int) -> None:
        """Has new clients of a worker that died go to the others. Raises OSError."""
        if self._launcher.renew_listeners(slot, alone=not self.ready):
            for other in self:  # the file of the socket that they share is gone
                other.blameless = True
                self._end_one(other)

    def _not_started(self, slot: int, reason: str) -> None:
        pause = _FIRST_PAUSE_SECONDS * 2**self._failed_starts
        self._failed_starts += 1
        self._log.error("worker.not_started", worker=slot, reason=reason, again_in_seconds=pause)
        if not self._is_crash_loop(reason):
            asyncio.get_running_loop().call_later(pause, partial(self._start, slot, again=True))

    def _tell_to_load(self, worker: WorkerProcess, message: Load) -> None:
        worker.loading[message.model] = time.monotonic()
        worker.tell(message)

    def _watch(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(worker.channel.fileno(), self._hear, worker)
        loop.add_reader(worker.pidfd, self._died, worker)

    def _end_one(self, worker: WorkerProcess) -> None:
        asyncio.get_running_loop().remove_reader(worker.channel.fileno())  # what it still sends is ignored
        worker.kill()

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            message = worker.channel.receive(Ready, Failed, Learnt, Traced)
        except EOFError:  # it is ending, and its exit code says why; if it does not end, it is killed
            loop = asyncio.get_running_loop()
            loop.remove_reader(worker.channel.fileno())
            loop.call_later(_END_SECONDS, worker.kill)
        except OSError:
            self._end_one(worker)
        except ValueError:
            self._not_understood(worker)
        else:
            if isinstance(message, Ready | Failed):
                self._heard(worker, message)
            elif isinstance(message, Learnt):
                self._has_learnt(worker, message)
            elif isinstance(message, Traced):
                self._traced(worker, message.notes)

    def _heard(self, worker: WorkerProcess, message: Ready | Failed) -> None:
        if message.model in worker.loading:
            del worker.loading[message.model]
            if isinstance(message, Ready):
                worker.ready.add(message.model)
                self._served = True
                if learnt := self._learnt.get(message.model):
                    worker.tell(learnt)
            self._owner.heard(worker, message)
        elif isinstance(message, Failed):
            self._end_one(worker)
        else:
            self._not_understood(worker)

    def _has_learnt(self, worker: WorkerProcess, message: Learnt) -> None:
        """Tells the others, once, what the first answer of a model has shown."""
        if message.model not in worker.ready - worker.learnt:
            self._not_understood(worker)
            return
        worker.learnt.add(message.model)
        if message.model not in self._learnt:
            self._learnt[message.model] = message
            for other in self:
                if other is not worker and message.model in other.ready:
                    other.tell(message)

    def _hear_the_rest(self, worker: WorkerProcess) -> None:
        """Takes the notes of traced requests that a worker sent before its end."""
        with suppress(OSError, EOFError, ValueError):
            while isinstance(message := worker.channel.receive(Ready, Failed, Traced), Traced):
                self._traced(worker, message.notes)

    def _traced(self, worker: WorkerProcess, notes: str) -> None:
        worker.traced += 1
        telemetry = self._launcher.telemetry
        if telemetry is None or worker.traced > _MOST_TRACED or not telemetry.take(notes):
            self._not_understood(worker)

    def _not_understood(self, worker: WorkerProcess) -> None:
        worker.not_understood += 1
        if worker.not_understood == 1:
            self._log.error("worker.not_understood", worker=worker.slot)
        elif worker.not_understood > _MOST_NOT_UNDERSTOOD:
            self._end_one(worker)

    def _died(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.pidfd)
        loop.remove_reader(worker.channel.fileno())
        self._hear_the_rest(worker)
        del self._workers[worker.slot]
        if self.ready and not self.stopping:
            with suppress(OSError):  # it is tried again with the start, which may have to wait
                self._renew_listeners(worker.slot)
        reason = self._out_of_memory(worker.reap())
        blamed = self._vitals.died(worker.slot)
        self.sweep()
        for model in self._launcher.board.models:
            model.set_ready(worker.slot, False)
        if not self.stopping:
            self._meter.add("runtime_worker_restarts_total", 1)
            more = {"poisoned": blamed} if blamed else {}
            self._log.error("worker.died", worker=worker.slot, pid=worker.pid, reason=reason, **more)
            if blamed and worker.ready:  # it was ready, and a request ended it: this is no crash loop
                self._start_later(worker.slot)
            elif worker.blameless or not self._is_crash_loop(reason):
                self._start(worker.slot, again=True)
        elif not self._workers:
            self._owner.ended(None)

    def _start_later(self, slot: int) -> None:
        """Replaces a worker that a request ended: four in a minute at once, further ones after pauses of up to 10 s."""
        now = time.monotonic()
        self._blamed.append(now)
        often = sum(at > now - _CRASH_SECONDS for at in self._blamed) - _CRASH_DEATHS
        pause = min(_FIRST_PAUSE_SECONDS * 2**often, _LONGEST_PAUSE_SECONDS) if often >= 0 else 0.0
        asyncio.get_running_loop().call_later(pause, partial(self._start, slot, again=True))

    def _out_of_memory(self, reason: str) -> str:
        """Returns `reason`, with certainty where the control group counts the processes that the kernel has killed."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        if reason.startswith("SIGKILL") and self._oom_kills > before:
            return "SIGKILL by the kernel: out of memory; give the container more, or serve a smaller model"
        return reason

    def _is_crash_loop(self, reason: str) -> bool:
        self._deaths.append(time.monotonic())
        if len(self._deaths) < _CRASH_DEATHS or self._deaths[-1] - self._deaths[0] >= _CRASH_SECONDS:
            return False
        often = f"{_CRASH_DEATHS} times within {_CRASH_SECONDS:g} s"
        self._owner.ended(CrashLoop(f"workers died {often}, last of {reason}: giving up"))
        return True

    def _look(self) -> None:
        """Looks once a second for workers that are stuck, do not accept or spoilt a socket, and for processes left."""
        if self.stopping:
            return
        self.sweep()
        self._vitals.tell()
        self._meter.uses(usage())
        for worker in self:
            worker.traced = 0
            self._look_at_loading(worker)
            if worker.ready and (reason := self._vitals.stuck(worker.slot, worker.pid)):
                self._log.error("worker.stuck", worker=worker.slot, reason=reason)
                worker.blameless = True
                self._end_one(worker)
            elif self._vitals.holds_loop(worker.slot):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker.pidfd, BREAK_OFF)
        for worker in self:
            if worker.ready and (reason := self._not_listening(worker)):
                self._log.error("worker.not_listening", worker=worker.slot, reason=reason)
                self._end_one(worker)
                break  # workers share a Unix socket: its renewal ends the others
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look_at_loading(self, worker: WorkerProcess) -> None:
        settings, now = self._launcher.settings, time.monotonic()
        for model, since in list(worker.loading.items()):
            if 0 < settings.load_timeout < now - since:
                reason = f"the model was not loaded within {settings.load_timeout:g} s (--load-timeout)"
            elif stuck := self._vitals.stuck(worker.slot, worker.pid):
                reason = f"the model cannot be tried out: {stuck} (--inference-timeout)"
            else:
                continue
            del worker.loading[model]
            self._owner.heard(worker, Failed(model, "LoadFailed", reason))

    def _not_listening(self, worker: WorkerProcess) -> str:
        listeners = self._launcher.listeners_of(worker.slot)
        if not all(map(is_intact, listeners)):
            return "it has spoilt its listening socket"
        before, worker.waiting = worker.waiting, sum(queue(listener)[0] for listener in listeners)
        worker.stuck_looks = worker.stuck_looks + 1 if worker.waiting and worker.waiting >= before else 0
        others = sum(bool(other.ready) for other in self) > 1  # a lone worker may hold the GIL for longer
        return "it has stopped accepting connections" if others and worker.stuck_looks >= _STUCK_LOOKS else ""
