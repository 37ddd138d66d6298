"""What the connection itself refuses, times out and closes: raw bytes in, raw bytes out."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from runtime.link.limits import Limits
from runtime.serving.http.connection import Connection
from tests.serving.support import BODY, INFER, Served, echo, iris_like, model, serving
from tests.serving.wire import Wire, ask, request

SMALL = Limits(body_bytes=100_000)
TOO_LARGE = "body too large: more than 100000 bytes, the limit of --max-body-bytes"
QUICK = Limits(head_seconds=1, body_seconds=2, keep_alive_seconds=1, linger_seconds=1)
HEAD = b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model(), limits=SMALL) as running:
        yield running


REFUSED = [
    # 52
    pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", 400, id="52 negative"),
    pytest.param(HEAD + b"Content-Length: +2\r\n\r\nab", 400, id="52 plus"),
    pytest.param(HEAD + b"Content-Length: 2,2\r\n\r\nab", 400, id="52 list"),
    pytest.param(HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400, id="52 20 digits"),
    pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 400, id="52 two"),
    pytest.param(HEAD + b"Content-Length:\r\n\r\nab", 400, id="52 empty"),
    pytest.param(HEAD + b"Content-Length: 0x10\r\n\r\nabc", 400, id="52 hex"),
    pytest.param(HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="52 with TE"),
    # 53
    pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, id="53 gzip"),
    pytest.param(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, id="53 gzip, chunked"),
    pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, id="53 xchunked"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, id="53 twice"),
    pytest.param(HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, id="53 space before colon"),
    # 54
    pytest.param(CHUNKED + b"ZZ\r\n", 400, id="54 ZZ"),
    pytest.param(CHUNKED + b"11111111111111111\r\n", 400, id="54 17 digits"),
    pytest.param(CHUNKED + b"1\r\naXX", 400, id="54 terminator"),
    pytest.param(CHUNKED + b"1\r\na\r\n" * 65_537, 400, id="54 too many chunks"),
    pytest.param(CHUNKED + b"0\r\n" + b"x: y\r\n" * 103, 431, id="too many trailers"),
    pytest.param(CHUNKED + b"0\r\nx: " + b"y" * 1_000_000, 431, id="endless trailer"),
    pytest.param(CHUNKED + b"1;" + b"y" * 1_000_000, 431, id="endless chunk extension"),
    # 55
    pytest.param(b"GET /v2 HTTP/1.1\r\n\r\n", 400, id="55 no Host"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, id="55 two Hosts"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, id="55 Host with a slash"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a b\r\n\r\n", 400, id="55 Host with a space"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, id="55 Host with a user"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n", 400, id="55 NUL"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n", 400, id="55 bare CR"),
    pytest.param(b"GET /v2 HTTP/1.1\nHost: a\n\n", 400, id="55 bare LF"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: 1\r\n 2\r\n\r\n", 400, id="55 obs-fold"),
    # 56
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", 431, id="56 long header"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 3_000_000, 431, id="56 endless header"),
    pytest.param(b"GET /v2 HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431, id="56 many headers"),
    pytest.param(b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="56 URI"),
    pytest.param(b"GET /" + b"x" * 500_000, 414, id="56 endless URI"),
    # 57
    pytest.param(b"GET /v2\r\n\r\n", 505, id="57 HTTP/0.9"),
    pytest.param(b"GET /v2 RTSP/1.0\r\nHost: a\r\n\r\n", 400, id="57 RTSP"),
    pytest.param(b"POST  /v2?x  RTSP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400, id="57 RTSP with spaces"),
    pytest.param(b"SOURCE /v2 ICE/1.0\r\nHost: a\r\n\r\n", 400, id="57 ICE"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="57 HTTP/2"),
    pytest.param(b"GET /v2 HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="57 HTTP/2.0"),
    pytest.param(b"GET /v2 HTTP/3.7\r\nHost: a\r\n\r\n", 400, id="57 HTTP/3.7"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), 400, id="57 TLS hello"),
    pytest.param(bytes(range(256)), 400, id="57 all bytes"),
    # 46, 45, 58
    pytest.param(b"BREW /v2 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="46 BREW"),
    pytest.param(b"get /v2 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="46 lower case"),
    pytest.param(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="45 CONNECT"),
    pytest.param(HEAD + b"Expect: banana\r\nContent-Length: 2\r\n\r\n{}", 417, id="58 banana"),
    pytest.param(b"GET http:///v2 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="target without host"),
]  # fmt: skip


def test_another_protocol_is_seen_in_pieces_and_text_about_it_is_none(served: Served):
    body = BODY.replace(b"{", b'{"id": "POST %b RTSP/1.0", ' % INFER.encode(), 1)
    with Wire(served.port) as wire:
        assert wire.send(request(body=body)).answer().status == 200
        for piece in (b"GET /v2 RT", b"SP/1.0\r\nHost: ", b"a\r\n\r\n"):
            wire.send(piece)
        assert wire.answer().status == 400


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "speaks HTTP/1.1; gRPC is served on the port of --grpc-port"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "speaks HTTP without TLS"),
    ],
)
def test_who_speaks_grpc_or_tls_here_is_told_where_to_go(served: Served, start: bytes, said: str):
    with Wire(served.port) as wire:
        assert wire.send(start).answer().error == f"invalid HTTP request: this port {said}"


@pytest.mark.parametrize(("sent", "status"), REFUSED)
@pytest.mark.parametrize("position", ["first", "second"])
def test_what_is_not_http_is_refused_in_json_and_the_connection_ends(
    served: Served, sent: bytes, status: int, position: str
):
    with Wire(served.port) as wire:
        if position == "second":
            assert wire.send(request()).answer().status == 200
        wire.send(sent)
        refusal = wire.answer()
        assert refusal.status == status
        assert refusal.error
        assert refusal.headers["connection"] == "close"
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.closed()
    assert ask(served.port, request())[0].status == 200


def test_row_51_an_announced_length_over_the_limit_is_refused_before_the_body_is_read(served: Served):
    with Wire(served.port) as wire:
        refusal = wire.send(HEAD + b"Content-Length: 100001\r\n\r\n").answer()
        assert (refusal.status, refusal.error) == (413, TOO_LARGE)
        assert refusal.headers["connection"] == "close"


def test_row_51_a_client_that_goes_on_sending_gets_to_see_the_refusal(served: Served):
    size = 8_000_000
    with Wire(served.port) as wire:
        wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        wire.send(b"x" * size)
        assert wire.answer().status == 413


def test_row_51_a_chunked_body_is_refused_when_it_grows_past_the_limit(served: Served):
    with Wire(served.port) as wire:
        wire.send(CHUNKED)
        for _ in range(11):
            wire.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        refusal = wire.answer()
        assert (refusal.status, refusal.error) == (413, TOO_LARGE)


def test_row_58_a_client_that_waits_for_a_100_gets_the_413_instead(served: Served):
    with Wire(served.port) as wire:
        refusal = wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n").answer()
        assert refusal.status == 413


def test_a_client_that_waits_for_a_100_gets_one_and_its_answer(served: Served):
    with Wire(served.port) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert wire.answer().status == 100
        assert wire.send(BODY).answer().status == 200


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_a_chunked_body_is_one_body_whatever_its_pieces(served: Served, size: int):
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with Wire(served.port) as wire:
        answer = wire.send(CHUNKED + chunks + b"0\r\nX-Trailer: 1\r\n\r\n").answer()
        assert answer.status == 200
        assert wire.send(request()).answer().status == 200


@pytest.mark.parametrize("cut", [1, 30, 90, -1])
def test_a_request_that_comes_in_two_pieces_is_one_request(served: Served, cut: int):
    with Wire(served.port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(request()[:cut])
        assert ask(served.port, request())[0].status == 200  # the server has had time to see the first piece
        assert wire.send(request()[cut:]).answer().status == 200


def test_a_head_that_comes_again_is_read_as_it_was_the_first_time(served: Served):
    with Wire(served.port) as wire:
        for number in range(10):
            body = BODY[:-1] + b',"id":"%d"}' % number
            answer = wire.send(request(body=body)).answer()
            assert (answer.status, answer.json["id"]) == (200, str(number))
        assert wire.send(request("GET", "/v2", None)).answer().status == 200
        assert wire.send(request(body=body[:-1] + b"]")).answer().status == 400
        assert wire.send(request(body=body)).answer().status == 200
        known = request(body=body)
        wire.send(known + request("GET", "/v2", None))
        assert [wire.answer().status for _ in range(2)] == [200, 200]
        wire.send(known + known[:40])
        assert wire.answer().status == 200
        wire.send(known[40:])
        assert wire.answer().status == 200
        assert wire.send(known).answer().status == 200


@pytest.mark.parametrize("cut", [1, 5, 40, 90])
def test_the_end_of_a_head_is_not_taken_for_a_whole_one(served: Served, cut: int):
    """What came as the second piece of a request is no request, should it come again on its own."""
    with Wire(served.port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert wire.send(request()).answer().status == 200
        wire.send(request()[:cut])
        assert ask(served.port, request())[0].status == 200
        assert wire.send(request()[cut:]).answer().status == 200
        assert wire.send(request()[cut:]).answer().status == 400


def test_a_known_head_still_meets_a_server_that_drains():
    with serving(model()) as served, Wire(served.port) as wire:
        for _ in range(3):
            assert "connection" not in wire.send(request()).answer().headers
        served.health.draining = True
        assert wire.send(request()).answer().headers["connection"] == "close"
        assert wire.closed()


def test_row_61_pipelined_requests_are_answered_in_order(served: Served):
    with Wire(served.port) as wire:
        for number in range(100):
            body = BODY[:-1] + b',"id":"%d"}' % number
            wire.send(request(body=body) if number % 3 else request("GET", f"/v2/models/iris?{number}", None))
        for number in range(100):
            answer = wire.answer()
            assert answer.status == 200
            assert not number % 3 or answer.json["id"] == str(number)


def test_row_61_after_a_request_that_is_not_http_nothing_more_is_answered(served: Served):
    with Wire(served.port) as wire:
        wire.send(request() + request("GET", "/v2", None) + b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n" + request())
        assert [wire.answer().status for _ in range(3)] == [200, 200, 400]
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.closed()


def test_requests_behind_a_connection_close_are_not_answered(served: Served):
    with Wire(served.port) as wire:
        wire.send(request(headers={"Connection": "close"}) + request() * 3)
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.closed()


def test_an_offered_upgrade_is_ignored_with_and_without_a_body(served: Served):
    """Java's HttpClient offers h2c with every request; the parser then leaves the body to us."""
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    with Wire(served.port) as wire:
        wire.send(request(headers=upgrade) + request("GET", "/v2", None, upgrade) + request())
        assert [wire.answer().status for _ in range(3)] == [200, 200, 200]
        whole = request(headers=upgrade)
        wire.send(whole[:-10])
        assert ask(served.port, request())[0].status == 200
        assert wire.send(whole[-10:]).answer().status == 200


def test_http_1_0_is_answered_and_closed(served: Served):
    with Wire(served.port) as wire:
        answer = wire.send(b"GET /v2 HTTP/1.0\r\n\r\n").answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.closed()


def test_a_client_that_sends_no_more_still_gets_its_answer(served: Served):
    with Wire(served.port) as wire:
        wire.send(request())
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 200
        assert wire.closed()


def test_row_62_a_client_that_leaves_in_the_middle_is_no_ones_error():
    with serving(model()) as served:
        for cut in (20, 100, len(request()) - 1, len(request())):
            for _ in range(20):
                with Wire(served.port) as wire:
                    wire.send(request()[:cut])
        assert ask(served.port, request())[0].status == 200
    assert {event["level"] for event in served.lines.events()} <= {"debug", "info"}


@pytest.mark.slow
def test_59_60_who_keeps_the_server_waiting_is_told_and_closed():
    half = b"GET /v2 HTTP/1.1\r\nHos", HEAD + b"Content-Length: 100\r\n\r\n{", CHUNKED + b"1\r\n{"
    with serving(model(), limits=QUICK) as served, contextlib.ExitStack() as wires:
        silent, *waiting = (wires.enter_context(Wire(served.port, 15)) for _ in ("", *half))
        for wire, sent in zip(waiting, half, strict=True):
            wire.send(sent)
        for wire, sent in zip(waiting, half, strict=True):
            assert wire.answer().status == 408, sent
            wire.socket.shutdown(socket.SHUT_WR)
        for wire in (silent, *waiting):
            assert wire.closed()


@pytest.mark.slow
def test_an_idle_connection_is_closed_after_the_keep_alive_time():
    with serving(model(), limits=QUICK) as served, Wire(served.port) as wire:
        started = time.monotonic()
        assert wire.send(request()).answer().status == 200
        assert wire.closed()
        assert time.monotonic() - started > 0.5


@pytest.mark.slow
def test_a_client_that_never_ends_its_side_after_a_refusal_does_not_stay():
    with serving(model(), limits=QUICK) as served, Wire(served.port) as wire:
        assert wire.send(b"BREW / HTTP/1.1\r\n\r\n").answer().status == 400
        assert wire.closed()
        assert served.server is not None
        assert wait_until(lambda: not served.server.connections)  # type: ignore[union-attr]


@pytest.mark.slow
def test_over_the_limit_of_connections_the_idlest_makes_room():
    with serving(model(), limits=Limits(connections=3)) as served:
        wires = [Wire(served.port) for _ in range(3)]
        for wire in wires:
            assert wire.send(request()).answer().status == 200
        with Wire(served.port) as newest:
            assert newest.send(request()).answer().status == 200
        closed = [wire for wire in wires if _ends(wire)]
        assert len(closed) == 1
        for wire in wires:
            wire.socket.close()


def test_over_the_limit_of_connections_without_an_idle_one_the_newest_is_refused():
    with serving(model(), limits=Limits(connections=1)) as served, Wire(served.port) as first:
        first.send(request()[:30])
        assert ask_until_refused(served.port)
        assert first.send(request()[30:]).answer().status == 200


def ask_until_refused(port: int) -> bool:
    with Wire(port) as wire:
        answer = wire.answer()
        return answer.status == 503 and answer.headers["retry-after"] == "1" and "too many connections" in answer.error


def _ends(wire: Wire, seconds: float = 0.3) -> bool:
    wire.socket.settimeout(seconds)
    try:
        return wire.closed()
    except TimeoutError:
        return False
    finally:
        wire.socket.settimeout(10)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(
            b"GET /v2 HTTP/1.1\r\nX-Request-Id: mine-8\r\n\r\n" + b"x" * 1000,
            "invalid HTTP request: expected one Host header, got 0",
            id="head",
        ),
        pytest.param(
            HEAD + b"X-Request-Id: mine-8\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            "invalid HTTP request: Invalid character in chunk size",
            id="body",
        ),
    ],
)
def test_each_refusal_of_the_connection_is_logged_once_with_the_requests_id(sent: bytes, reason: str):
    with serving(model()) as served, Wire(served.port) as wire:
        assert wire.send(sent).answer().status == 400
    (event,) = served.lines.events("request.refused")
    assert (event["id"], event["status"], event["reason"]) == ("mine-8", 400, reason)


def test_no_byte_of_a_client_is_in_the_reason_of_a_refusal():
    """Every piece of a head and of a chunk that could be shown, with a mark in it."""
    mark = "s3cr3t"
    heads = [
        f"{mark} /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /v2 HTTP/{mark}\r\nHost: a\r\n\r\n",
        "GET /v2 HTTP/7.3\r\nHost: a\r\n\r\n",
        "GET /v2 HTTP/2.0\r\nHost: a\r\n\r\n",
        f"GET http:///{mark} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /{mark}{'x' * 5000} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"CONNECT {mark}:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /{mark} HTTP/1.1\r\nHost: {mark}/\r\n\r\n",
        f"GET /{mark} HTTP/1.1\r\nHost: a\r\n{mark} {mark}\r\n\r\n",
        f"GET /{mark} HTTP/1.1\r\nHost: a\r\n{mark}: {mark * 5000}\r\n\r\n",
        f"POST /{mark} HTTP/1.1\r\nHost: a\r\nContent-Length: {mark}\r\n\r\n",
        f"POST /{mark} HTTP/1.1\r\nHost: a\r\nExpect: {mark}\r\n\r\n",
        f"POST /{mark} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {mark}\r\n\r\n",
        f"POST /{mark} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{mark}\r\n",
        f"GET /{mark} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, {mark}\r\n\r\n",
    ]
    with serving(model()) as served:
        for head in heads:
            with Wire(served.port) as wire:
                assert wire.send(head.encode()).answer().status >= 400
    events = served.lines.events("request.refused")
    assert len(events) == len(heads)
    assert mark not in repr(events)
    assert not {"2.0", "7.3"} & set(" ".join(event["reason"] for event in events).replace(";", " ").split())


def test_no_mistake_of_a_client_is_an_error_in_the_log():
    with serving(model()) as served:
        for case in REFUSED:
            with Wire(served.port) as wire:
                wire.send(case.values[0]).answer()
    assert {event["level"] for event in served.lines.events()} == {"info"}


def test_answers_carry_a_date_and_their_exact_length(served: Served):
    (answer,) = ask(served.port, request("GET", "/v2", None))
    assert answer.headers["date"].endswith(" GMT")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert json.loads(answer.body)["name"] == "modelkit-runtime"


def test_a_1_0_client_is_not_sent_a_100(served: Served):
    with Wire(served.port) as wire:
        head = (
            b"POST " + INFER.encode() + b" HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        wire.send(head)
        assert ask(served.port, request())[0].status == 200  # the server has had time to see it
        assert wire.send(BODY).answer().status == 200


def test_who_waits_for_a_100_and_gets_an_error_may_send_its_body_or_not(served: Served):
    with Wire(served.port) as wire:
        answer = wire.send(
            b"POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        ).answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_a_body_over_the_limit_is_refused_whether_or_not_the_path_is_known():
    with serving(model(), limits=Limits(body_bytes=len(BODY))) as served:
        long = request(body=BODY + b" ")
        answers = ask(served.port, request(), request())
        assert [answer.status for answer in answers] == [200, 200]
        with Wire(served.port) as wire:
            assert wire.send(long).answer().status == 413


@pytest.mark.slow
def test_who_was_answered_before_its_body_came_gets_no_second_answer():
    with serving(model(), limits=QUICK) as served, Wire(served.port) as wire:
        assert wire.send(request("POST", "/nothing", b"x" * 50)[:-10]).answer().status == 404
        assert wire.closed()


@pytest.mark.slow
def test_an_empty_line_behind_a_body_is_no_request_that_could_be_late():
    limits = Limits(head_seconds=1, keep_alive_seconds=30)
    with serving(model(), limits=limits) as served, Wire(served.port) as wire:
        assert wire.send(request()).answer().status == 200
        wire.send(b"\r\n")
        assert not _ends(wire, 3.0)
        assert wire.send(request()).answer().status == 200


# clients that do not read, or send without end


def connection_of(served: Served) -> Connection:
    """The only one, once it is there."""
    server = served.server
    assert server is not None
    assert wait_until(lambda: len(server.connections) == 1)
    return next(iter(server.connections))


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.001)
    return condition()


@pytest.mark.slow
def test_answers_that_nobody_reads_do_not_pile_up():
    numbers = ",".join(["0.1234567890123456"] * 2000)
    body = b'{"inputs":[{"name":"x","shape":[2000],"datatype":"FP64","data":[%b]}]}' % numbers.encode()
    with serving(echo("FP64"), limits=Limits(inline_seconds=1.0)) as served, Wire(served.port) as wire:
        assert wire.send(request(body=body)).answer().status == 200
        connection = connection_of(served)
        for _ in range(400):
            before = connection.turns.answers
            wire.send(request(body=body))
            if not wait_until(lambda seen=before: connection.turns.answers > seen, 0.5):
                break
        assert connection.transport.get_write_buffer_size() < 1_000_000


def test_requests_pile_up_behind_a_slow_one_only_so_far():
    gate = threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    with serving(model(held), warm=False, limits=Limits(pipelined=50)) as served, Wire(served.port) as wire:
        wire.send(request() + request("GET", "/v2", None) * 1000)
        assert wait_until(lambda: len(connection_of(served).turns.waiting) == 50)
        gate.set()
        assert [wire.answer().status for _ in range(52)] == [200] * 51 + [400]


def test_while_requests_wait_no_more_are_read():
    turns = threading.Semaphore(0)

    def held(arrays: Any, wanted: Any) -> Any:
        assert turns.acquire(timeout=20)
        return iris_like(arrays, wanted)

    with serving(model(held), warm=False) as served, Wire(served.port) as wire:
        wire.send(request() * 3)
        assert wait_until(lambda: len(connection_of(served).turns.waiting) == 2)
        turns.release()
        assert wire.answer().status == 200
        assert wait_until(lambda: len(connection_of(served).turns.waiting) == 1)
        assert connection_of(served).flow.read_paused
        turns.release(2)
        assert [wire.answer().status for _ in range(2)] == [200, 200]
        turns.release(1)
        assert wire.send(request()).answer().status == 200


@pytest.fixture
def huge() -> Model:
    """Little in, 20 MB out."""
    return model(
        lambda arrays, wanted: {"y": np.full(1_000_000, 0.1234567890123456)}, outputs=(TensorSpec("y", "FP64", (-1,)),)
    )


@pytest.mark.slow
def test_who_never_reads_is_broken_off_whatever_else_it_sent(huge: Model):
    limits = Limits(unread_seconds=1, keep_alive_seconds=1)
    with serving(huge, limits=limits) as served, Wire(served.port) as wire:
        wire.send(request() + request("GET", "/v2", None))
        assert served.server is not None
        assert wait_until(lambda: connection_of(served).turns.answers > 0)
        assert wait_until(lambda: not served.server.connections, 20.0)


@pytest.mark.slow
def test_who_reads_slowly_gets_all_of_it(huge: Model):
    limits = Limits(unread_seconds=3, keep_alive_seconds=1)
    with serving(huge, limits=limits) as served:
        while True:
            slowest, length = read_slowly(served, limits.unread_seconds + 0.6)
            if slowest < limits.unread_seconds / 2:  # else the machine was busy: too slow a client, which is sent away
                break
        assert length > 18_000_000


def read_slowly(served: Served, seconds: float) -> tuple[float, int]:
    """Returns the longest pause of the client, its last reads together being one, and how long the body was, or 0."""
    moments, length = [time.monotonic()], 0
    with Wire(served.port) as wire, contextlib.suppress(EOFError, ConnectionResetError):
        wire.send(request())
        while moments[-1] - moments[0] < seconds:
            time.sleep(0.3)
            for _ in range(16):
                wire._more()
            moments.append(time.monotonic())
        length = len(wire.answer().body)
    moments.append(time.monotonic())
    return max(after - before for before, after in pairwise(moments)), length


@pytest.mark.slow
def test_a_refused_client_that_goes_on_dripping_does_not_stay():
    with serving(model(), limits=QUICK) as served, Wire(served.port) as wire:
        assert wire.send(b"BREW / HTTP/1.1\r\n\r\n").answer().status == 400
        assert served.server is not None
        ends = time.monotonic() + 20
        while served.server.connections and time.monotonic() < ends:
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                wire.send(b"x")
        assert not served.server.connections


SLOW = {
    "silent": b"",
    "in a head": request()[:30],
    "in a body": request(body=b" " * 100_000)[:-99_990],
    "in a second head": request() + request()[:30],
}


@pytest.mark.slow
@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_slow_connections_make_room_for_one_that_talks(sent: bytes):
    with serving(model(), limits=Limits(connections=3)) as served:
        slow = [Wire(served.port).send(sent) for _ in range(3)]
        assert wait_until(lambda: len(served.server.connections) == 3)  # type: ignore[union-attr]
        assert wait_until(lambda: _is_served(served.port))
        for wire in slow:
            wire.socket.close()


@pytest.mark.slow
def test_a_slow_body_that_makes_room_is_told():
    with serving(model(), limits=Limits(connections=1)) as served, Wire(served.port) as slow:
        slow.send(SLOW["in a body"])
        assert wait_until(lambda: _is_served(served.port))
        answer = slow.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "this body came slowly" in answer.error


def test_a_crowd_that_has_asked_nothing_makes_room_at_once_and_leaves_those_that_have():
    with serving(model(), limits=Limits(connections=32)) as served, Wire(served.port) as idle:
        assert idle.send(request()).answer().status == 200
        crowd = [Wire(served.port).send(b"P") for _ in range(40)]
        assert [ask(served.port, request())[0].status for _ in range(10)] == [200] * 10
        assert idle.send(request()).answer().status == 200
        for wire in crowd:
            wire.socket.close()


@pytest.mark.slow
def test_a_client_that_does_not_read_makes_room():
    with serving(echo("BYTES"), limits=Limits(connections=1), warm=False) as served, Wire(served.port) as deaf:
        text = "a" * 8_000_000
        tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [text]}
        deaf.send(request(body=json.dumps({"inputs": [tensor]}).encode()))
        connections = served.server.connections  # type: ignore[union-attr]
        assert wait_until(lambda: bool(connections))
        (its,) = connections

        def gone() -> bool:
            with contextlib.suppress(OSError, EOFError):
                ask(served.port, b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            return its not in connections

        assert wait_until(gone)


def _is_served(port: int) -> bool:
    time.sleep(0.05)
    with contextlib.suppress(OSError, EOFError):
        return ask(port, request())[0].status == 200
    return False


@pytest.mark.slow
def test_far_over_the_limit_of_connections_they_are_dropped_and_counted():
    with serving(model(), limits=Limits(connections=2)) as served:
        wires = [Wire(served.port) for _ in range(30)]
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.send(request()[:30])
        told = sum(_is_told(wire) for wire in wires[2:])  # the first two are served
        assert served.server is not None
        assert 0 < told <= 16
        assert len(served.server.connections) <= 18
        assert wait_until(lambda: not served.server._state.turned_away)  # type: ignore[union-attr]  # they are logged
        for wire in wires:
            wire.socket.close()
    assert sum(event["count"] for event in served.lines.events("connections.dropped")) == 28 - told


def _is_told(wire: Wire) -> bool:
    try:
        return wire.answer().status == 503
    except (OSError, EOFError):
        return False


def test_a_head_behind_a_slow_request_is_as_short_as_any_other():
    """It is not answered before its turn, but it is not collected without end either."""
    gate = threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    with serving(model(held), warm=False) as served, Wire(served.port) as wire:
        wire.send(request() + b"GET /v2 HTTP/1.1\r\nHost: a\r\nx: ")
        for _ in range(20):
            wire.send(b"y" * 10_000)
        assert wait_until(lambda: connection_of(served)._deaf)
        gate.set()
        assert [wire.answer().status for _ in range(2)] == [200, 431]


def test_a_body_that_nobody_reads_yet_is_as_short_as_any_other():
    """The connection's own refusal says what the application's says (row 51)."""
    gate = threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    limits = Limits(body_bytes=50_000)  # less than what is collected before a connection reads no further
    with serving(model(held), warm=False, limits=limits) as served, Wire(served.port) as wire:
        wire.send(request() + CHUNKED + b"c351\r\n" + b" " * 50_001 + b"\r\n")
        assert wait_until(lambda: connection_of(served)._deaf)
        gate.set()
        assert wire.answer().status == 200
        refusal = wire.answer()
        assert (refusal.status, refusal.error) == (413, TOO_LARGE.replace("100000", "50000"))


@pytest.mark.slow
def test_a_connection_that_has_ended_leaves_nothing_to_the_garbage_collector():
    with serving(model()) as served:
        gc.collect()
        gc.disable()
        try:
            with Wire(served.port) as wire:
                assert wire.send(request()).answer().status == 200
                assert wire.send(request() + request("GET", "/v2", None)).answer().status == 200
                assert wire.answer().status == 200
                left = weakref.ref(connection_of(served))
            assert wait_until(lambda: left() is None)
        finally:
            gc.enable()


@pytest.mark.slow
def test_a_client_that_breaks_off_takes_its_waiting_request_along():
    gate, calls = threading.Event(), []

    def held(arrays: Any, wanted: Any) -> Any:
        calls.append(1)
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    with serving(model(held, threadsafe=False), warm=False) as served, Wire(served.port) as stays:
        engine = served.model.engine
        stays.send(request())
        assert wait_until(lambda: len(calls) == 1)
        with Wire(served.port) as leaves, Wire(served.port) as large:
            leaves.send(request(headers={"X-Request-Id": "gone"}))
            large.send(request(body=BODY + b" " * 100_000))
            assert wait_until(lambda: engine.in_flight == 3)
            # one leaves with a reset, the other without
            large.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert wait_until(lambda: engine.in_flight == 1)
        gate.set()
        assert stays.answer().status == 200
        assert wait_until(lambda: engine.in_flight == 0)
        metrics = ask(served.port, request("GET", "/metrics", None))[0].body
    assert len(calls) == 1
    assert b'runtime_requests_in_flight{model="iris"} 0.0' in metrics
    assert len(served.lines.events("request.abandoned")) == 2
    assert {event["level"] for event in served.lines.events()} == {"info"}


def test_a_client_that_sends_no_more_is_asked_whether_it_is_there():
    gate, calls = threading.Event(), list[int]()

    def held(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        calls.append(1)
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    with (
        serving(model(held, threadsafe=False), warm=False) as served,
        Wire(served.port) as first,
        Wire(served.port) as second,
        Wire(served.port) as older,
    ):
        first.send(request())
        assert wait_until(lambda: len(calls) == 1)
        second.send(request(headers={"Connection": "close"}) + request())
        older.send(HEAD.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert wait_until(lambda: served.model.engine.in_flight == 3)
        for wire in (first, second, older):
            wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().status for wire in (first, second)] == [100, 100]
        gate.set()
        assert [wire.answer().status for wire in (first, second, older)] == [200, 200, 200]
        assert all(wire.closed() for wire in (first, second, older))
