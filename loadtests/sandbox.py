"""What the sandbox costs a prediction: processor time of a request with and without it, in rounds that take turns.

    python -m loadtests.sandbox [--rounds 10] [--seconds 2]

Ends with 1 if the median of the rounds' ratios is over 1.05.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from loadtests.clients import drive
from loadtests.servers import CORE, Server, apart, runtime
from loadtests.verdicts import Verdicts
from loadtests.workloads import WORKLOADS, made

_MOST = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of half a round")
    arguments = parser.parse_args()
    ratios, verdicts = list[float](), Verdicts()
    with tempfile.TemporaryDirectory() as folder:
        given = made(WORKLOADS["W1"], Path(folder) / "m")
        first = f"m={given.folder}", given.bodies[0], given.headers
        with (
            runtime("on", *first, core=CORE) as on,
            runtime("off", *first, "--sandbox", "off", core=CORE) as off,
            apart(),
        ):

            def microseconds(server: Server) -> float:
                before = server.cpu_seconds()
                answered = drive(server.port, server.request(given.bodies[0]), 1, arguments.seconds).answered
                return (server.cpu_seconds() - before) / len(answered) * 1e6

            microseconds(on), microseconds(off)
            for number in range(arguments.rounds):
                took = {server: microseconds(server) for server in ((on, off) if number % 2 else (off, on))}
                ratios.append(took[on] / took[off])
    print(f"a request's processor time with the sandbox {took[on]:.1f} µs, without {took[off]:.1f} µs")
    verdicts.most("median of the rounds' ratios", median(ratios), _MOST)
    sys.exit(verdicts.broken)


if __name__ == "__main__":
    main()
