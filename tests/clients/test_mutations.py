"""Right requests made wrong, thousands of them: no 5xx, no hang, and after each batch a server that lives and is right.

20,000 for each protocol, in batches of 1,000; a batch's number is its seed. With `--long` two million:
`pytest tests/clients/test_mutations.py --long --timeout 0`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from tests.clients.drivers import Drivers
from tests.clients.scripts.mutate import Mutator
from tests.clients.servers import Servers
from tests.expected import cases
from tests.serving.support import app_of, iris_like, model

pytestmark = pytest.mark.slow
SIZE, BATCHES, LONG_BATCHES = 1000, 20, 2000
PATIENCE_SECONDS = 60.0
_PIPELINED = 50
KINDS = ("BOOL", "INT8", "INT64", "UINT8", "UINT64", "FP16", "FP32", "FP64", "BYTES")
NUMPY = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}

Headers = dict[str, bytes]
Body = tuple[bytes, Headers]


class Seed(NamedTuple):
    """A right request: as JSON, and as JSON with its tensors behind."""

    as_json: dict[str, Any]
    as_binary: dict[str, Any]
    tail: bytes

    @classmethod
    def of(cls, request: dict[str, Any]) -> Seed:
        """The request in both forms."""
        inputs, tail = [], b""
        for tensor in request["inputs"]:
            data = _raw(tensor)
            tail += data
            parameters = {"parameters": {"binary_data_size": len(data)}}
            inputs.append({**{key: tensor[key] for key in ("name", "shape", "datatype")}, **parameters})
        return cls({"id": "1", **request}, {"inputs": inputs, "parameters": {"binary_data_output": True}}, tail)

    def right(self, protocol: str) -> Body:
        """The request as it is."""
        if protocol == "json":
            return json.dumps(self.as_json).encode(), {}
        head = json.dumps(self.as_binary).encode()
        return head + self.tail, {"inference-header-content-length": b"%d" % len(head)}

    def wrong(self, protocol: str, mutator: Mutator) -> Body:
        """The request, mutated."""
        if protocol == "json":
            return mutator.json_body(self.as_json), {}
        body, length = mutator.binary_body(self.as_binary, self.tail)
        return body, {"inference-header-content-length": length}


def _raw(tensor: dict[str, Any]) -> bytes:
    if tensor["datatype"] == "BYTES":
        texts = [text.encode() for text in tensor["data"]]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(tensor["data"], NUMPY.get(tensor["datatype"], tensor["datatype"].lower())).tobytes()


def iris() -> Model:
    """The small model of other tests; its sums may overflow, which numpy warns of."""

    def predict(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return iris_like(arrays, wanted)

    return model(predict)


def everything() -> Model:
    """Inputs of many datatypes and shapes, which come back."""
    inputs = tuple(TensorSpec(f"in_{kind}", kind, (-1,) if place % 2 else (-1, 2)) for place, kind in enumerate(KINDS))
    outputs = tuple(TensorSpec(f"out_{spec.name[3:]}", spec.datatype, spec.shape) for spec in inputs)
    return model(lambda arrays, wanted: {name: arrays[f"in_{name[4:]}"] for name in wanted},
                 inputs=inputs, outputs=outputs, labels=None)  # fmt: skip


def everything_request() -> dict[str, Any]:
    data: dict[str, list[Any]] = {"BOOL": [True, False], "BYTES": ["é", ""]}
    return {"inputs": [
        {"name": f"in_{kind}", "datatype": kind, "shape": [2] if place % 2 else [1, 2], "data": data.get(kind, [1, 2])}
        for place, kind in enumerate(KINDS)
    ]}  # fmt: skip


IRIS = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}],
        "outputs": [{"name": "label"}, {"name": "scores"}]}  # fmt: skip
REAL = {**cases("iris-onnx")[0]["request"], "outputs": [{"name": "label"}]}


def fine(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """An answer that a client may get for whatever it sent."""
    if status == 200:
        length = headers.get(b"inference-header-content-length")
        assert "outputs" in json.loads(body if length is None else body[: int(length)])
        return
    assert 400 <= status < 500, (status, body)
    assert headers[b"content-type"] == b"application/json"
    document = json.loads(body)
    assert list(document) == ["error"]
    assert document["error"]
    assert len(document["error"].splitlines()) == 1, document


class InProcess:
    """The ASGI application, called."""

    def __init__(self, made: Model, request: dict[str, Any]) -> None:
        self.seed, self._app = Seed.of(request), app_of(made)

    def close(self) -> None:
        self._app.model.engine.close()
        self._app.lines.close()

    def run(self, bodies: Iterator[Body]) -> list[tuple[int, dict[bytes, bytes], bytes]]:
        """The answers to POSTs, and to a GET of liveness behind them."""

        async def all_of_them() -> list[tuple[int, dict[bytes, bytes], bytes]]:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answers = [await self._ask("POST", "/v2/models/iris/infer", *body) for body in bodies]
                return [*answers, await self._ask("GET", "/v2/health/live", b"", {})]

        return asyncio.run(all_of_them())

    async def _ask(
        self, method: str, path: str, body: bytes, headers: Headers
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        given = [(b"content-length", b"%d" % len(body)), *((name.encode(), value) for name, value in headers.items())]
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
                 "root_path": "", "scheme": "http", "query_string": b"", "headers": given}  # fmt: skip
        await self._app.app(scope, receive, send)
        start, *rest = sent
        return start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in rest)


class Connection:
    """One connection to a real server, with some requests under way."""

    def __init__(self, url: str, kit: str) -> None:
        self.seed, self._path = Seed.of(REAL), f"/v2/models/{kit}/infer"
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def run(self, bodies: Iterator[Body]) -> list[tuple[int, dict[bytes, bytes], bytes]]:
        """The answers to POSTs, and to a GET of liveness behind them."""
        asked = [self._request("POST", self._path, *body) for body in bodies]
        asked.append(self._request("GET", "/v2/health/live", b"", {}))
        answers = []
        for first in range(0, len(asked), _PIPELINED):
            some = asked[first : first + _PIPELINED]
            self._socket.sendall(b"".join(some))
            answers += [self._answer() for _ in some]
        return answers

    def _request(self, method: str, path: str, body: bytes, headers: Headers) -> bytes:
        lines = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in headers.items())
        return b"%s %s HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n%s\r\n%s" % (
            method.encode(), path.encode(), len(body), lines, body)  # fmt: skip

    def _answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (text := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = text.partition(b":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers, self._file.read(int(headers[b"content-length"]))


def mutated(door: InProcess | Connection, protocol: str, batches: int) -> None:
    """All batches through one door."""
    want = door.run(iter([door.seed.right(protocol)]))[0]
    assert want[0] == 200, want
    assert (b"inference-header-content-length" in want[1]) is (protocol == "binary"), want
    for batch in range(batches):
        mutator = Mutator(batch)
        bodies = [door.seed.wrong(protocol, mutator) for _ in range(SIZE)]
        *answers, right, live = door.run(iter([*bodies, door.seed.right(protocol)]))
        for place, answer in enumerate(answers):
            try:
                fine(*answer)
            except Exception as error:
                error.add_note(f"batch {batch}, body {place}: {bodies[place]}")
                raise
        assert len(answers) == SIZE
        assert (live[0], json.loads(live[2])) == (200, {"live": True})
        assert _plain(right) == _plain(want)


def _plain(answer: tuple[int, dict[bytes, bytes], bytes]) -> tuple[int, bytes]:
    """Without the identifier that each answer has of its own."""
    status, _, body = answer
    return status, body[body.index(b'"outputs"') :]


@pytest.fixture
def batches(request: pytest.FixtureRequest) -> int:
    return LONG_BATCHES if request.config.getoption("--long") else BATCHES


PROTOCOLS = ("json", "binary")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("made", "request_of"), [(iris, lambda: IRIS), (everything, everything_request)], ids=["iris", "everything"]
)
def test_the_application_answers_wrong_bodies(
    made: Callable[[], Model], request_of: Callable[[], dict[str, Any]], protocol: str, batches: int
) -> None:
    door = InProcess(made(), request_of())
    try:
        mutated(door, protocol, batches // 4)
    finally:
        door.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_answers_wrong_bodies(protocol: str, batches: int, servers: Servers) -> None:
    door = Connection(servers.address("iris-onnx").url, "iris-onnx")
    try:
        mutated(door, protocol, batches // 2)
    finally:
        door.close()


def test_a_server_answers_wrong_messages(batches: int, servers: Servers, drivers: Drivers) -> None:
    address = servers.address("iris-onnx")
    for first in range(0, batches, BATCHES):
        order = {"function": "mutations", "grpc": address.grpc, "model": "iris-onnx", "first": first,
                 "batches": BATCHES, "size": SIZE, "request": REAL}  # fmt: skip
        got = drivers.run("triton", "grpc_mutations", order)
        assert set(got["codes"]) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}


def test_mutations_are_fast() -> None:
    """20,000 of them have to fit into CI: making them must not be what takes long."""
    began, mutator, seed = time.process_time(), Mutator(0), Seed.of(everything_request())
    for _ in range(500):
        seed.wrong("json", mutator)
        seed.wrong("binary", mutator)
    assert time.process_time() - began < 1.0
