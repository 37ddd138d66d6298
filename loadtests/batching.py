"""Batching: a 32 MiB MLP, for which 32 rows cost little more than one, against the floor with and without a batcher.

    python loadtests/batching.py [--seconds 1] [--rounds 7] [--clients 1 8 32]

Servers are pinned to the last core, clients to the others. Rounds go through all servers in turn, and a ratio is the
median of the rounds' ratios to the floor. Before and after, every server's answers to many rows are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import IO

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from loadtests.floor import Case, Contender, free_port, measure, ratio, ready, started

WIDTHS = (64, 2048, 2048, 2048, 8)
CORE = max(os.sched_getaffinity(0))
KITFILE = "package: {name: mlp}\nmodel: {path: mlp.onnx}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one round of one server")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "mlp.onnx").write_bytes(mlp())
        (folder / "Kitfile").write_text(KITFILE)
        servers = [
            stack.enter_context(starlette("floor", "loadtests.floor_app:app", folder, log)),
            stack.enter_context(starlette("floor with a batcher", "loadtests.floor_batching:app", folder, log)),
            stack.enter_context(runtime("runtime", folder, log)),
            stack.enter_context(runtime("runtime --batching off", folder, log, "--batching", "off")),
        ]
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {CORE} or {CORE})
        for server in servers:
            check(server, folder)
        for clients in arguments.clients:
            for server in servers:
                measure(server, clients, 0.5)  # warm
            for _ in range(arguments.rounds):
                for server in servers:
                    rate, cost = measure(server, clients, arguments.seconds)
                    server.rates.setdefault(clients, []).append(rate)
                    server.costs.setdefault(clients, []).append(cost)
            report(servers, clients)
        for server in servers:
            check(server, folder)
        print(f"{ROWS * len(servers) * 2} answers compared: all right")


def report(servers: list[Contender], clients: int) -> None:
    floor = servers[0]
    for server in servers:
        rates, costs = server.rates[clients], server.costs[clients]
        print(
            f"{clients:3} clients: {server.name:24} {median(rates):6.0f}/s, {ratio(floor.rates[clients], rates):5.2f}x;"
            f"  server CPU a request {median(costs) * 1e6:6.0f} us, {ratio(floor.costs[clients], costs):4.2f}x",
            flush=True,
        )


def mlp() -> bytes:
    """An ONNX model: layers of WIDTHS with ReLU between them, random weights."""
    rng, nodes, weights = np.random.default_rng(0), [], []
    for layer, (width, following) in enumerate(pairwise(WIDTHS)):
        matrix = (rng.standard_normal((width, following)) / np.sqrt(width)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"h{layer + 1}"]))
    nodes[0].input[0], nodes[-2].output[0] = "x", "y"
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTHS[0]])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTHS[-1]])
    graph = helper.make_graph(nodes[:-1], "mlp", [given], [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def body(row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bytes:
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": [round(float(v), 3) for v in row]}
    return json.dumps({"inputs": [tensor]}).encode()


ROWS = 64
INPUTS = np.random.default_rng(1).standard_normal((ROWS, WIDTHS[0])).astype(np.float32).round(3)
CASE = Case("mlp", "mlp.onnx", "", body(INPUTS[0]))


def check(server: Contender, folder: Path) -> None:
    """Asks for all rows, many at once, and compares the answers with those of the model alone."""
    session = onnxruntime.InferenceSession(folder / "mlp.onnx", providers=["CPUExecutionProvider"])

    def ask(row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> list[float]:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{server.path}", data=body(row))
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: list[float] = json.load(answer)["outputs"][0]["data"]
            return data

    with ThreadPoolExecutor(16) as pool:
        got = np.array(list(pool.map(ask, INPUTS)))
    right = np.concatenate([session.run(None, {"x": INPUTS[i : i + 1]})[0] for i in range(ROWS)])
    if not np.allclose(got, right, rtol=1e-4, atol=1e-5):
        raise RuntimeError(f"{server.name} gives wrong answers")


@contextmanager
def starlette(name: str, app: str, folder: Path, log: IO[bytes]) -> Iterator[Contender]:
    port = free_port()
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    command = ["-m", "uvicorn", app, "--port", str(port), "--lifespan", "off", *options]
    with started(command, log, core=CORE, MODEL=str(folder / "mlp.onnx")) as process:
        yield Contender(name, CASE, port, ready(CASE, port, "/v2/models/floor/infer"), process)


@contextmanager
def runtime(name: str, folder: Path, log: IO[bytes], *options: str) -> Iterator[Contender]:
    port = free_port()
    command = ["-m", "runtime", "--kit", str(folder), "--model-name", "mlp", "--port", str(port), "--drain-delay", "0"]
    with (
        tempfile.TemporaryDirectory() as cache,
        started([*command, "--grpc-port", "off", "--cache-dir", cache, *options], log, core=CORE) as process,
    ):
        contender = Contender(name, CASE, port, ready(CASE, port, "/v2/models/mlp/infer"), process)
        if not options:
            wait_for_batching(contender)
        yield contender


def wait_for_batching(server: Contender) -> None:
    """Asks for the metadata until they say how the trial ended."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v2/models/mlp", timeout=5) as answer:
            facts = json.load(answer)["properties"]
        if facts["batching"] != "being tried":
            print({name: text for name, text in facts.items() if name.startswith("batching")})
            return


if __name__ == "__main__":
    main()
