"""Any bytes at all: no exception leaves a connection, and none of it stays in memory. In this process, for speed."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from typing import Any

import pytest

from runtime.link.limits import Limits
from runtime.serving.grpc.server import Server
from runtime.serving.http2.connection import Connection
from runtime.serving.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    numbered,
    settings,
)
from runtime.serving.protocol.codec import prepare
from runtime.serving.served import Models
from tests.campaign import Campaign
from tests.serving.grpc.client import infer_request
from tests.serving.http2.raw import frame, message
from tests.serving.http2.test_connection import HEAD
from tests.serving.support import Served, app_of, model

LIMITS = Limits(inline_seconds=1.0, body_bytes=2**16, in_flight_bytes=2**18)
PATH = b"/inference.GRPCInferenceService/ModelInfer"
INFER = b"\x83\x86\x04%c%b\x0f\x10\x10application/grpc" % (len(PATH), PATH)
PARTS = (
    frame(HEADERS, END_HEADERS, 1, INFER),
    frame(DATA, END_STREAM, 1, message(infer_request().SerializeToString())),
    frame(HEADERS, END_HEADERS | END_STREAM, 3, HEAD),
    frame(HEADERS, 0, 5, HEAD[:5]),
    frame(CONTINUATION, END_HEADERS, 5, HEAD[5:]),
    frame(DATA, END_STREAM, 5, message(b"")),
    frame(HEADERS, END_HEADERS, 7, b"\x40\x01a\x01b" + HEAD),
    frame(DATA, 0, 7, b"\0\0\0\1"),
    numbered(WINDOW_UPDATE, 0, 1000),
    numbered(WINDOW_UPDATE, 7, 1000),
    numbered(RST_STREAM, 7, 8),
    frame(PING, 0, 0, bytes(8)),
    frame(PRIORITY, 0, 7, bytes(5)),
    settings((INITIAL_WINDOW, 10)),
    frame(GOAWAY, 0, 0, bytes(8)),
)


class Written(asyncio.Transport):
    """Counts what is written; `closed` is as the connection left it."""

    def __init__(self) -> None:
        self.bytes, self.closed = 0, False

    def write(self, data: Any) -> None:
        self.bytes += len(data)

    def writelines(self, pieces: Any) -> None:
        self.bytes += sum(map(len, pieces))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close
    write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0


def mutated(chance: random.Random) -> bytes:
    parts = list(PARTS)
    for _ in range(chance.randrange(4)):
        kind, at = chance.randrange(4), chance.randrange(len(parts))
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(chance.randrange(len(parts) + 1), parts[at])
        elif kind == 2:
            parts[at], parts[0] = parts[0], parts[at]
        else:
            parts.insert(
                at, frame(chance.randrange(12), chance.randrange(256), chance.randrange(9), chance.randbytes(9))
            )
    data = bytearray(PREFACE + settings() + b"".join(parts))
    for _ in range(chance.choice((0, 1, 1, 2, 8))):
        at = chance.randrange(len(PREFACE), len(data))
        data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)


async def feed(served: Served, count: int) -> None:
    def speak(codec: Any) -> None:
        for one in served.models.values():
            prepare(one, served.app.speak(codec))

    models = Models(served.models, served.health, served.slots, served.lines.log)
    server = Server(models, [], bodies=served.app.bodies, health=served.health, limits=LIMITS, log=served.lines.log,
                    speak=speak)  # fmt: skip
    await server.prepare()
    chance, after = random.Random(20_000), 0
    for number in range(count):
        connection, transport = Connection(server._state, server.connections), Written()
        connection.connection_made(transport)
        data = mutated(chance)
        cut = chance.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            if not transport.closed:
                connection.data_received(piece)
        connection.look()
        assert transport.bytes < 2**16
        connection.connection_lost(None)
        if number % 50 == 0:
            await asyncio.sleep(0)
        if number == count // 10:
            gc.collect()
            after = sys.getallocatedblocks()
    for _ in range(3):
        await asyncio.sleep(0.01)
    gc.collect()
    assert sys.getallocatedblocks() - after < count / 4
    assert server.connections == set()
    assert served.app.bodies._in_flight == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # of numpy, in the model
def test_no_bytes_raise_or_stay(campaign: Campaign):
    streams = campaign(1_500, 20_000, 2_000_000)
    served = app_of(model(), limits=LIMITS)
    try:
        asyncio.run(feed(served, streams))
        assert served.lines.events("request.failed") == []
        answered, refused = served.lines.events("request.answered"), served.lines.events("request.refused")
        assert len(answered) > streams / 10
        assert len(refused) > streams / 10
        assert [event for event in refused if event["status"] == 500][:3] == []
    finally:
        for one in served.models.values():
            one.engine.close()
        served.lines.close()
