"""Right requests made wrong, thousands of them: no 5xx, no hang, and after each batch a server that lives and is right.

In CI 20,000 for each protocol in this process, in batches of 1,000, and 32,000 over the sockets of real servers of eight
models; a batch's number is its seed. With `--long` 5.4 and 1.1 million: `pytest tests/clients/test_mutations.py --long`.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from runtime.link.limits import Limits
from runtime.serving.codec_table import CODECS
from runtime.serving.inference import Endpoint, infer
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS
from runtime.serving.protocol.grpc.messages import METHODS
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.statuses import GRPC_CODE, Response
from tests.campaign import Campaign
from tests.clients.drivers import Drivers
from tests.clients.scripts.mutate import Mutator
from tests.clients.servers import Servers
from tests.expected import cases
from tests.serving.support import app_of, iris_like, model

pytestmark = pytest.mark.slow
SIZE = 1000
IN_PROCESS, OVER_SOCKETS = (1, 9, 900), (1, 2, 70)
"""Batches of each of two models, and of each server: of every run, of CI, and with `--long`."""
MODELS = ("iris-onnx", "wine-sklearn", "titanic-sklearn", "iris-xgboost", "iris-lightgbm", "mlp-pt2", "catboost",
          "transformers")  # fmt: skip
"""Eight models of seven frameworks; every run asks the first."""
MOST_GROWTH_BYTES = 16 << 20
PATIENCE_SECONDS = 60.0
_PIPELINED = 50
KINDS = ("BOOL", "INT8", "INT64", "UINT8", "UINT64", "FP16", "FP32", "FP64", "BYTES")
NUMPY = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}

LENGTH = b"inference-header-content-length"
Infer, Inferred = METHODS["ModelInfer"]
REFUSALS = {b"INVALID_ARGUMENT", b"NOT_FOUND", b"RESOURCE_EXHAUSTED", b"UNIMPLEMENTED", b"DEADLINE_EXCEEDED"}

Headers = dict[bytes, bytes]
Body = tuple[bytes, Headers]
Answer = tuple[int, Headers, bytes]


class Seed(NamedTuple):
    """A right request: as JSON, as JSON with its tensors behind, and as messages of gRPC, raw and typed."""

    as_json: dict[str, Any]
    as_binary: dict[str, Any]
    tail: bytes
    messages: tuple[bytes, ...]

    @classmethod
    def of(cls, request: dict[str, Any]) -> Seed:
        """The request in all forms."""
        data = list(map(_raw, request["inputs"]))
        plain = [{key: tensor[key] for key in ("name", "shape", "datatype")} for tensor in request["inputs"]]
        binary = [
            {**tensor, "parameters": {"binary_data_size": len(own)}} for tensor, own in zip(plain, data, strict=True)
        ]
        typed = [{**tensor, **_typed(whole)} for tensor, whole in zip(plain, request["inputs"], strict=True)]
        outputs = request.get("outputs", ())
        return cls(
            {"id": "1", **request},
            {"inputs": binary, "parameters": {"binary_data_output": True}},
            b"".join(data),
            (Infer(id="1", inputs=plain, outputs=outputs, raw_input_contents=data).SerializeToString(),
             Infer(id="1", inputs=typed, outputs=outputs).SerializeToString()),
        )  # fmt: skip

    def right(self, protocol: str) -> list[Body]:
        """The request as it is, in each form of the protocol."""
        if protocol == "json":
            return [(json.dumps(self.as_json).encode(), {})]
        if protocol == "grpc":
            return [(message, {}) for message in self.messages]
        head = json.dumps(self.as_binary).encode()
        return [(head + self.tail, {LENGTH: b"%d" % len(head)})]

    def wrong(self, protocol: str, mutator: Mutator) -> Body:
        """The request, mutated."""
        if protocol == "json":
            return mutator.json_body(self.as_json), {}
        if protocol == "grpc":
            return mutator.bytes(mutator.random.choice(self.messages)), {}
        body, length = mutator.binary_body(self.as_binary, self.tail)
        return body, {LENGTH: length}


def _typed(tensor: dict[str, Any]) -> dict[str, Any]:
    """The contents of a tensor, as FP32 where its datatype has none."""
    datatype = tensor["datatype"] if tensor["datatype"] in FIELDS else "FP32"
    return {"datatype": datatype, "contents": {FIELDS[datatype]: _elements(tensor)}}


def _elements(tensor: dict[str, Any]) -> list[Any]:
    return [value.encode() if isinstance(value, str) else value for value in tensor["data"]]


def _raw(tensor: dict[str, Any]) -> bytes:
    if tensor["datatype"] == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in _elements(tensor))
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
OWN = {
    "iris-onnx": REAL,
    "catboost": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}]},
    "transformers": {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["the film is good", "bad"]}]
    },
}


def fine(status: int, headers: Headers, body: bytes) -> None:
    """An answer that a client may get for whatever it sent."""
    if status == 200:
        if b"content-type" not in headers:
            assert Inferred.FromString(body).outputs
            return
        length = headers.get(LENGTH)
        assert "outputs" in json.loads(body if length is None else body[: int(length)])
        return
    assert 400 <= status < 500, (status, body)
    if GRPC_CODE in headers:
        assert headers[GRPC_CODE] in REFUSALS
        said = body.decode()
    else:
        assert headers[b"content-type"] == b"application/json"
        document = json.loads(body)
        assert list(document) == ["error"]
        said = document["error"]
    assert len(said.splitlines()) == 1, said


class InProcess:
    """A model behind one protocol, asked without a server."""

    def __init__(self, made: Model, request: dict[str, Any], protocol: str) -> None:
        self.seed, codec = Seed.of(request), GRPC if protocol == "grpc" else V2_JSON
        self._served = app_of(made, limits=Limits(inline_seconds=9), codecs=(*CODECS, GRPC))
        self._endpoint = Endpoint.of(self._served.model, (codec,))

    def close(self) -> None:
        self._served.model.engine.close()
        self._served.lines.close()

    def run(self, bodies: list[Body]) -> list[Answer]:
        """The answers to predictions."""

        async def all_of_them() -> list[Answer]:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return [await self._ask(headers, body) for body, headers in bodies]

        return asyncio.run(all_of_them())

    async def _ask(self, headers: Headers, body: bytes) -> Answer:
        answer = infer(self._endpoint, headers, body)
        if not isinstance(answer, Response):  # a long body
            answer = await answer
        return answer.status, dict((*answer.headers, *answer.variable)), b"".join((answer.body, *answer.tail))


class Connection:
    """One connection to a real server, with some requests under way."""

    def __init__(self, url: str, kit: str) -> None:
        self.seed, self._path = Seed.of(request_of(kit)), f"/v2/models/{kit}/infer"
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def resident_bytes(self) -> int:
        """What the worker takes."""
        self._socket.sendall(self._request("GET", "/metrics", b"", {}))
        (found,) = re.findall(rb'process_resident_memory_bytes\{process="worker-1"\} (\S+)', self._answer()[2])
        return int(float(found))

    def run(self, bodies: list[Body]) -> list[Answer]:
        """The answers to predictions, after which the server lives."""
        asked = [self._request("POST", self._path, *body) for body in bodies]
        asked.append(self._request("GET", "/v2/health/live", b"", {}))
        answers = []
        for first in range(0, len(asked), _PIPELINED):
            some = asked[first : first + _PIPELINED]
            self._socket.sendall(b"".join(some))
            answers += [self._answer() for _ in some]
        status, _, live = answers.pop()
        assert (status, json.loads(live)) == (200, {"live": True})
        return answers

    def _request(self, method: str, path: str, body: bytes, headers: Headers) -> bytes:
        lines = b"".join(b"%s: %s\r\n" % (name, value) for name, value in headers.items())
        return b"%s %s HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n%s\r\n%s" % (
            method.encode(), path.encode(), len(body), lines, body)  # fmt: skip

    def _answer(self) -> Answer:
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (text := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = text.partition(b":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers, self._file.read(int(headers[b"content-length"]))


def mutated(door: InProcess | Connection, protocol: str, batches: int) -> None:
    """All batches through one door."""
    want, *others = door.run(door.seed.right(protocol))
    assert {answer[0] for answer in (want, *others)} == {200}, (want, others)
    assert (LENGTH in want[1]) is (protocol == "binary"), want
    for batch in range(batches):
        mutator = Mutator(batch)
        bodies = [door.seed.wrong(protocol, mutator) for _ in range(SIZE)]
        *answers, right = door.run([*bodies, door.seed.right(protocol)[0]])
        for place, answer in enumerate(answers):
            try:
                fine(*answer)
            except Exception as error:
                error.add_note(f"batch {batch}, body {place}: {str(bodies[place])[:1000]}")
                raise
        assert len(answers) == SIZE
        assert _plain(right) == _plain(want)


def _plain(answer: Answer) -> tuple[int, bytes]:
    """Without the identifier that an answer in JSON has of its own."""
    status, _, body = answer
    return status, body[max(0, body.find(b'"outputs"')) :]


@pytest.mark.parametrize("protocol", ["json", "binary", "grpc"])
@pytest.mark.parametrize(
    ("made", "request_of"), [(iris, lambda: IRIS), (everything, everything_request)], ids=["iris", "everything"]
)
def test_the_protocol_answers_wrong_bodies(
    made: Callable[[], Model], request_of: Callable[[], dict[str, Any]], protocol: str, campaign: Campaign
) -> None:
    door = InProcess(made(), request_of(), protocol)
    try:
        mutated(door, protocol, campaign(*IN_PROCESS))
    finally:
        door.close()


def request_of(model: str) -> dict[str, Any]:
    """A right request."""
    return OWN.get(model) or cases(model)[0]["request"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("protocol", ["json", "binary"])
@pytest.mark.parametrize("model", MODELS)
def test_a_server_answers_wrong_bodies(model: str, protocol: str, campaign: Campaign, servers: Servers) -> None:
    batches = campaign(*OVER_SOCKETS) if model == MODELS[0] else campaign(0, *OVER_SOCKETS[1:])
    if not batches:
        pytest.skip("in campaigns")
    door = Connection(servers.address(model).url, model)
    try:
        mutated(door, protocol, min(batches, 5))
        before = door.resident_bytes()
        mutated(door, protocol, batches)
        assert door.resident_bytes() < before + MOST_GROWTH_BYTES
    finally:
        door.close()


def test_a_server_answers_wrong_messages(campaign: Campaign, servers: Servers, drivers: Drivers) -> None:
    address = servers.address("iris-onnx")
    for batch in range(campaign(*OVER_SOCKETS)):
        order = {"function": "mutations", "grpc": address.grpc, "model": "iris-onnx", "first": batch,
                 "batches": 1, "size": SIZE, "request": REAL}  # fmt: skip
        got = drivers.run("triton", "grpc_mutations", order)
        assert set(got["codes"]) <= {"OK", *(code.decode() for code in REFUSALS)}


def test_mutations_are_fast() -> None:
    """20,000 of them have to fit into CI: making them must not be what takes long."""
    began, mutator, seed = time.process_time(), Mutator(0), Seed.of(everything_request())
    for _ in range(500):
        seed.wrong("json", mutator)
        seed.wrong("binary", mutator)
    assert time.process_time() - began < 1.0
