"""Inputs never reach a log: a secret in every place where a client can put one, and the whole log searched for it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec, WrongInput
from runtime.library_events import listen
from runtime.link.limits import Limits
from tests.serving.support import BODY, INFER, app_of, model, serving
from tests.serving.wire import Wire, request

SECRET = "sesame"
NUMBER = "470011"
INPUTS = (TensorSpec("x", "FP32", (-1,)), TensorSpec("text", "BYTES", (-1,), optional=True))


def raising(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Fails as real models do: with the value in the text, from a cause that has it too."""
    text = arrays.get("text", np.array([b""], object))[0].decode()
    if "wrong" in text:
        raise WrongInput(f"input 'text': unknown category {text!r}")
    if "raise" in text:
        try:
            {}[text]
        except KeyError as error:
            raise ValueError(f"Found unknown categories [{text!r}]") from error
    return {"y": arrays["x"]}


def picky(**changes: Any) -> Any:
    return model(raising, inputs=INPUTS, outputs=(TensorSpec("y", "FP32", (-1,)),), labels=None, **changes)


def x(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0], **changes}


def text(value: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": [value], **changes}


def body(*inputs: Any, **members: Any) -> bytes:
    return request(body=json.dumps({"inputs": list(inputs), **members}).encode())


REQUESTS = {
    "answered": (200, body(x(data=[int(NUMBER)]), text(SECRET), extra=SECRET, parameters={SECRET: SECRET})),
    "value": (400, body(x(data=[SECRET]))),
    "value of another type": (400, body(x(), text(int(NUMBER)))),
    "value out of range": (400, body(x(data=[int(NUMBER) * 10**40]))),
    "not UTF-8 as the model sees it": (400, body(x(), text(f"wrong {SECRET}"))),
    "the model raises": (500, body(x(), text(f"raise {SECRET}"))),
    "name": (400, body(x(), text("", name=SECRET))),
    "name without the rest": (400, body(x(), {"name": SECRET})),
    "name of an output": (400, body(x(), outputs=[{"name": SECRET}])),
    "datatype": (400, body(x(datatype=SECRET))),
    "shape": (400, body(x(shape=[int(NUMBER), 2, 3]))),
    "shape that is a text": (400, body(x(shape=[SECRET]))),
    "shape of another count": (400, body(x(shape=[int(NUMBER)]))),
    "nesting": (400, body(x(shape=[1], data=[[int(NUMBER), 2]]))),
    "parameter": (200, body(x(), parameters={SECRET: [SECRET]})),
    "parameter that is a region": (400, body(x(parameters={f"shared_memory_{SECRET}": 1}))),
    "id of another type": (400, body(x(), id=[SECRET])),
    "id too long": (400, body(x(), id=SECRET * 1000)),
    "id that is no id": (200, body(x(), id=f"open {SECRET}!")),
    "key twice": (400, request(body=BODY[:-1] + f',"{SECRET}":1,"{SECRET}":2}}'.encode())),
    "not JSON": (400, request(body=b"{" + SECRET.encode())),
    "not JSON inside": (400, request(body=BODY[:-1] + f',"a":{SECRET}}}'.encode())),
    "content type": (415, request(headers={"Content-Type": f"text/csv{SECRET}"})),
    "charset": (415, request(headers={"Content-Type": f"application/json; charset={SECRET}"})),
    "content encoding": (415, request(headers={"Content-Encoding": SECRET})),
    "request id": (400, request(body=b"{}", headers={"X-Request-Id": f"open {SECRET}"})),
    "other headers": (400, request(body=b"{}", headers={"Authorization": SECRET, "Cookie": SECRET, SECRET: SECRET})),
    "model": (404, request(path=f"/v2/models/{SECRET}/infer")),
    "version": (404, request(path=f"/v2/models/iris/versions/{SECRET}/infer")),
    "page of a model": (404, request("GET", f"/v2/models/{SECRET}", None)),
    "path": (404, request("GET", f"/{SECRET}", None)),
    "query": (404, request("GET", f"/nothing?{SECRET}={SECRET}", None)),
    "path and method": (405, request("PUT", f"/v2?{SECRET}", None)),
    "method": (400, request(SECRET.upper(), INFER, None)),
    "target": (400, request("GET", SECRET, None)),
    "host": (400, f"GET / HTTP/1.1\r\nHost: {SECRET} {SECRET}\r\n\r\n".encode()),
    "version of HTTP": (400, f"GET / {SECRET}\r\n\r\n".encode()),
    "length": (400, f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {SECRET}\r\n\r\n".encode()),
    "transfer coding": (501, f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {SECRET}\r\n\r\n".encode()),
    "expectation": (417, f"POST {INFER} HTTP/1.1\r\nHost: a\r\nExpect: {SECRET}\r\n\r\n".encode()),
}


def log_of(sent: bytes, limits: Limits, wanted: int) -> tuple[list[dict[str, Any]], bytes]:
    """The log of a server that answers `sent`, to a known and to an unknown path, and the last answer."""
    with serving(picky(), limits=limits, warm=False) as served:
        for before in ([], [body(x())]):
            with Wire(served.port) as wire:
                for good in before:
                    assert wire.send(good).answer().status == 200
                answer = wire.send(sent).answer()
                assert answer.status == wanted
    return served.lines.events(), answer.body


@pytest.mark.slow
@pytest.mark.parametrize("place", REQUESTS)
def test_a_secret_of_a_client_is_nowhere_in_the_log(place: str):
    status, sent = REQUESTS[place]
    events, _ = log_of(sent, Limits(), status)
    seen = [event for event in events if event["event"] in ("request.refused", "request.answered")]
    assert seen
    for event in events:
        line = json.dumps(event).lower()
        assert SECRET not in line
        assert NUMBER not in line


@pytest.mark.parametrize("place", ["value", "name", "shape", "path", "content type", "the model raises", "model"])
def test_an_operator_may_ask_for_inputs(place: str):
    status, sent = REQUESTS[place]
    events, _ = log_of(sent, Limits(log_inputs=True), status)
    assert any(SECRET in json.dumps(event) or NUMBER in json.dumps(event) for event in events)


def test_the_client_reads_what_the_log_leaves_out():
    _, answer = log_of(REQUESTS["value"][1], Limits(), 400)
    assert json.loads(answer)["error"].startswith(
        "input 'x', element 0: FP32 wants a number or null, got 'sesame' (wrong element type)"
    )


def test_the_log_keeps_what_is_the_models_own_and_where_its_code_failed():
    (*_, refused), _ = log_of(REQUESTS["name"][1], Limits(), 400)
    assert refused["reason"] == "unknown input ***; expected 'x', 'text'"
    (*_, wrong), _ = log_of(REQUESTS["not UTF-8 as the model sees it"][1], Limits(), 400)
    assert wrong["cause"].startswith(f"WrongInput in raising ({__file__}:")
    (*_, raised), _ = log_of(REQUESTS["the model raises"][1], Limits(), 500)
    assert raised["cause"].startswith(f"ValueError in raising ({__file__}:")
    assert "KeyError\n" in raised["trace"]
    assert 'in raising\n    raise ValueError(f"Found unknown categories [{text!r}]") from error' in raised["trace"]


def test_an_id_that_looks_like_one_is_what_finds_a_request_again():
    events, _ = log_of(body(x(), id="order-17"), Limits(), 200)
    assert [event["id"] for event in events][-1] == "order-17"


@pytest.mark.parametrize("log_inputs", [False, True])
def test_what_libraries_say_of_inputs_stays_out_too(log_inputs: bool):
    served = app_of(model(), limits=Limits(log_inputs=log_inputs))
    before = warnings.showwarning
    try:
        listen(served.lines.log)
        served.lines.log.private = not log_inputs
        warnings.showwarning(f"unknown categories {SECRET}", UserWarning, "encoder.py", 7)  # type: ignore[arg-type]
    finally:
        warnings.showwarning = before
    (event,) = served.lines.events("library.warned")
    assert (SECRET in json.dumps(event)) is log_inputs
    assert event["category"] == "UserWarning"
