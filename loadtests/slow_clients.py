"""1,000 slow clients of five kinds, and what honest ones notice of them.

    python -m loadtests.slow_clients [--clients 1000] [--rounds 3] [--seconds 3]

The kinds: silent from the start, a byte of the head each second, a byte of the body each second, idle after an answer,
and many requests whose answers are never read. Rounds with and without them take turns. Ends with 1 if the slowest
percent of 8 honest clients waits more than twice as long with them.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.clients import drive, percentile
from loadtests.servers import CORE, Server, apart, runtime
from loadtests.verdicts import Verdicts
from loadtests.workloads import WORKLOADS, made

HONEST: Final = 8
KINDS: Final = 5
_UNREAD: Final = 5
"""Requests whose answers a client never reads."""
_SETTLING_SECONDS: Final = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    calm, crowded, verdicts = list[float](), list[float](), Verdicts()
    with tempfile.TemporaryDirectory() as folder:
        given = made(WORKLOADS["W1"], Path(folder) / "m")
        with runtime("runtime", f"m={given.folder}", given.bodies[0], given.headers, core=CORE) as server, apart():
            request = server.request(given.bodies[0])

            def honest_p99() -> float:
                drive(server.port, request, HONEST, min(arguments.seconds, _SETTLING_SECONDS))
                return percentile(drive(server.port, request, HONEST, arguments.seconds).answered, 0.99) * 1000

            for _ in range(arguments.rounds):
                calm.append(honest_p99())
                with slow(server, request, arguments.clients):
                    crowded.append(honest_p99())
            given.check(server)
    print(f"99 % of {HONEST} honest clients' answers: {median(calm):.2f} ms; beside slow ones {median(crowded):.2f} ms")
    verdicts.most("median of the rounds' ratios", median(b / a for a, b in zip(calm, crowded, strict=True)), 2)
    sys.exit(verdicts.broken)


@contextmanager
def slow(server: Server, request: bytes, count: int) -> Iterator[None]:
    """Slow clients, until the block ends."""
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    ended, head = threading.Event(), request.index(b"\r\n\r\n") + 4
    silent, in_head, in_body, idle, unread = (clients[kind::KINDS] for kind in range(KINDS))
    for client in in_body:
        client.sendall(request[:head])
    for client in idle:
        client.sendall(request)
    for client in unread:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.sendall(_UNREAD * request)

    def drip() -> None:
        for at in range(len(request)):
            for begun, dripped in ((0, in_head), (head, in_body)):
                for client in dripped:
                    with contextlib.suppress(OSError):
                        client.send(request[begun + at : begun + at + 1])
            if ended.wait(1):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        yield
    finally:
        ended.set()
        dripping.join()
        for client in (*silent, *in_head, *in_body, *idle, *unread):
            client.close()


if __name__ == "__main__":
    main()
