"""Overload: three times as many requests as a server can answer, in an open loop; what is answered, refused and grows.

    python -m loadtests.overload [--only W2,W4] [--seconds 3] [--clients 900]

The most that it can answer is measured before each of five rounds, with 64 clients in a closed loop: what else the
machine does, it does to both. Ends with 1 if a promise is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.clients import drive, percentile
from loadtests.servers import CORE, Server, apart, runtime
from loadtests.verdicts import Verdicts
from loadtests.workloads import WORKLOADS, made

TIMES: Final = 3
_ROUNDS: Final = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="W4", help="workloads, with commas between them")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=900, help="requests that wait at once, at most")
    arguments = parser.parse_args()
    verdicts = Verdicts()
    for name in arguments.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            given = made(WORKLOADS[name], Path(folder) / "m")
            with runtime("runtime", f"m={given.folder}", given.bodies[0], given.headers, core=CORE) as server, apart():
                request = server.request(given.bodies[0], given.head)
                overload(name, server, request, arguments.seconds, arguments.clients, verdicts)
                given.check(server)
    sys.exit(verdicts.broken)


def overload(name: str, server: Server, request: bytes, seconds: float, clients: int, verdicts: Verdicts) -> None:
    """Overloads a server for `seconds` in each round: what the first two leave in memory, the others may not add to."""
    shares, refused, failed, memory = list[float](), list[float](), 0, list[float]()
    for _ in range(_ROUNDS):
        peak = drive(server.port, request, 64, seconds).rate
        sent = drive(server.port, request, clients, seconds, TIMES * peak)
        shares.append(sent.rate / peak)
        refused += sent.refused
        failed += sent.failed
        memory.append(server.memory_mb())
        print(f"{name}: {peak:.0f}/s at most; asked for {TIMES * peak:.0f}/s: {len(sent.answered)} answered, "
              f"{len(sent.refused)} refused, {sent.failed} failed, {sent.unsent} never sent")  # fmt: skip
    verdicts.least("answered, of the most it can", median(shares), 0.9)
    verdicts.most("99 % of the refusals (ms)", percentile(refused or [0.0], 0.99) * 1000, 50)
    verdicts.most("failed", failed, 0)
    verdicts.most("memory grown (MB)", memory[-1] - memory[1], 0.05 * memory[1])


if __name__ == "__main__":
    main()
