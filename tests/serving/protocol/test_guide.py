"""The protocol of docs/writing-a-protocol.md, exactly as it stands there, on a real server beside the others."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.serving.codec_table import CODECS
from runtime.serving.protocol.codec import Codec
from tests.places import ROOT
from tests.serving.support import BODY, DIGEST, Served, iris_like, model, serving
from tests.serving.wire import ask, request

GUIDE = ROOT / "docs" / "writing-a-protocol.md"


def failing(arrays, wanted):
    if (arrays["X"] == 666).any():
        raise ValueError("the number of the beast")
    return iris_like(arrays, wanted)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 60
    file: Path = tmp_path_factory.mktemp("guide") / "lines.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location("lines", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LINES  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served(lines: Codec) -> Iterator[Served]:
    with serving(model(failing), codecs=(*CODECS, lines)) as running:
        yield running


def post(body: bytes, **headers: str) -> bytes:
    return request(path="/lines/iris", body=body, headers={"Content-Type": "text/csv", **headers})


def test_it_answers_with_the_headers_of_the_model(served: Served):
    for answer in ask(served.port, post(b"5.1,3.5,1.4,0.2\n1,2,3,4\n"), post(b"5.1,3.5,1.4,0.2\n1,2,3,4\n")):
        assert answer.status == 200
        header, *rows = answer.body.decode().splitlines()
        assert header == "label,scores"
        assert [row.split(",")[0] for row in rows] == ["0", "0"]
        assert rows[1] == "0,10.0,4.0,1.0"
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert (answer.headers["x-rows"], answer.headers["modelkit-digest"]) == ("2", DIGEST)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (post(b"1,2,three,4\n"), 400, "every cell must be a number"),
        (post(b"1,2\n"), 400, "input 'X': expected shape [-1, 4] (-1: any), got [1, 2]"),
        (post(b"666,2,3,4\n"), 500, "inference failed (error id "),
        (post(b"1,2,3,4", **{"Content-Encoding": "gzip"}), 400, "body is not gzip, as Content-Encoding says"),
        (post(b"1,2,3,4", **{"Content-Encoding": "br"}), 415, "unsupported content encoding 'br'"),
        (post(b"1" * 1_000_001), 413, "body too large: more than 1000000 bytes, the limit of this protocol"),
        (request(path="/lines/other", body=b"1"), 404, "unknown model 'other'; this server has 'iris'"),
        (request("GET", "/lines/other/columns", None), 404, "unknown model 'other'; this server has 'iris'"),
    ],
)
def test_it_refuses_in_its_own_words(served: Served, data: bytes, status: int, said: str):
    (answer,) = ask(served.port, data)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert answer.body.decode().startswith(said)


def test_its_pages_are_there_and_its_path_answers_post_only(served: Served):
    page, wrong = ask(served.port, request("GET", "/lines/iris/columns", None), request("GET", "/lines/iris", None))
    assert (page.status, page.body, page.headers["modelkit-digest"]) == (200, b"label,scores\r\n", DIGEST)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_it_has_an_account_and_log_lines_of_its_own(lines: Codec):
    with serving(model(failing), codecs=(*CODECS, lines)) as served:
        assert [answer.status for answer in ask(served.port, post(b"1,2,3,4\n"), post(b"x\n"), request())] == [
            200,
            400,
            200,
        ]
        (metrics,) = ask(served.port, request("GET", "/metrics", None))
    counted = dict(re.findall(r'request_duration_seconds_count\{model="iris",(.*)\} ([1-9]\S*)', metrics.body.decode()))
    assert counted == {
        'outcome="ok",protocol="v2_json"': "1.0",
        'outcome="ok",protocol="lines"': "1.0",
        'outcome="invalid",protocol="lines"': "1.0",
    }
    said = [
        (event["event"], event["protocol"]) for event in served.lines.events() if event["event"].startswith("request")
    ]
    assert said == [("request.answered", "lines"), ("request.refused", "lines"), ("request.answered", "v2_json")]


def test_its_own_limit_of_bodies_holds_for_the_shortest_too(lines: Codec):
    with serving(model(), codecs=(lines._replace(longest_body=7),), warm=False) as served:
        path = "/lines/iris"
        for _ in range(2):  # over ASGI, then by the connection itself
            long, short = ask(served.port, request(path=path, body=b"1,2,3,40"), request(path=path, body=b"1,2,3,4"))
            assert (long.status, long.body) == (413, b"body too large: more than 7 bytes, the limit of this protocol\n")
            assert short.status == 200


def test_two_protocols_share_a_path_by_their_media_types(lines: Codec):
    shared = lines._replace(paths=CODECS[0].paths)
    with serving(model(), codecs=(*CODECS, shared)) as served:
        path = "/v2/models/iris/infer"
        csv, parameters, json_, other = ask(
            served.port,
            request(path=path, body=b"1,2,3,4\n", headers={"Content-Type": "text/csv"}),
            request(path=path, body=b"1,2,3,4\n", headers={"Content-Type": "Text/CSV; charset=utf-8"}),
            request(path=path, body=BODY),
            request(path=path, body=BODY, headers={"Content-Type": "audio/wav"}),
        )
    assert csv.body == parameters.body == b"label,scores\r\n0,10.0,4.0,1.0\r\n"
    assert json.loads(json_.body)["outputs"][0]["data"] == [0]
    assert (other.status, other.error) == (415, "unsupported content type 'audio/wav'; send application/json")


def test_there_is_a_most_of_protocols(lines: Codec):
    with pytest.raises(ValueError, match="9 protocols; metrics have room for 8"), serving(codecs=(lines,) * 9):
        pass
