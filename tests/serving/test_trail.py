"""What a request's headers leave in its log line and on its answer: id, trace, SageMaker's attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.link.limits import Limits
from tests.serving.support import BODY, INFER, Served, iris_like, model, serving
from tests.serving.wire import ask, request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def answers(headers: dict[str, str], body: bytes = BODY, **options: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """The answers to three requests, over ASGI, by the connection, and as a known head; and their log lines."""
    with serving(model(), **options) as served:
        sent = request(body=body, headers=headers)
        got = ask(served.port, sent, sent, sent)
    return got, [event for event in served.lines.events() if event["event"].startswith("request.")]


def test_a_request_without_such_headers_has_none_of_them():
    got, events = answers({})
    assert all({"x-request-id", "traceresponse"}.isdisjoint(answer.headers) for answer in got)
    assert all({"trace", "span", "custom_attributes"}.isdisjoint(event) for event in events)


@pytest.mark.parametrize("body", [BODY, b"{}"])
def test_the_clients_id_is_on_the_answer_and_in_the_log(body: bytes):
    got, events = answers({"X-Request-Id": "mine-7"}, body)
    assert [answer.headers["x-request-id"] for answer in got] == ["mine-7"] * 3
    assert [event["id"] for event in events] == ["mine-7"] * 3


def test_an_id_that_no_log_can_hold_is_replaced():
    got, events = answers({"X-Request-Id": "a b"})
    assert [answer.headers["x-request-id"] for answer in got] == [event["id"] for event in events]
    assert len({event["id"] for event in events} - {"a b"}) == 3


@pytest.mark.parametrize("body", [BODY, b"{}"])
@pytest.mark.parametrize(
    "parent", [PARENT, PARENT.replace("00-", "cc-", 1) + "-what comes later", f"00-{TRACE}-{SPAN}-00"]
)
def test_a_trace_goes_on(parent: str, body: bytes):
    got, events = answers({"traceparent": parent.replace(" ", "")}, body)
    assert [event["trace"] for event in events] == [TRACE] * 3
    spans = [event["span"] for event in events]
    assert len(set(spans) - {SPAN}) == 3
    assert [answer.headers["traceresponse"] for answer in got] == [
        f"00-{TRACE}-{span}-{parent[53:55]}" for span in spans
    ]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        PARENT + "-more",
        PARENT + "x",
        PARENT.upper(),
        PARENT.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_none(parent: str):
    got, events = answers({"traceparent": parent})
    assert [answer.status for answer in got] == [200] * 3
    assert not any("trace" in event for event in events)
    assert not any("traceresponse" in answer.headers for answer in got)


@pytest.mark.parametrize(
    ("given", "log_inputs", "logged"),
    [
        ("trace=7; user:a,b", False, "trace=7; user:a,b"),
        ("<secret>", False, "***"),
        ("a" * 257, False, "***"),
        ("<secret>", True, "<secret>"),
    ],
)
def test_what_sagemaker_passes_along_is_logged_as_an_id_is(given: str, log_inputs: bool, logged: str):
    headers = {"X-Amzn-SageMaker-Custom-Attributes": given}
    _, events = answers(headers, limits=Limits(log_inputs=log_inputs))
    assert [event["custom_attributes"] for event in events] == [logged] * 3


def test_a_request_that_ran_in_a_thread_says_both():
    def slow(arrays: Any, wanted: Any) -> Any:
        return iris_like(arrays, wanted)

    with serving(model(slow), limits=Limits(inline_seconds=0.0)) as served:
        ask(served.port, request(headers={"traceparent": PARENT}))
    (event,) = _answered(served)
    assert (event["trace"], event["computed"] > 0) == (TRACE, True)
    assert re.fullmatch("[0-9a-f]{16}", event["span"])


def _answered(served: Served) -> list[dict[str, Any]]:
    return served.lines.events("request.answered")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


MANY = {f"h{index}": "x" for index in range(200)}


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        pytest.param("GET", "/nothing", {}, 404, id="no such path"),
        pytest.param("GET", INFER, {}, 405, id="another method"),
        pytest.param("POST", "/v2/models/other/infer", {}, 404, id="no such model"),
        pytest.param("GET", "/v2/models/iris/versions/9", {}, 404, id="a page"),
        pytest.param("CONNECT", "/", {}, 405, id="the connection"),
        pytest.param("GET", "/", MANY, 431, id="the head"),
    ],
)
def test_refusals_that_are_no_call_carry_them_too(served: Served, method: str, path: str, more: Any, status: int):
    headers = {"X-Request-Id": "mine-7", "traceparent": PARENT}
    (answer,) = ask(served.port, request(method, path, None, headers | more))
    assert (answer.status, answer.headers["x-request-id"]) == (status, "mine-7")
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", answer.headers["traceresponse"])


def test_refusals_that_are_no_call_log_them_too():
    with serving(model()) as served:
        asked = request("GET", "/nothing", None, {"X-Request-Id": "mine-7", "traceparent": PARENT})
        answers = [*ask(served.port, asked), *ask(served.port, asked.replace(b"GET", b"CONNECT"))]
    for answer, event in zip(answers, served.lines.events("request.refused"), strict=True):
        assert (event["id"], event["trace"]) == ("mine-7", TRACE)
        assert answer.headers["traceresponse"] == f"00-{TRACE}-{event['span']}-01"


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v2/models/iris", "/", "/metrics", "/openapi.json", "/docs"])
def test_pages_name_the_request(path: str, served: Served):
    named, other = ask(served.port, request("GET", path, None, {"X-Request-Id": "mine-7"}), request("GET", path, None))
    assert (named.status, named.headers["x-request-id"], "x-request-id" in other.headers) == (200, "mine-7", False)
