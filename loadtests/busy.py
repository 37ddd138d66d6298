"""Health while all workers are busy: how long its answers take beside a model that takes two seconds.

    python -m loadtests.busy [--workers 2] [--takes 2] [--seconds 20]

More predictions than the workers have threads are under way all the time. Ends with 1 if a health check waited for more
than 20 ms, or if the model took less than it should.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.clients import drive
from loadtests.servers import runtime
from loadtests.verdicts import Verdicts
from loadtests.workloads import SLOW, made, slow

_HEALTH: Final = b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
_CHECKS_PER_SECOND: Final = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--takes", type=float, default=2.0, help="seconds of a prediction")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    workers, seconds, verdicts = str(arguments.workers), arguments.seconds, Verdicts()
    with tempfile.TemporaryDirectory() as folder:
        given = made(replace(SLOW, make=partial(slow, seconds=arguments.takes)), Path(folder) / "m")
        options = ("--workers", workers, "--threads", "1", "--batching", "off")
        with (
            runtime("runtime", f"m={given.folder}", given.bodies[0], {}, *options) as server,
            ThreadPoolExecutor() as pool,
        ):
            request = server.request(given.bodies[0])
            busy = pool.submit(drive, server.port, request, 4 * arguments.workers, seconds)
            checks = drive(server.port, _HEALTH, 4 * arguments.workers, seconds, _CHECKS_PER_SECOND)
            predictions = busy.result()
    print(f"{len(checks.answered)} health checks beside {len(predictions.answered)} predictions; workers: {workers}")
    verdicts.least("fastest prediction (s)", min(predictions.answered, default=0.0), arguments.takes)
    verdicts.most("median health check (ms)", median(checks.answered) * 1000, 20)
    verdicts.most("slowest health check (ms)", max(checks.answered) * 1000, 20)
    verdicts.most("failed", checks.failed + predictions.failed + len(checks.refused), 0)
    sys.exit(verdicts.broken)


if __name__ == "__main__":
    main()
