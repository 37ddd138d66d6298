"""gzip and deflate in requests and in answers, on real servers: what a client gets, and what one may not do."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator

import pytest

from runtime.link.limits import Limits
from tests.serving.support import BODY, INFER, Served, echo, model, serving
from tests.serving.wire import Answer, ask, request


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model(), limits=Limits(body_bytes=3_000_000)) as running:
        yield running


def coded(coding: str, body: bytes, path: str = INFER) -> bytes:
    return request(path=path, body=body, headers={"Content-Encoding": coding})


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        (" GZIP ", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(b"") + gzip.compress(body[9:])),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_a_packed_request_is_answered_as_an_unpacked_one(served: Served, coding: str, pack: Callable[[bytes], bytes]):
    plain, *answers = ask(served.port, request(), coded(coding, pack(BODY)), coded(coding, pack(BODY)), request())
    for answer in answers:
        assert (answer.status, answer.json["outputs"]) == (200, plain.json["outputs"])


def long_body(count: int) -> bytes:
    return b'{"inputs":[{"name":"X","shape":[%d,4],"datatype":"FP32","data":[%s]}]}' % (
        count,
        b",".join([b"1.25,2,3,4"] * count),
    )


BODIES = [
    pytest.param("gzip", BODY, 400, "body is not gzip, as Content-Encoding says", id="not packed"),
    pytest.param("deflate", BODY, 400, "body is not deflate, as Content-Encoding says", id="neither deflate"),
    pytest.param("gzip", gzip.compress(BODY)[:-1], 400, "body is cut off: Content-Encoding promises more", id="cut off"),
    pytest.param("deflate", raw_deflate(BODY)[:-3], 400, "body is cut off: Content-Encoding promises more", id="raw, cut off"),
    pytest.param("gzip", gzip.compress(BODY) + b"x", 400, "body is followed by other bytes", id="trailing junk"),
    pytest.param("deflate", zlib.compress(BODY) * 2, 400, "body is followed by other bytes", id="two of deflate"),
    pytest.param("gzip", gzip.compress(BODY) * 2, 400, "request body is not valid JSON", id="two requests"),
    pytest.param("gzip", (gzip.compress(BODY) * 2)[:-9], 400, "body is cut off", id="the second cut off"),
    pytest.param("gzip", gzip.compress(BODY) + gzip.compress(BODY)[:-8] + bytes(8), 400, "body is not gzip, as", id="the second broken"),
    pytest.param("gzip", gzip.compress(b"") * 4097, 400, "body has more than 4096 gzip members", id="members"),
    pytest.param("gzip", gzip.compress(b" " * 100_000) * 11, 413, "inflated body too large: more than 100 times its ", id="bomb of members"),
    pytest.param("gzip", gzip.compress(BODY)[:-8] + bytes(8), 400, "body is not gzip", id="wrong checksum"),
    pytest.param("gzip", b"", 400, "body is cut off", id="empty"),
    pytest.param("gzip", gzip.compress(b"{}"), 400, "inputs must be a non-empty array", id="packed nonsense"),
    pytest.param("gzip, deflate", BODY, 415, "unsupported content encoding 'gzip, deflate'", id="twice"),
    pytest.param("br", BODY, 415, "unsupported content encoding 'br'; send gzip, deflate, or", id="br"),
    pytest.param(
        "gzip", gzip.compress(random.Random(1).randbytes(1_500_001).hex().encode(), 1), 413,
        "inflated body too large: more than 3000000 bytes, the limit of --max-body-bytes", id="longer than the limit",
    ),
    pytest.param(
        "gzip", gzip.compress(b" " * 2_000_000), 413, "inflated body too large: more than 100 times its ", id="bomb"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("coding", "body", "status", "said"), BODIES)
def test_what_is_wrong_with_a_packed_body_is_said(served: Served, coding: str, body: bytes, status: int, said: str):
    answer, after = ask(served.port, coded(coding, body), request())
    assert answer.status == status, answer.body
    assert answer.error.startswith(said)
    assert after.status == 200
    assert ("accept-encoding" in answer.headers) == (status == 415)
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_a_body_of_zeros_passes_though_it_shrinks_by_more_than_a_hundred():
    count = 100_000
    body = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"INT8","data":[%s]}]}' % (count, b",".join([b"0"] * count))
    packed = gzip.compress(body)
    assert len(body) > 100 * len(packed)
    with serving(echo("INT8")) as served:
        (answer,) = ask(served.port, coded("gzip", packed))
    assert answer.json["outputs"][0]["shape"] == [count]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "deflate"),
        ("br, GZIP;q=0.5, deflate; q=0.4", "gzip"),
        ("gzip;q=0.1,deflate;q=0.2", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("br, zstd, *", None),
        ("", None),
        (None, None),
    ],
)
def test_a_long_answer_is_packed_as_its_client_wants(served: Served, accepted: str | None, coding: str | None):
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    plain, answer = ask(served.port, request(body=long_body(400)), request(body=long_body(400), headers=headers))
    assert answer.headers.get("content-encoding") == coding
    assert plain.headers["vary"] == answer.headers["vary"] == "accept-encoding"
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding]
    assert json.loads(unpack(answer.body))["outputs"] == plain.json["outputs"]
    if coding:
        assert len(answer.body) < len(plain.body) / 4
        assert answer.headers["modelkit-digest"] == plain.headers["modelkit-digest"]


@pytest.mark.parametrize(
    "data",
    [
        lambda headers: request(headers=headers),
        lambda headers: request("GET", "/v2/models/iris", None, headers),
        lambda headers: request("GET", "/metrics", None, headers),
        lambda headers: request("GET", "/v2/health/ready", None, headers),
        lambda headers: request(body=b"{}", headers=headers),
        lambda headers: request("GET", "/nothing", None, headers),
    ],
)
def test_what_is_short_or_no_prediction_is_never_packed(served: Served, data: Callable[[dict[str, str]], bytes]):
    answer: Answer
    (answer,) = ask(served.port, data({"Accept-Encoding": "gzip"}))
    assert "content-encoding" not in answer.headers
