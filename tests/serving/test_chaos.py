"""Every answer is that of its own request, while batches form, clients leave, deadlines pass and requests fail.

6,000 checked predictions and 2 stops; in CI 200,000 and 20.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import pytest

from adapters.base import TensorSpec
from runtime.link.limits import Limits
from runtime.serving.engine import costs
from runtime.serving.engine.batches import Shape, Verdict
from runtime.serving.inference import infer
from runtime.serving.statuses import Response
from tests.campaign import Campaign
from tests.serving.support import INFER, Served, app_of, model, serving

pytestmark = pytest.mark.slow
CLIENTS = 32
IN_THREADS = Limits(inline_seconds=0, threads=2)
ON_LOOP = Limits(inline_seconds=10, alone_seconds=0)
VERDICT = Verdict((Shape(frozenset({"x"}), frozenset({"number", "text"}), None),), 16)


class Counting:
    """Says of each row which number it is, and refuses batches with a negative one; predictions take turns."""

    def __init__(self) -> None:
        self.rows = self.calls = 0
        self._turn = threading.Lock()

    def predict(self, arrays: Any, wanted: Any) -> Any:
        x = arrays["x"]
        with self._turn:
            self.rows, self.calls = self.rows + len(x), self.calls + 1
        if (x < 0).any():
            raise ValueError("negative")
        made = {"number": x[:, 0].astype(np.int64), "text": np.array([b"%d" % n for n in x[:, -1]], object)}
        return {name: made[name] for name in wanted}

    @property
    def model(self) -> Any:
        outputs = TensorSpec("number", "INT64", (-1,)), TensorSpec("text", "BYTES", (-1,))
        return model(self.predict, inputs=(TensorSpec("x", "FP64", (-1, -1)),), outputs=outputs, batch=True)


def body(numbers: list[int], width: int, wanted: tuple[str, ...]) -> bytes:
    data = [number for number in numbers for _ in range(width)]
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(numbers), width], "data": data}
    return orjson.dumps({"inputs": [tensor], "outputs": [{"name": name} for name in wanted]})


def right(numbers: list[int], wanted: tuple[str, ...]) -> list[list[Any]]:
    made: dict[str, list[Any]] = {"number": numbers, "text": list(map(str, numbers))}
    return [made[name] for name in wanted]


@pytest.mark.parametrize("limits", [IN_THREADS, ON_LOOP], ids=["in threads", "on the loop"])
def test_nobody_gets_anothers_answer(limits: Limits, monkeypatch: pytest.MonkeyPatch, campaign: Campaign):
    predictions = campaign(3_000, 100_000, 500_000)
    monkeypatch.setattr(costs, "_JOINS_SECONDS", 0.0)  # everything short gains from a batch
    counting, seen = Counting(), Counter[str]()
    served = app_of(counting.model, limits=limits, warm=False)
    served.lines.log.level = "error"
    served.model.engine.allow(VERDICT)
    numbers = iter(range(1, 10 * predictions))

    async def ask(rng: random.Random) -> None:
        own = [next(numbers) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        wanted = rng.choice((("number", "text"), ("number", "text"), ("text",)))
        bad, chance = rng.random() < 0.02, rng.random()
        head = {b"x-envoy-expected-rq-timeout-ms": b"1"} if chance < 0.05 else {}
        answer = infer(served.endpoint, head, body([-n for n in own] if bad else own, rng.choice((1, 1, 2)), wanted))
        task = asyncio.ensure_future(answer if isinstance(answer, Awaitable) else asyncio.sleep(0, answer))
        if chance > 0.95:
            for _ in range(rng.randrange(1, 5)):  # its task has begun
                await asyncio.sleep(0)
            task.cancel()
        try:
            response = await task
        except asyncio.CancelledError:
            seen["left"] += 1
            return
        assert isinstance(response, Response)
        seen[str(response.status)] += 1
        if response.status == 200:
            assert not bad
            assert [output["data"] for output in orjson.loads(response.body)["outputs"]] == right(own, wanted)
        else:
            assert response.status == (504 if head and not bad else 500) or (bad and head)

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        while seen.total() < predictions:
            await ask(rng)

    async def main() -> None:
        await asyncio.gather(*(client(seed) for seed in range(2 * CLIENTS)))
        engine = served.model.engine
        while engine.in_flight:  # noqa: ASYNC110 - a permit is a count
            await asyncio.sleep(0.001)
        assert (engine.rows.taken, engine.bytes.taken, engine.batches._waiting, engine.late_since) == (0, 0, {}, 0.0)

    asyncio.run(main())
    assert seen["200"] > 0.8 * predictions
    assert min(seen["500"], seen["left"]) > predictions / 200
    assert counting.rows / counting.calls > 3


@contextmanager
def batching() -> Iterator[tuple[Served, Counting]]:
    counting = Counting()
    with serving(counting.model, limits=IN_THREADS, warm=False) as served:
        served.model.engine.allow(VERDICT)
        yield served, counting


def test_a_stop_loses_no_request_while_batches_form(campaign: Campaign):
    for _ in range(campaign(2, 20, 200)):
        _stop_while_batches_form()


def _stop_while_batches_form() -> None:
    busy, answered = asyncio.Event(), Counter[int]()

    async def client(port: int, number: int) -> None:
        request = body([number], 1, ("number",))
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            keep = True
            while keep:
                writer.write(head + request)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200")
                length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                assert orjson.loads(await reader.readexactly(length))["outputs"][0]["data"] == [number]
                answered[number] += 1
                keep = b"connection: close" not in answer.lower()
                if answered.total() > 20 * CLIENTS:
                    busy.set()
            writer.close()
            await writer.wait_closed()

    async def main(served: Served) -> None:
        clients = [asyncio.ensure_future(client(served.port, number)) for number in range(CLIENTS)]
        await asyncio.wait_for(busy.wait(), 20)
        await asyncio.to_thread(served.drain)
        await asyncio.wait_for(asyncio.gather(*clients), 20)

    with batching() as (served, counting):
        asyncio.run(main(served))
    assert counting.rows > counting.calls
    assert min(answered.values()) > 0
