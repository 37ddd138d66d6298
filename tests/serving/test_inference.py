"""Bytes in, bytes out, and what is logged and counted on the way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable
from typing import Any

import pytest

from adapters.base import TensorSpec
from runtime.link.limits import Limits
from runtime.serving.inference import infer
from runtime.serving.scrape import render
from runtime.serving.statuses import Response
from tests.serving.support import BODY, PROVENANCE, Served, app_of, echo, model

INLINE = Limits(inline_seconds=1)


def ask(served: Served, body: bytes = BODY, head: dict[bytes, bytes] | None = None) -> Response:
    async def exchange() -> Response:
        answer = infer(served.endpoint, head or {}, body)
        return await answer if isinstance(answer, Awaitable) else answer

    return asyncio.run(exchange())


def test_a_cheap_model_is_answered_without_awaiting_anything():
    answer = infer(app_of(model(), limits=INLINE).endpoint, {}, BODY)
    assert isinstance(answer, Response)
    assert answer.status == 200


def test_the_answer_has_exactly_the_members_of_the_protocol():
    answer = ask(app_of(model()), BODY[:-1] + b',"id":"mine"}')
    assert json.loads(answer.body) == {
        "model_name": "iris",
        "model_version": "v1",
        "id": "mine",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]},
            {
                "name": "scores",
                "datatype": "FP32",
                "shape": [1, 3],
                "data": [10.199999809265137, 5.099999904632568, 0.20000000298023224],
            },
        ],
    }


def test_outputs_come_in_the_order_asked():
    served = app_of(model())
    answer = ask(served, BODY[:-1] + b',"outputs":[{"name":"scores"},{"name":"label"}]}')
    assert [output["name"] for output in json.loads(answer.body)["outputs"]] == ["scores", "label"]
    default = app_of(model(default_outputs=("scores",)))
    assert [output["name"] for output in json.loads(ask(default).body)["outputs"]] == ["scores"]


@pytest.mark.parametrize(
    ("header", "same"),
    [(b"abc-123", True), (b"a" * 128, True), (b"", False), (b"a b", False), (b"a\x1b[0m", False), (b"a" * 129, False)],
)
def test_the_id_is_the_clients_request_id_where_a_log_can_hold_it(header: bytes, same: bool):
    answer = ask(app_of(model()), head={b"x-request-id": header})
    assert (json.loads(answer.body)["id"] == header.decode()) == same


def test_ids_that_we_make_differ():
    served = app_of(model())
    assert len({json.loads(ask(served).body)["id"] for _ in range(50)}) == 50


def test_an_answered_request_is_one_line():
    served = app_of(model())
    ask(served, BODY[:-1] + b',"id":"%b"}' % (b"x" * 200))
    (event,) = served.lines.events()
    assert event["event"] == "request.answered"
    assert (event["id"], event["model"], event["rows"], event["level"]) == ("x" * 64, "iris", 1, "info")
    assert event["milliseconds"] >= 0


@pytest.mark.parametrize("log_inputs", [False, True])
def test_an_empty_id_leaves_the_logs_own(log_inputs: bool):
    served = app_of(model(), limits=Limits(log_inputs=log_inputs))
    answer = ask(served, BODY[:-1] + b',"id":""}', {b"x-request-id": b"r1"})
    assert json.loads(answer.body)["id"] == ""
    assert [event["id"] for event in served.lines.events()] == ["r1"]


def test_a_refused_request_is_one_line_with_its_reason():
    served = app_of(model())
    assert ask(served, b"[]", {b"x-request-id": b"r1"}).status == 400
    (event,) = served.lines.events()
    assert event["event"] == "request.refused"
    assert (event["id"], event["status"], event["level"]) == ("r1", 400, "info")
    assert event["reason"] == "request must be a JSON object, got an array"


@pytest.mark.parametrize("log_inputs", [False, True])
@pytest.mark.parametrize("limits", [INLINE, Limits(inline_seconds=0)], ids=["loop", "thread"])
def test_row_66_a_client_learns_an_error_id_and_the_log_has_the_cause_under_it(limits: Limits, log_inputs: bool):
    def failing(arrays: Any, wanted: Any) -> Any:
        raise KeyError("/secret/path")

    served = app_of(model(failing), warm=False, limits=limits._replace(log_inputs=log_inputs))
    served.model.engine._costs.seed(63, 0.0)
    answer = ask(served)
    assert answer.status == 500
    text = json.loads(answer.body)["error"]
    assert "secret" not in text
    assert "KeyError" not in text
    (event,) = served.lines.events()
    assert text == f"inference failed (error id {event['error_id']})"
    assert event["level"] == "error"
    assert re.fullmatch(
        "KeyError: '/secret/path'" if log_inputs else rf"KeyError in failing \({__file__}:\d+\)", event["cause"]
    )
    assert "in failing" in event["trace"]


def test_row_65_a_deadline_is_504():
    import threading

    gate = threading.Event()

    def slow(arrays: Any, wanted: Any) -> Any:
        gate.wait(20)

    served = app_of(model(slow), warm=False, limits=Limits(deadline_seconds=0.05))
    answer = ask(served)
    gate.set()
    assert (answer.status, json.loads(answer.body)) == (504, {"error": "deadline exceeded: no answer within 0.05 s"})


@pytest.mark.parametrize(
    ("header", "own", "deadline"),
    [
        (b"20", 30.0, "0.02"),
        (b"20", 0.0, "0.02"),
        (b"60000", 0.02, "0.02"),
        (b"soon", 0.02, "0.02"),
        (b"", 0.02, "0.02"),
    ],
)
def test_a_gateways_patience_is_a_deadline_if_it_is_the_sooner_one(header: bytes, own: float, deadline: str):
    import threading

    gate = threading.Event()
    served = app_of(model(lambda a, w: gate.wait(20) and {}), warm=False, limits=Limits(deadline_seconds=own))
    answer = ask(served, head={b"x-envoy-expected-rq-timeout-ms": header})
    gate.set()
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"error": f"deadline exceeded: no answer within {deadline} s"},
    )


def test_an_output_that_is_not_what_the_signature_says_is_our_failure_not_a_wrong_answer():
    served = app_of(
        model(outputs=(TensorSpec("label", "INT32", (-1,)), TensorSpec("scores", "FP32", (-1, 3)))), warm=False
    )
    assert ask(served).status == 500
    (event,) = served.lines.events()
    assert event["reason"] == "the model returned output 'label' as int64, its signature says int32"


def test_bytes_that_are_not_text_are_refused_naming_the_output_and_what_to_do():
    import numpy as np

    served = app_of(
        model(lambda a, w: {"y": np.array([b"ok", b"\xff"], object)}, outputs=(TensorSpec("y", "BYTES", (-1,)),)),
        warm=False,
    )
    answer = ask(served)
    assert answer.status == 400
    said = "output 'y', element 1, is not UTF-8, which JSON needs; ask for this output as binary data"
    assert json.loads(answer.body) == {"error": said}


def test_something_else_than_bytes_in_an_output_of_bytes_is_the_models_failure():
    import numpy as np

    served = app_of(
        model(lambda a, w: {"y": np.array([1, 2], object)}, outputs=(TensorSpec("y", "BYTES", (-1,)),)), warm=False
    )
    assert ask(served).status == 500
    (event,) = served.lines.events()
    assert event["reason"] == "the model returned something else than bytes in its output 'y'"


def test_a_client_that_leaves_is_one_line_and_no_outcome():
    import threading

    gate, running = threading.Event(), threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        running.set()
        assert gate.wait(20)
        return {}

    served = app_of(model(held), warm=False)

    async def leave() -> None:
        answer = infer(served.endpoint, {b"x-request-id": b"left"}, BODY)
        assert isinstance(answer, Awaitable)
        task = asyncio.ensure_future(answer)
        await asyncio.to_thread(running.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()
        while served.model.engine.in_flight:  # noqa: ASYNC110 - until the loop hears that the thread is done
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    text = render(served.slots, [PROVENANCE], ["v2_json"]).decode()
    assert 'runtime_requests_in_flight{model="iris"} 0.0' in text
    assert 'outcome="ok",protocol="v2_json"} 0.0' in text
    (event,) = served.lines.events()
    assert (event["event"], event["id"], event["protocol"]) == ("request.abandoned", "left", "v2_json")


def test_a_request_in_a_thread_says_what_it_waited_and_computed():
    served = app_of(model(), warm=False)
    ask(served)
    (event,) = served.lines.events()
    assert 0 < event["queued"] <= event["milliseconds"]
    assert 0 < event["computed"] <= event["milliseconds"]


def test_the_access_line_says_what_became_of_a_request():
    served = app_of(model())
    answers = ask(served), ask(served, b"{}")
    answered, refused = served.lines.events()
    assert answered.keys() == {"time", "level", "event", "id", "model", "protocol", "status", "rows", "bytes",
                               "milliseconds", "queued", "computed"}  # fmt: skip
    assert (answered["status"], answered["bytes"], answered["queued"]) == (200, len(answers[0].body), 0)
    assert 0 < answered["computed"] <= answered["milliseconds"]
    assert (refused["status"], refused["error"], refused["bytes"]) == (400, "invalid_input", len(answers[1].body))


def test_a_large_body_is_parsed_off_the_loop_and_answered_alike():
    served = app_of(echo("FP32"), limits=Limits(inline_body_bytes=1000, inline_seconds=1))
    values = [float(n) for n in range(2000)]
    body = json.dumps({"inputs": [{"name": "x", "shape": [2000], "datatype": "FP32", "data": values}]}).encode()
    assert isinstance(infer(served.endpoint, {}, b"{}"), Response)
    assert json.loads(ask(served, body).body)["outputs"][0]["data"] == values
    assert ask(served, body[:-1]).status == 400


def test_every_request_is_counted_once_by_outcome_with_its_rows_and_bytes():
    served = app_of(model())
    ok, bad = ask(served), ask(served, b"{}")
    text = served.scrape()
    for line in (
        'runtime_request_duration_seconds_count{model="iris",outcome="ok",protocol="v2_json"} 1.0',
        'runtime_request_duration_seconds_count{model="iris",outcome="invalid",protocol="v2_json"} 1.0',
        'runtime_rows_total{model="iris"} 1.0',
        'runtime_request_stage_seconds_count{model="iris",stage="queue"} 1.0',
        'runtime_request_stage_seconds_count{model="iris",stage="encode"} 1.0',
        'runtime_batch_rows_bucket{le="1.0",model="iris"} 1.0',
        'runtime_errors_total{reason="invalid_input",status="400"} 1.0',
        'runtime_requests_in_flight{model="iris"} 0.0',
        f'runtime_request_bytes_total{{model="iris",protocol="v2_json"}} {float(len(BODY) + 2)}',
        f'runtime_response_bytes_total{{model="iris",protocol="v2_json"}} {float(len(ok.body) + len(bad.body))}',
    ):
        assert line in text
