"""Minutes of mixed load, while workers are killed and clients leave: memory, descriptors and threads stay flat.

    python -m loadtests.soak [--minutes 10 | --long] [--only W4]        --long: 60 minutes

Two workers get predictions, requests that are wrong, and clients that leave. The second worker is killed every 20
seconds; the supervisor and the first worker are watched. What they hold in the last fifth of the time is compared with
the second fifth. Ends with 1 if it grew.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NamedTuple

from loadtests.clients import drive
from loadtests.servers import Server, runtime
from loadtests.verdicts import Verdicts
from loadtests.workloads import WORKLOADS, made

if TYPE_CHECKING:
    import psutil

_KILL_SECONDS: Final = 20.0
_ROUND_SECONDS: Final = 1.0
CLIENTS: Final = 4
"""Of each load."""
_GROWTH: Final = (("MB", 4.0), ("descriptors", 3 * CLIENTS), ("threads", 0))
"""What a process may hold more of: clients come and go."""


class Held(NamedTuple):
    """What a process holds."""

    megabytes: float
    descriptors: int
    threads: int

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        """Looks at a process."""
        with process.oneshot():
            return cls(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--long", action="store_const", dest="minutes", const=60.0)
    parser.add_argument("--only", choices=[*WORKLOADS], default="W4", help="the workload")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = made(WORKLOADS[arguments.only], Path(folder) / "m")
        with runtime("runtime", f"m={given.folder}", given.bodies[0], {}, "--workers", "2") as server:
            requests = [server.request(body) for body in (given.bodies[0], b'{"inputs": []}', given.bodies[1])]
            verdicts = soaked(server, requests, arguments.minutes * 60)
            given.check(server)
    sys.exit(verdicts.broken)


def soaked(server: Server, requests: list[bytes], seconds: float) -> Verdicts:
    """Loads a server, and judges what its processes have held."""
    first = server.workers[0]
    round_seconds = min(_ROUND_SECONDS, seconds)
    loads = [partial(drive, server.port, request, CLIENTS, round_seconds) for request in requests]
    ended = threading.Event()
    leaving, killing = partial(leave, server.port, requests[0]), partial(kill, server, first, ended)
    work: list[Callable[[], object]] = [*loads, leaving, killing]
    threads = [threading.Thread(target=keep_on, args=(ended, one)) for one in work]
    for thread in threads:
        thread.start()
    held: dict[str, list[Held]] = {"supervisor": [], "first worker": []}
    until = monotonic() + seconds
    while monotonic() < until:
        for process, seen in zip((server.process, first), held.values(), strict=True):
            seen.append(Held.by(process))
        ended.wait(min(1.0, seconds / 50))
    ended.set()
    for thread in threads:
        thread.join()
    verdicts = Verdicts()
    for name, seen in held.items():
        judge(name, seen, verdicts)
    return verdicts


def judge(name: str, seen: list[Held], verdicts: Verdicts) -> None:
    """Compares the last fifth with the second."""
    fifth = len(seen) // 5
    for at, (what, most) in enumerate(_GROWTH):
        before, after = (median(held[at] for held in part) for part in (seen[fifth : 2 * fifth], seen[-fifth:]))
        verdicts.most(f"{name}: {what}", after, before + most)


def keep_on(ended: threading.Event, work: Callable[[], object]) -> None:
    """Works again and again."""
    while not ended.is_set():
        with contextlib.suppress(ConnectionError):  # of a worker that was killed
            work()


def leave(port: int, request: bytes) -> None:
    """Leaves before the answer, and in the middle of a request."""
    for sent in (request, request[:-10]):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(sent)
    sleep(0.02)


def kill(server: Server, spared: psutil.Process, ended: threading.Event) -> None:
    """Kills the other worker, after a while."""
    for process in () if ended.wait(_KILL_SECONDS) else server.workers:
        if process != spared:
            process.kill()


if __name__ == "__main__":
    main()
