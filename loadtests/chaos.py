"""Every answer is that of its own request, and a stop loses none, whatever happens to the server.

    python -m loadtests.chaos [--long]        200,000 predictions and 20 stops; 1,000,000 and 200

Two workers batch a model that answers its input. Each request has values of its own, which are compared bit for bit,
while workers are killed, clients leave before their answer, and deadlines pass. Then a server is started and stopped
again and again under 32 keep-alive clients, every second time one of its workers is killed while it stops: a request
that gets no answer is lost, but for those on the killed worker's connections. Ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import Counter
from contextlib import AbstractContextManager, closing
from itertools import count
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.clients import length
from loadtests.servers import Server, runtime
from loadtests.workloads import ECHO, Made, made

CLIENTS: Final = 32
IN_CHAOS: Final = 64
WIDTH: Final = ECHO.inputs().shape[-1]
_KILL_SECONDS: Final = 18.0
"""Five deaths of workers within 60 s would end the server."""
_BEFORE_A_STOP: Final = 10 * CLIENTS
_PATIENCE_SECONDS: Final = 60.0
_CUT_OFF: Final = (ConnectionResetError, BrokenPipeError, IncompleteReadError)
"""By a worker that died. A connection is refused where the server has ended."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--predictions", type=int)
    parser.add_argument("--stops", type=int)
    parser.add_argument("--kill-seconds", type=float, default=_KILL_SECONDS, help="between two kills of a worker")
    parser.add_argument("--kills", type=int, default=sys.maxsize, help="at most; five in a minute end the server")
    arguments = parser.parse_args()
    predictions = arguments.predictions or (1_000_000 if arguments.long else 200_000)
    stops = arguments.stops or (200 if arguments.long else 20)
    with tempfile.TemporaryDirectory() as folder:
        echo = made(ECHO, Path(folder) / "echo")
        with served(echo, "--workers", "2") as server:
            chaos = asyncio.run(in_chaos(server, predictions, arguments.kill_seconds, arguments.kills))
        print(f"{predictions} predictions: {dict(chaos)}", flush=True)
        seen = Counter[str]()
        for number in range(stops):
            kills = number % 2 == 1
            with served(echo, "--workers", "2", "--drain-delay", "0.5" if kills else "0.1") as server:
                seen += asyncio.run(stopped(server, kills=kills))
        print(f"{stops} stops under {CLIENTS} clients: {dict(seen)}")
    right = not chaos["wrong"] and chaos["cut off"] <= IN_CHAOS * chaos["kills"] and not seen["lost"]
    print("all right" if right else "not all right")
    sys.exit(not right)


def served(echo: Made, *options: str) -> AbstractContextManager[Server]:
    """A server of the model that answers its input, in batches of up to 64 rows."""
    return runtime("runtime", f"m={echo.folder}", echo.bodies[0], {}, "--batching", "64", *options)


class Answer(NamedTuple):
    """What came back."""

    status: int
    data: list[float]
    keeps: bool
    """Whether the connection stays open."""


async def ask(reader: StreamReader, writer: StreamWriter, server: Server, rows: list[list[int]],
              microseconds: int = 0) -> Answer:  # fmt: skip
    """Sends one request, with a deadline or without, and returns its answer."""
    writer.write(request(server, rows, microseconds))
    head = await reader.readuntil(b"\r\n\r\n")
    answer = json.loads(await reader.readexactly(length(head)))
    status = int(head[9:12])
    data = answer["outputs"][0]["data"] if status == 200 else []
    return Answer(status, data, b"connection: close" not in head.lower())


def request(server: Server, rows: list[list[int]], microseconds: int) -> bytes:
    """The bytes of a request for some rows."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(rows), WIDTH], "data": rows}
    parameters = {"parameters": {"timeout": microseconds}} if microseconds else {}
    return server.request(json.dumps({"inputs": [tensor], **parameters}).encode())


def verdict(answer: Answer, wanted: list[int], *, hurried: bool) -> str:
    """What an answer is, where workers are killed and some requests have a deadline that nothing can meet."""
    if answer.status == 504 and hurried:
        return "late"
    return "right" if answer.status == 200 and answer.data == wanted else "wrong"


async def in_chaos(server: Server, predictions: int, kill_seconds: float, kills: int) -> Counter[str]:
    """Asks for predictions while workers are killed; counts what came back."""
    seen, numbers = Counter[str](), count()

    async def one(rng: random.Random, reader: StreamReader, writer: StreamWriter) -> bool:
        """One request; returns whether its connection may have another."""
        rows = [[next(numbers) % 2**20 + at for at in range(WIDTH)] for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if rng.random() < 0.03:
            writer.write(request(server, rows, 0))
            await writer.drain()
            seen["left"] += 1
            return False
        microseconds = rng.choice((1, 1000)) if rng.random() < 0.05 else 0
        answer = await ask(reader, writer, server, rows, microseconds)
        wanted = [value for row in rows for value in row]
        seen[verdict(answer, wanted, hurried=microseconds > 0)] += 1
        return answer.keeps

    def goes_on() -> bool:
        """Until all predictions were asked for, and at least one worker was killed meanwhile."""
        return not seen["kills"] or seen.total() - seen["kills"] < predictions

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        while goes_on():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                with closing(writer):
                    while await one(rng, reader, writer) and goes_on():
                        pass
            except _CUT_OFF:
                seen["cut off"] += 1

    async def kill() -> None:
        while seen["kills"] < kills:
            await asyncio.sleep(kill_seconds)
            os.kill(random.choice(server.workers).pid, signal.SIGKILL)
            seen["kills"] += 1

    killing = asyncio.ensure_future(kill())
    await asyncio.gather(*map(client, range(IN_CHAOS)))
    killing.cancel()
    return seen


async def stopped(server: Server, *, kills: bool) -> Counter[str]:
    """Stops a server under clients, and kills a worker then; counts what they got until nobody listened any more."""
    seen, busy, loop = Counter[str](), asyncio.Event(), asyncio.get_running_loop()
    others, gone = set[int](), inf  # clients of the other worker; when the killed one's socket was closed

    async def client(number: int) -> None:
        while True:
            began = loop.time()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            except ConnectionError:
                return
            port = writer.get_extra_info("sockname")[1]
            row, keeps = list(range(number, number + WIDTH)), True
            while keeps:
                try:
                    status, data, keeps = await ask(reader, writer, server, [row])
                except _CUT_OFF:
                    status, data, keeps = 0, [], False
                if (status, data) == (200, row):
                    seen["answered"] += 1
                else:
                    mine = kills and port not in others and began < gone
                    seen["of the killed worker" if mine else "lost"] += 1
                if seen.total() > _BEFORE_A_STOP:
                    busy.set()
            writer.close()

    clients = [asyncio.ensure_future(client(number)) for number in range(CLIENTS)]
    await busy.wait()
    server.process.terminate()
    if kills:
        victim, other = server.workers
        victim.suspend()  # it accepts nothing more
        others |= {one.raddr.port for one in other.net_connections("tcp") if one.raddr}
        victim.kill()
        await loop.run_in_executor(None, victim.wait)
        gone = loop.time()
    await asyncio.wait_for(asyncio.gather(*clients), _PATIENCE_SECONDS)
    return seen


if __name__ == "__main__":
    main()
