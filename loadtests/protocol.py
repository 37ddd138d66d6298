"""What a protocol costs: our own time to read a picture's tensor, and the server's CPU for a request in each form.

    python -m loadtests.protocol [--seconds 1] [--rounds 5]

The picture is W3b: FP32 [1, 3, 224, 224], 602 KB, for a model that takes little time itself; beside it the iris kit
with a row of four numbers. One worker, one thread, one request at a time, all checks, metrics and logs on. "above the
loop" is what a request costs beyond `session.run` alone, which a process does in a loop in the same rounds; beside it a
server that has no protocol at all (protocol_floor.py).
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import onnxruntime as ort

from loadtests import startup
from loadtests.clients import length
from loadtests.ports import free_port
from loadtests.servers import ready, started
from loadtests.workloads import WORKLOADS, made
from runtime import load
from runtime.serving.protocol.codec import prepare
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE
from runtime.serving.protocol.tensor_bytes import aligned
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.protocol.v2.encode import BINARY_HEADER

if TYPE_CHECKING:
    import psutil

Infer, _ = METHODS["ModelInfer"]
PICTURE = np.random.default_rng(1).random((1, 3, 224, 224), np.float32)
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
LOOP = "session.run alone"
FLOOR = "no protocol at all"
Form = Callable[[float], float]
"""Measures for some seconds: what one request takes of the CPU, in seconds."""
_PIECE = 262_144
"""What is read of a socket at once."""


class Bodies(NamedTuple):
    """One request in every form."""

    json: bytes
    binary: bytes
    length: int
    """Bytes of JSON in front of the tensor in `binary`."""
    raw: bytes
    typed: bytes

    @classmethod
    def of(cls, model: str, array: np.ndarray[Any, Any]) -> Bodies:
        """The request that asks `model` for all outputs of `array`."""
        tensor = {"name": "X", "datatype": "FP32", "shape": list(array.shape)}
        text = json.dumps({"inputs": [{**tensor, "data": array.reshape(-1).tolist()}]}).encode()
        size = {"parameters": {"binary_data_size": array.nbytes}}
        head = json.dumps({"inputs": [{**tensor, **size}], "parameters": {"binary_data_output": True}}).encode()
        contents = {"contents": {"fp32_contents": array.reshape(-1)}}
        return cls(
            text,
            head + array.tobytes(),
            len(head),
            Infer(model_name=model, inputs=[tensor], raw_input_contents=[array.tobytes()]).SerializeToString(),
            Infer(model_name=model, inputs=[{**tensor, **contents}]).SerializeToString(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one round of one form")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture, iris = made(WORKLOADS["W3b"], folder / "picture"), startup.model_file(folder)
        decoding(picture.folder, Bodies.of("picture", PICTURE))
        for reference, model, file, array in (
            (str(picture.folder), "picture", picture.model, PICTURE),
            (f"oci:{startup.LAYOUT}:v1", "iris-onnx", iris, ROW),
        ):
            bodies = Bodies.of(model, array)
            with server(reference, bodies, model, folder) as forms, floor(file, array) as least:
                forms = {LOOP: session_loop(file, array), **least, **forms}
                report(model, forms, arguments.seconds, arguments.rounds)
    print("wanted: a binary picture at most 150 us above the loop")


# in this process


def decoding(kit: Path, bodies: Bodies) -> None:
    """Prints our own time from the picture's body to its array, a median of many."""
    served = load(str(kit), threads=1)
    prepare(served, (GRPC,))
    served.engine.close()
    head = {BINARY_HEADER: b"%d" % bodies.length}
    pieces = [bodies.binary[at : at + _PIECE] for at in range(0, len(bodies.binary), _PIECE)]
    ours, message = aligned(pieces, bodies.length), memoryview(bytearray(bodies.raw))
    ways: list[tuple[str, Callable[[], object]]] = [
        ("binary, in memory of ours", lambda: V2_JSON.decode(head, ours, served)),
        ("binary, put there first", lambda: V2_JSON.decode(head, aligned(pieces, bodies.length), served)),
        ("gRPC raw", lambda: GRPC.decode({}, bodies.raw, served)),
        ("gRPC raw, may be written", lambda: GRPC.decode({}, message, served)),
        ("gRPC typed", lambda: GRPC.decode({}, bodies.typed, served)),
        ("JSON", lambda: V2_JSON.decode({}, bodies.json, served)),
    ]
    print("reading the picture's tensor, our own time  (wanted: binary under 50 us)")
    for name, read in ways:
        print(f"  {name:28}{microseconds(read):9.1f} us", flush=True)


def microseconds(work: Callable[[], object]) -> float:
    """The median of what `work` takes, of half a second."""
    took, ends = list[float](), time.perf_counter() + 0.5
    while (began := time.perf_counter()) < ends:
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def session_loop(model: Path, array: np.ndarray[Any, Any]) -> Form:
    """Returns what measures the CPU seconds of one `session.run`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def measure(seconds: float) -> float:
        count, ends, began = 0, time.monotonic() + seconds, time.process_time()
        while time.monotonic() < ends:
            session.run(None, {"X": array})
            count += 1
        return (time.process_time() - began) / count

    return measure


# against a server


@contextmanager
def server(reference: str, bodies: Bodies, model: str, folder: Path) -> Iterator[dict[str, Form]]:
    """A server of a kit, as what measures a request's CPU seconds there, by the form of the request."""
    port, grpc_port = free_port(), free_port()
    ports = ["--port", str(port), "--grpc-port", str(grpc_port)]
    options = ["--threads", "1", "--drain-delay", "0", "--cache-dir", str(folder / "cache")]
    with started([sys.executable, "-m", "runtime", "--kit", reference, *ports, *options]) as process:
        path = ready(port, f"/v2/models/{model}/infer", bodies.json, {})
        connection, channel = socket.create_connection(("127.0.0.1", port), 60), channel_to(grpc_port)
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        text = http_request(path, bodies.json)
        binary = http_request(path, bodies.binary, f"{BINARY_HEADER.decode()}: {bodies.length}\r\n")
        work = {
            "JSON": lambda: ask(connection, text),
            "binary": lambda: ask(connection, binary),
            "gRPC raw": lambda: call(bodies.raw, wait_for_ready=True),
            "gRPC typed": lambda: call(bodies.typed, wait_for_ready=True),
        }
        yield {form: partial(cpu_of, process, one) for form, one in work.items()}
        connection.close()
        channel.close()


@contextmanager
def floor(model: Path, array: np.ndarray[Any, Any]) -> Iterator[dict[str, Form]]:
    """The server without a protocol, for pictures."""
    if array is not PICTURE:
        yield {}
        return
    port, request = free_port(), http_request("/", Bodies.of("picture", array).binary)
    command = [sys.executable, "-m", "loadtests.protocol_floor", str(model), str(port), str(len(request))]
    with started(command) as process, connected(port) as connection:
        yield {FLOOR: partial(cpu_of, process, lambda: ask(connection, request))}


def connected(port: int) -> socket.socket:
    """A connection to a server that is starting."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 60)
        except ConnectionRefusedError:
            time.sleep(0.05)


def http_request(path: str, body: bytes, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ask(connection: socket.socket, request: bytes) -> None:
    """Sends a request and reads its answer."""
    connection.sendall(request)
    answer, end = b"", 3
    while end == 3 or len(answer) - end < length(answer[:end]):
        piece = connection.recv(65_536)
        if not piece:
            raise RuntimeError(f"no more than {answer[:200]!r}")
        answer += piece
        end = answer.find(b"\r\n\r\n") + 4
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"got {answer[:200]!r}")


def channel_to(port: int) -> grpc.Channel:
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    return grpc.insecure_channel(f"127.0.0.1:{port}", options)


def cpu_of(process: psutil.Process, one: Callable[[], object], seconds: float) -> float:
    """The CPU seconds that a server's processes take for one request, of those that it answers in `seconds`."""
    processes = [process, *process.children(recursive=True)]

    def so_far() -> float:
        return sum(sum(each.cpu_times()[:2]) for each in processes)

    before, count, ends = so_far(), 0, time.monotonic() + seconds
    while not count or time.monotonic() < ends:
        one()
        count += 1
    return (so_far() - before) / count


def report(name: str, forms: dict[str, Form], seconds: float, rounds: int) -> None:
    """Prints the median of the rounds for each form, and its median distance to the loop in the same round."""
    for measure in forms.values():
        measure(seconds / 2)  # warm
    taken: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, measure in forms.items():
            taken[form].append(measure(seconds) * 1e6)
    print(f"{name}: CPU of a request")
    for form, costs in taken.items():
        above = statistics.median(mine - loop for mine, loop in zip(costs, taken[LOOP], strict=True))
        ratio = statistics.median(mine / json for mine, json in zip(costs, taken["JSON"], strict=True))
        print(
            f"  {form:28}{statistics.median(costs):9.1f} us, above the loop {above:9.1f} us, of JSON {ratio:6.3f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
