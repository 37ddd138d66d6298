"""gRPC: unary calls a second, and the processor time that one takes, of the runtime and of a `grpc.aio` echo.

    python loadtests/protocol_grpc.py [SECONDS [CLIENTS]]

The echo answers the same messages with a constant and does nothing else: what the library costs. Both are asked in turn
by grpcio's own client, in processes of its own, one call after another on each connection.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from loadtests.ports import free_port
from loadtests.startup import LAYOUT, ROOT, children, wait_for
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE

METHOD: Final = f"/{SERVICE}/ModelInfer"
ROUNDS: Final = 3
Infer, Answer = METHODS["ModelInfer"]
ROW: Final = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
ASK: Final = Infer(
    model_name="iris-onnx",
    inputs=[{"name": "X", "datatype": "FP32", "shape": [1, 4]}],
    raw_input_contents=[ROW.tobytes()],
).SerializeToString()


async def echo(port: int) -> None:
    """Answers every call with the same message."""
    answer = Answer(
        model_name="iris-onnx",
        model_version="v1",
        id="0",
        outputs=[
            {"name": "label", "datatype": "INT64", "shape": [1]},
            {"name": "p", "datatype": "FP32", "shape": [1, 3]},
        ],
        raw_output_contents=[bytes(8), bytes(12)],
    )

    async def infer(request: Any, _: Any) -> Any:
        assert request.raw_input_contents
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(infer, Infer.FromString, Answer.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def calls(port: int, seconds: float, clients: int) -> int:
    """Returns how many calls `clients` connections make in that time."""

    async def client(number: int) -> int:
        options = (("grpc.use_local_subchannel_pool", 1), ("number", number))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            call = channel.unary_unary(METHOD)
            await call(ASK, wait_for_ready=True)
            ends, done = time.perf_counter() + seconds, 0
            while time.perf_counter() < ends:
                await call(ASK)
                done += 1
            return done

    async def main() -> int:
        return sum(await asyncio.gather(*map(client, range(clients))))

    return asyncio.run(main())


def processor_seconds(pid: int) -> float:
    """Returns the time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(seconds: float, clients: int) -> None:
    """Starts both, asks them in turn, prints medians and ratios."""
    ports = {"grpc.aio echo": free_port(), "runtime": free_port()}
    with tempfile.TemporaryDirectory() as cache:
        options = ["--port", str(free_port()), "--grpc-port", str(ports["runtime"]), "--cache-dir", cache]
        commands = {
            "grpc.aio echo": [sys.executable, __file__, "echo", str(ports["grpc.aio echo"])],
            "runtime": [
                sys.executable,
                "-m",
                "runtime",
                "--kit",
                f"oci:{LAYOUT}:v1",
                "--log-level",
                "warning",
                *options,
            ],
        }
        servers = {
            name: subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for name, command in commands.items()
        }
        try:
            report(servers, ports, seconds, clients)
        finally:
            for server in servers.values():
                server.terminate()
                server.wait()


def report(servers: dict[str, subprocess.Popen[bytes]], ports: dict[str, int], seconds: float, clients: int) -> None:
    """Asks both in turn, and prints what came of it."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for port in ports.values():
        wait_for(port)
    with get_context("spawn").Pool(1) as pool:
        for port in ports.values():
            pool.apply(calls, (port, 0.5, clients))
        for _ in range(ROUNDS):
            for name, server in servers.items():
                pid = (children(server.pid) or [server.pid])[0]
                before = processor_seconds(pid)
                done = pool.apply(calls, (ports[name], seconds, clients))
                rates[name].append(done / seconds)
                costs[name].append((processor_seconds(pid) - before) / done)
    base = "grpc.aio echo"
    for name in servers:
        rate, cost = statistics.median(rates[name]), statistics.median(costs[name])
        ratios = f"{rate / statistics.median(rates[base]):.2f}x", f"{cost / statistics.median(costs[base]):.2f}x"
        print(f"{name:16}{rate:9.0f} calls/s {ratios[0]:>6}   {cost * 1e6:7.0f} us of processor a call {ratios[1]:>6}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["echo"]:
        asyncio.run(echo(int(sys.argv[2])))
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else 3.0, int(sys.argv[2]) if sys.argv[2:] else 4)
