"""What a connection answers to frames, and to what is wrong with them, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.link.limits import Limits
from runtime.serving.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MOST_FRAME_BYTES,
    MOST_HEAD_BYTES,
    MOST_STREAMS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    numbered,
    pairs_of,
    settings,
)
from runtime.serving.http2.output import CONNECTION_BYTES, STREAM_BYTES
from runtime.serving.protocol.grpc.messages import METHODS
from tests.serving.grpc.client import infer_request, serving
from tests.serving.http2.raw import Raw, frame, message
from tests.serving.support import Served, iris_like, model

ASK = infer_request().SerializeToString()
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server whose model is cheap, so that calls are answered on the event loop."""
    with serving(model(), limits=Limits(inline_seconds=1.0, body_bytes=8 * 2**20)) as (served, _):
        yield served


def is_right(answer: tuple[dict[str, str], bytes], rows: int = 2) -> bool:
    fields, body = answer
    assert fields["grpc-status"] == "0", fields
    return list(METHODS["ModelInfer"][1].FromString(body[5:]).outputs[0].shape) == [rows]


def test_a_call_in_one_piece_is_answered_in_one_piece(served):
    with Raw(served.port) as client:
        assert is_right(client.answer(client.request(ASK)))
        assert client._data == b""
        stream = client.request(ASK)
        data = client._data = client.socket.recv(2**16)
        assert is_right(client.answer(stream))
        assert client._data == b""
        assert data[3] == HEADERS
        assert data[9 + int.from_bytes(data[:3]) + 3] == DATA


def test_the_server_says_its_limits(served):
    with Raw(served.port) as client:
        said = dict(pairs_of(client.until(SETTINGS).payload))
        assert said == {
            MOST_STREAMS: served.limits.in_flight // 2,
            INITIAL_WINDOW: STREAM_BYTES,
            MOST_HEAD_BYTES: served.limits.head_bytes,
        }
        update = client.until(WINDOW_UPDATE)
        assert (update.stream, int.from_bytes(update.payload)) == (0, CONNECTION_BYTES - 65_535)


def test_one_connection_takes_half_of_the_permits_at_most():
    release = threading.Event()

    def held(arrays, wanted):
        assert release.wait(30)
        return iris_like(arrays, wanted)

    limits = Limits(in_flight=512, inline_seconds=0, threads=1)
    with (
        serving(model(held), warm=False, limits=limits) as (served, _),
        Raw(served.port) as one,
        Raw(served.port) as two,
    ):
        streams = [one.request(ASK) for _ in range(257)]
        assert one.until(RST_STREAM).code == REFUSED_STREAM
        asked = [two.request(ASK) for _ in range(2)]
        release.set()
        assert all(is_right(two.answer(stream)) for stream in asked)
        assert is_right(one.answer(streams[255]))


def test_every_legal_form_of_a_call_is_understood(served):
    with Raw(served.port) as client:
        stream = client.next()
        block, body = client.block(("x-extra", "x" * 200)), message(ASK)
        client.send(
            frame(PRIORITY, 0, 77, b"\0\0\0\0\x10"),
            frame(0xBE, 0, 0, b"of an extension"),
            frame(HEADERS, PADDED | WITH_PRIORITY, stream, b"\x03" + b"\0\0\0\0\x10" + block[:10] + b"\0\0\0"),
            frame(CONTINUATION, 0, stream, block[10:20]),
            frame(CONTINUATION, END_HEADERS, stream, block[20:]),
            frame(DATA, 0, stream, b""),
            *(frame(DATA, 0, stream, body[at : at + 1]) for at in range(len(body))),
            frame(DATA, PADDED | END_STREAM, stream, b"\x05" + b"\0" * 5),
        )
        assert is_right(client.answer(stream))
        stream = client.next()
        client.send(
            frame(HEADERS, END_HEADERS, stream, client.block()),
            frame(DATA, PADDED, stream, b"\x01" + body + b"\0"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, bytes(client.encoder.encode([("a-trailer", "1")]))),
        )
        assert is_right(client.answer(stream))


def test_calls_come_and_go_byte_by_byte(served):
    with Raw(served.port, greets=False) as client:
        stream = client.next()
        whole = (PREFACE + settings() + frame(HEADERS, END_HEADERS, stream, client.block())
                 + frame(DATA, END_STREAM, stream, message(ASK)))  # fmt: skip
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert is_right(client.answer(stream))


def test_a_client_that_keeps_no_table_hears_that_none_is_used(served):
    with Raw(served.port, (HEADER_TABLE_SIZE, 0)) as client:
        stream = client.request(ASK)
        first = client.until(HEADERS, stream)
        assert first.payload[0] == 0x20
        assert client.until(HEADERS, stream).payload[0] != 0x20


def test_pings_and_settings_are_acknowledged(served):
    with Raw(served.port) as client:
        client.send(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321"))
        answer = client.until(PING)
        assert (answer.flags, answer.payload) == (ACK, b"12345678")
        client.send(settings((MOST_STREAMS, 1), (0x77, 5)))
        assert next(found for found in client.frames() if found.kind == SETTINGS).flags == ACK


HEAD = b"\x83\x86\x04%c%b\x0f\x10\x10application/grpc" % (len(CHECK), CHECK.encode())
"""POST, http, a path and a content type, without the table."""
OPEN = frame(HEADERS, END_HEADERS, 1, HEAD)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR, id="DATA of no stream"),
        pytest.param(frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR, id="DATA of stream 0"),
        pytest.param(frame(DATA, 0, 2, b"x"), PROTOCOL_ERROR, id="DATA of an even stream"),
        pytest.param(OPEN + frame(DATA, PADDED, 1, b"\x05ab"), PROTOCOL_ERROR, id="padding"),
        pytest.param(OPEN + frame(DATA, PADDED, 1, b""), PROTOCOL_ERROR, id="padding of nothing"),
        pytest.param(frame(HEADERS, END_HEADERS, 2, HEAD), PROTOCOL_ERROR, id="an even stream"),
        pytest.param(frame(HEADERS, END_HEADERS, 0, HEAD), PROTOCOL_ERROR, id="HEADERS of stream 0"),
        pytest.param(OPEN + frame(HEADERS, END_HEADERS, 1, HEAD), PROTOCOL_ERROR, id="HEADERS twice"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\xff\xff"), COMPRESSION_ERROR, id="no header block"),
        pytest.param(frame(HEADERS, 0, 1, HEAD) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR, id="PING amid headers"),
        pytest.param(frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 4, 3, b""), PROTOCOL_ERROR, id="of another"),
        pytest.param(frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR, id="CONTINUATION of nothing"),
        pytest.param(frame(PUSH_PROMISE, 4, 1, bytes(8)), PROTOCOL_ERROR, id="PUSH_PROMISE"),
        pytest.param(frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR, id="PING of a stream"),
        pytest.param(frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR, id="PING of 7 bytes"),
        pytest.param(frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR, id="SETTINGS of a stream"),
        pytest.param(frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR, id="half a setting"),
        pytest.param(frame(SETTINGS, ACK, 0, b"123456"), PROTOCOL_ERROR, id="an acknowledgement with settings"),
        pytest.param(settings((ENABLE_PUSH, 2)), PROTOCOL_ERROR, id="ENABLE_PUSH"),
        pytest.param(settings((INITIAL_WINDOW, 2**31)), FLOW_CONTROL_ERROR, id="a window of 2^31"),
        pytest.param(settings((MOST_FRAME_BYTES, 5)), PROTOCOL_ERROR, id="frames of 5 bytes"),
        pytest.param(numbered(WINDOW_UPDATE, 0, 0), PROTOCOL_ERROR, id="WINDOW_UPDATE by 0"),
        pytest.param(numbered(WINDOW_UPDATE, 0, 2**31 - 1), FLOW_CONTROL_ERROR, id="a window that overflows"),
        pytest.param(OPEN + numbered(WINDOW_UPDATE, 1, 2**31 - 1), FLOW_CONTROL_ERROR, id="a stream's window"),
        pytest.param(
            OPEN + numbered(WINDOW_UPDATE, 1, 2**30) + settings((INITIAL_WINDOW, 2**31 - 1)),
            FLOW_CONTROL_ERROR, id="a stream's window by SETTINGS",
        ),
        pytest.param(numbered(WINDOW_UPDATE, 9, 5), PROTOCOL_ERROR, id="WINDOW_UPDATE of no stream"),
        pytest.param(frame(WINDOW_UPDATE, 0, 0, b"123"), FRAME_SIZE_ERROR, id="WINDOW_UPDATE of 3 bytes"),
        pytest.param(numbered(RST_STREAM, 1, 0), PROTOCOL_ERROR, id="RST_STREAM of no stream"),
        pytest.param(numbered(RST_STREAM, 0, 0), PROTOCOL_ERROR, id="RST_STREAM of stream 0"),
        pytest.param(frame(RST_STREAM, 0, 1, b"1"), FRAME_SIZE_ERROR, id="RST_STREAM of 1 byte"),
        pytest.param(frame(DATA, 0, 1, bytes(16_385)), FRAME_SIZE_ERROR, id="a frame that is too long"),
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_ends_the_connection_with_its_code(served, sent, code):
    with Raw(served.port) as client:
        client.send(sent)
        last = client.until(GOAWAY)
        assert last.code == code
        assert last.payload[8:].isascii()
        assert client.ended() == []


@pytest.mark.parametrize(
    ("fields", "status", "http"),
    [
        ([(":method", "POST"), (":scheme", "http")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), (":path", "/")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), (":other", "/")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), ("a", "b"), (":path", "/")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("connection", "close")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("Upper", "case")], "13", "400"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("x-request-id", "a\r\nb")], "13", "400"),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], "12", "405"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/")], "12", "415"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("content-type", "text/html")], "12", "415"),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("content-type", "application/grpcx")], "12", "415"),
    ],
)  # fmt: skip
def test_headers_that_are_no_call_are_refused_and_the_connection_lives_on(served, fields, status, http):
    with Raw(served.port) as client:
        stream = client.next()
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, bytes(client.encoder.encode(fields))))
        seen, body = client.answer(stream)
        assert (seen["grpc-status"], seen[":status"], body) == (status, http, b"")
        assert seen["grpc-message"]
        assert is_right(client.answer(client.request(ASK)))


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (("grpc-timeout", "10"), "13"),
        (("grpc-timeout", "123456789S"), "13"),
        (("grpc-encoding", "br"), "12"),
        (("x-long", "x" * 20_000), "8"),
        (("x-long", "X" * 100_000), "8"),
        (("grpc-timeout", "1n"), "4"),
    ],
)
def test_metadata_that_cannot_be_served_are_refused(served, more, status):
    with Raw(served.port) as client:
        stream, block = client.next(), client.block(more)
        client.send(
            frame(HEADERS, 0, stream, block[:9000]),
            *(frame(CONTINUATION, 0, stream, block[at : at + 9000]) for at in range(9000, len(block), 9000)),
            frame(CONTINUATION, END_HEADERS, stream, b""),
            frame(DATA, END_STREAM, stream, message(ASK)),
        )
        answer = client.answer(stream)[0]
        assert answer["grpc-status"] == status
        assert answer.get("grpc-accept-encoding") == ("identity,deflate,gzip" if status == "12" else None)
        assert is_right(client.answer(client.request(ASK)))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "3"),
        (b"\0\0\0\0", "3"),
        (message(ASK)[:-1], "3"),
        (message(ASK) + b"\0", "3"),
        (message(ASK) * 2, "3"),
        (b"\2" + message(ASK)[1:], "3"),
        (message(ASK, compressed=True), "3"),
        (b"\0\xff\xff\xff\xff", "8"),
    ],
    ids=["nothing", "half a prefix", "half a message", "more than one", "two", "a flag", "no coding", "too long"],
)
def test_what_is_no_message_is_the_clients_mistake(served, body, status):
    with Raw(served.port) as client:
        stream = client.next()
        client.send(frame(HEADERS, END_HEADERS, stream, client.block()), frame(DATA, END_STREAM, stream, body))
        assert client.answer(stream)[0]["grpc-status"] == status
        assert is_right(client.answer(client.request(ASK)))


def test_what_comes_behind_a_refusal_is_skipped(served):
    with Raw(served.port) as client:
        stream = client.next()
        opened, piece = frame(HEADERS, END_HEADERS, stream, client.block()), frame(DATA, 0, stream, bytes(9000))
        client.send(opened, frame(DATA, 0, stream, b"\0\xff\xff\xff\xff"))
        assert client.answer(stream)[0]["grpc-status"] == "8"
        assert client.until(RST_STREAM, stream).code == NO_ERROR
        client.send(piece * 5, numbered(RST_STREAM, stream, 8), numbered(WINDOW_UPDATE, stream, 5))
        assert is_right(client.answer(client.request(ASK)))


# windows


def test_an_answer_goes_as_far_as_the_windows_let_it(served):
    rows = np.zeros((10_000, 4), np.float32)
    ask = infer_request(data=rows).SerializeToString()
    with Raw(served.port, (INITIAL_WINDOW, 1000)) as client:
        stream = client.next()
        client.send(frame(HEADERS, END_HEADERS, stream, client.block()), *pieces(stream, message(ask)))
        body = b""
        while len(body) < 1000:
            body += client.until(DATA, stream).payload
        assert (len(body), until_ping(client, stream)) == (1000, b"")
        client.send(numbered(WINDOW_UPDATE, stream, 500))
        body += until_ping(client, stream)
        assert len(body) == 1500
        client.send(settings((INITIAL_WINDOW, 900)), numbered(WINDOW_UPDATE, stream, 100))  # which takes back 100
        assert until_ping(client, stream) == b""
        assert is_right(client.answer(client.request(ASK)))  # others do not wait for this one
        client.send(numbered(WINDOW_UPDATE, stream, 2**20), numbered(WINDOW_UPDATE, 0, 2**20))
        fields, rest = client.answer(stream)
        assert is_right(({**fields}, body + rest), len(rows))


def until_ping(client: Raw, stream: int) -> bytes:
    """The DATA of a stream that is there once the server has read all that was sent."""
    client.send(frame(PING, 0, 0, bytes(8)))
    body = b""
    for found in client.frames():
        if found.kind == PING:
            return body
        if found.kind == DATA and found.stream == stream:
            body += found.payload
    raise AssertionError("no answer to PING")


def pieces(stream: int, body: bytes, size: int = 16_384) -> list[bytes]:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return [frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part) for part in parts]


@pytest.mark.slow
def test_a_long_message_passes_since_the_windows_are_opened_again(served):
    rows = np.zeros((400_000, 4), np.float32)  # 6.4 MB, more than a stream's window
    ask = message(infer_request(data=rows).SerializeToString())
    with Raw(served.port, (INITIAL_WINDOW, 2**30)) as client:
        client.send(numbered(WINDOW_UPDATE, 0, 2**30))
        for _ in range(3):  # in all more than the connection's window
            stream = client.next()
            sender = threading.Thread(target=client.send, args=(
                frame(HEADERS, END_HEADERS, stream, client.block()), *pieces(stream, ask)))  # fmt: skip
            sender.start()
            assert is_right(client.answer(stream), len(rows))
            sender.join()


def test_more_than_the_window_breaks_the_connection(served):
    with Raw(served.port) as client:
        stream = client.next()
        opened = frame(HEADERS, END_HEADERS, stream, client.block(path="/grpc.health.v1.Health/Watch"))
        client.send(opened, frame(DATA, 0, stream, message(b"")))
        waiting = message(bytes(16_000)) * (STREAM_BYTES // 16_000 + 2)  # nobody takes them: none is granted again
        client.send(*pieces(stream, waiting)[:-1])
        assert client.until(GOAWAY).code == FLOW_CONTROL_ERROR


def test_calls_on_many_streams_are_answered_each(served):
    with Raw(served.port) as client:
        client.send(b"".join(
            frame(HEADERS, END_HEADERS, stream, client.block()) + frame(DATA, END_STREAM, stream, message(ASK))
            for stream in range(1, 201, 2)
        ))  # fmt: skip
        ended = set()
        for found in client.frames():
            if found.kind == HEADERS and found.flags & END_STREAM:
                ended.add(found.stream)
            if len(ended) == 100:
                break
        assert ended == set(range(1, 201, 2))


def test_more_streams_than_announced_are_refused_so_that_a_client_may_try_again():
    with serving(model(), limits=Limits(in_flight=1)) as (served, _), Raw(served.port) as client:
        for _ in range(1 + 256):
            client.request(b"", path=WATCH)
        stream = client.request(b"", path=WATCH)
        assert client.until(RST_STREAM, stream).code == REFUSED_STREAM


# greetings


def test_an_http1_request_gets_one_line(served):
    with Raw(served.port, greets=False) as client:
        client.send(b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = b"".join(iter(lambda: client.socket.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"this port speaks gRPC" in answer


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nXX", b"\0\0\0"])
def test_what_is_no_greeting_ends_the_connection(served, sent):
    with Raw(served.port, greets=False) as client:
        client.send(sent)
        answer = b"".join(iter(lambda: client.socket.recv(4096), b""))
    assert answer == b"" or sent.startswith(b"PRI")
