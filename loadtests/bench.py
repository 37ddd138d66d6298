"""Predictions a second beside the least that could answer them, and beside other servers; answers are checked.

    python -m loadtests.bench [--only W1,W4] [--rounds 5] [--seconds 1] [--clients 1 8 32] [--peers mlserver,kserve]

Every server is pinned to the last core, and what asks it to the others. Rounds go through all servers in turn, and a
ratio is the median of the rounds' ratios to the floor: what else the machine did in a round, it did to all. There are

- `loop`: the model alone, called in a loop on that core
- `u3`: the floor (`u3.py`), and for models that gain from it the floor with a batcher
- `runtime`: with everything on, and for those models without batches
- peers (`peers.py`), if they are named and installed

The last rounds of a workload are an open loop, at 70 % of the most that the runtime has answered.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from loadtests import peers
from loadtests.clients import Sent, drive, percentile
from loadtests.plot import Bar, plotted, table
from loadtests.servers import CORE, Server, apart, runtime, starlette
from loadtests.workloads import WORKLOADS, Made, made

FLOOR, OURS, LOOP = "u3", "runtime", "loop"
HEADER: Final = """
| Clients | Server | Requests/s | x u3 | wanted | CPU of one (µs) | x u3 | p50 (ms) | p99 (ms) |
|---|---|---|---|---|---|---|---|---|"""
_RESULTS, _END = "<!-- results: written by make bench -->", "<!-- /results -->"
_WARM_SECONDS: Final = 0.5
_SATURATION: Final = 0.7


class Round(NamedTuple):
    """What one server did in one round."""

    rate: float
    cpu_us: float
    """Processor time of one request."""
    p50_ms: float
    p99_ms: float


Measure = Callable[[int, float, float], Round]
"""Asks one server: number of clients, seconds, and requests a second (0: closed loop)."""
Rounds = dict[str, list[Round]]
"""By the server's name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names, default=list(WORKLOADS), help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one round of one server")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--peers", type=_names, default=[], help=f"some of {','.join(peers.PEERS)}")
    parser.add_argument("--page", type=Path, help="a Markdown page for the ratios; beside it their picture, in SVG")
    arguments = parser.parse_args()
    bars = list[Bar]()
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            bars += measured(name, made(WORKLOADS[name], Path(folder) / "m"), arguments)
    if arguments.page:
        arguments.page.with_suffix(".svg").write_text(plotted(bars))
        head, _, rest = arguments.page.read_text().partition(_RESULTS)
        arguments.page.write_text(f"{head}{_RESULTS}\n{table(bars)}\n{_END}{rest.partition(_END)[2]}")


def _names(text: str) -> list[str]:
    return text.split(",")


def measured(name: str, made: Made, arguments: argparse.Namespace) -> Iterator[Bar]:
    """Measures one workload, prints its rows, and gives the bars of the picture."""
    print(f"\n{name}: {made.workload.title}\n{HEADER}", flush=True)
    with ExitStack() as stack:
        found = [stack.enter_context(each) for each in contenders(made, arguments.peers)]
        stack.enter_context(apart())
        found = [server for server in found if server.name not in arguments.peers or answers_right(made, server)]
        checked = sum(made.check(server) for server in found)
        measures = {LOOP: looped(made)} | {server.name: asking(server, made) for server in found}
        for clients in arguments.clients:
            rounds = interleaved(measures, clients, arguments.rounds, arguments.seconds)
            report(rounds, str(clients), made.workload.wanted.get(clients))
            others = [server for server in rounds if server not in (FLOOR, LOOP)]
            for server in others:
                yield Bar(name, clients, server, ratio(rounds, server, "rate"), ratio(rounds, server, "cpu_us"))
        rate = _SATURATION * median(each.rate for each in rounds[OURS])
        open_loop = {server: measures[server] for server in (FLOOR, OURS)}
        rounds = interleaved(open_loop, 2 * clients, arguments.rounds, arguments.seconds, rate)
        report(rounds, f"{rate:.0f}/s", None)
        checked += sum(made.check(server) for server in found)
    print(f"{checked} answers compared: all right", flush=True)


def answers_right(made: Made, peer: Server) -> bool:
    """Returns False, and says so, if a peer gives a wrong answer: it is left out of this workload."""
    try:
        made.check(peer)
    except RuntimeError as error:
        print(f"Left out: {str(error)[:100]} …", flush=True)
        return False
    return True


def contenders(made: Made, others: list[str]) -> Iterator[AbstractContextManager[Server]]:
    """Gives what starts each server."""
    form = {"BINARY": "1"} if made.workload.binary else {}
    yield starlette(FLOOR, made.model, made.bodies[0], made.headers, CORE, **form)
    yield runtime(OURS, f"m={made.folder}", made.bodies[0], made.headers, core=CORE)
    if made.workload.batches:
        yield starlette("u3 batching", made.model, made.bodies[0], made.headers, CORE, BATCHES="1", **form)
        off = "--batching", "off"
        yield runtime("runtime, no batches", f"m={made.folder}", made.bodies[0], made.headers, *off, core=CORE)
    for name in others:
        if made.workload.binary or made.model.suffix != ".onnx":
            print(f"{name} is left out: it is measured with ONNX models and JSON alone")
        elif not peers.installed(name):
            print(f"{name} is left out: python -m loadtests.peers {name}")
        else:
            yield peers.running(name, made, CORE)


def interleaved(measures: dict[str, Measure], clients: int, rounds: int, seconds: float, rate: float = 0.0) -> Rounds:
    """Asks every server in every round."""
    for measure in measures.values():
        measure(clients, min(seconds, _WARM_SECONDS), rate)
    done: Rounds = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            done[name].append(measure(clients, seconds, rate))
    return done


def asking(server: Server, made: Made) -> Measure:
    """Returns what asks a server."""
    request = server.request(made.bodies[0], made.head)

    def measure(clients: int, seconds: float, rate: float) -> Round:
        sent, before = Sent(), server.cpu_seconds()
        while not (sent.answered or sent.refused or sent.failed):  # a busy machine may have no time for a server
            sent = drive(server.port, request, clients, seconds, rate)
        if sent.refused or sent.failed:
            raise RuntimeError(f"{server.name}: {len(sent.refused)} requests refused, {sent.failed} failed")
        spent = (server.cpu_seconds() - before) / (len(sent.answered) + sent.late)
        p50, p99 = (percentile(sent.answered, part) * 1000 for part in (0.5, 0.99))
        return Round(sent.rate, spent * 1e6, p50, p99)

    return measure


def looped(made: Made) -> Measure:
    """Returns what calls the model in a loop, on the core of the servers."""

    def measure(_clients: int, seconds: float, _rate: float) -> Round:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CORE})
        count, began, spent = 0, time.perf_counter(), time.thread_time()
        while (took := time.perf_counter() - began) < seconds:
            made.predict(made.inputs[0])
            count += 1
        spent = time.thread_time() - spent
        os.sched_setaffinity(0, before)
        return Round(count / took, spent / count * 1e6, took / count * 1000, took / count * 1000)

    return measure


def ratio(rounds: Rounds, server: str, field: str) -> float:
    """Returns the median of the rounds' ratios to the floor."""
    at = Round._fields.index(field)
    return median(mine[at] / floor[at] for mine, floor in zip(rounds[server], rounds[FLOOR], strict=True))


def report(rounds: Rounds, load: str, wanted: float | None) -> None:
    """Prints a row for each server."""
    for server, done in rounds.items():
        rate, cpu, p50, p99 = (median(numbers) for numbers in zip(*done, strict=True))
        goal = f"≥ {wanted}" if wanted and server == OURS else ""
        print(
            f"| {load} | {server} | {rate:.0f} | {ratio(rounds, server, 'rate'):.2f} | {goal} | {cpu:.1f} "
            f"| {ratio(rounds, server, 'cpu_us'):.2f} | {p50:.2f} | {p99:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
