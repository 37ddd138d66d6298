"""What Triton's extensions ask beside predictions: index, configuration, statistics, settings; on real servers."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.base import TensorSpec
from runtime.link.limits import Limits
from runtime.serving.engine.batches import Shape, Verdict
from tests.serving.support import BODY, DIGEST, INFER, Served, StaticHealth, iris_like, model, serving
from tests.serving.wire import Answer, Wire, ask, request

INDEX = "/v2/repository/index"
TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


def get(served: Served, path: str) -> Answer:
    return ask(served.port, request("GET", path, None))[0]


def post(served: Served, path: str, body: bytes = b"", **headers: str) -> Answer:
    return ask(served.port, request("POST", path, body, headers))[0]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":true}', b'{"ready":false}', b" \n"])
def test_the_index_has_the_model(served: Served, body: bytes):
    ready = {"name": "iris", "version": "v1", "state": "READY", "reason": ""}
    assert post(served, INDEX, body).json == [ready]
    assert post(served, INDEX, gzip.compress(body), **{"Content-Encoding": "gzip"}).json == [ready]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"[]", 400, "request must be a JSON object, got an array"),
        (b"{", 400, "request body is not valid JSON"),
        (b'{"ready":1}', 400, "ready must be true or false"),
        (b"[" * 100, 400, "request body has nesting deeper than 16"),
        (b" " * 65_537, 413, "body too large: more than 65536 bytes"),
    ],
)
def test_an_index_request_that_is_none_is_told_so(served: Served, body: bytes, status: int, said: str):
    answer = post(served, INDEX, body)
    assert answer.status == status
    assert answer.error.startswith(said)


def test_a_body_in_an_unknown_coding_is_refused_and_the_index_is_no_get(served: Served):
    assert post(served, INDEX, b"{}", **{"Content-Encoding": "br"}).status == 415
    answer = get(served, INDEX)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("reason", "state"),
    [("pulling", "LOADING"), ("loading", "LOADING"), ("draining", "UNLOADING"), ("failed", "UNAVAILABLE")],
)
def test_the_index_says_what_a_model_is_waiting_for(reason: str, state: str):
    with serving(health=StaticHealth(ready=False, reason=reason)) as served:
        assert post(served, INDEX).json == [{"name": "iris", "state": state, "reason": reason}]
        assert post(served, INDEX, b'{"ready":true}').json == []
        assert get(served, "/v2/models/stats").json == {"model_stats": []}
        assert get(served, "/v2/models/iris/stats").status == 503


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_loading_and_unloading_are_refused_in_one_line_without_reading_what(served: Served, verb: str):
    body = b'{"parameters":{"file:1/model.onnx":"' + b"A" * 100_000 + b'"}}'
    answer = post(served, f"/v2/repository/models/iris/{verb}", body)
    assert answer.status == 501
    assert answer.error.startswith("this server serves one model and neither loads nor unloads any")


def test_a_client_that_leaves_in_the_middle_of_a_body_costs_nothing(served: Served):
    with Wire(served.port) as wire:
        wire.send(request(path=INDEX, body=b"{" * 10)[:-5])
    assert post(served, INDEX).status == 200


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/v1", f"/versions/{DIGEST}"])
def test_the_configuration_is_what_tritons_tools_read(served: Served, version: str):
    answer = get(served, f"/v2/models/iris{version}/config")
    assert answer.headers["modelkit-digest"] == DIGEST
    assert answer.json == {
        "name": "iris",
        "platform": "test_numpy",
        "backend": "onnx",
        "max_batch_size": 0,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1, 4]}],
        "output": [
            {"name": "label", "data_type": "TYPE_INT64", "dims": [-1]},
            {"name": "scores", "data_type": "TYPE_FP32", "dims": [-1, 3]},
        ],
    }


def test_a_model_that_batches_is_configured_without_the_batch_axis():
    specs = (TensorSpec("X", "FP32", (-1, 4)), TensorSpec("text", "BYTES", (-1,), optional=True))
    with serving(model(inputs=specs, batch=True)) as served:
        config = get(served, "/v2/models/iris/config").json
    assert config["max_batch_size"] == 2**31 - 1
    assert config["input"][0]["dims"] == [4]
    assert config["input"][1] == {"name": "text", "data_type": "TYPE_STRING", "dims": [], "optional": True}
    assert [output["dims"] for output in config["output"]] == [[], [3]]


def test_a_model_whose_requests_are_joined_says_how_many_rows_a_batch_has():
    shape = Shape(frozenset({"X"}), frozenset({"label", "scores"}), None)
    with serving(model(batch=True)) as served:
        served.model.engine.batches.allow(Verdict((shape,), 32, delay_seconds=0.002))
        config = get(served, "/v2/models/iris/config").json
        served.model.engine.batches.shapes = ()  # it turned out to be wrong
        later = get(served, "/v2/models/iris/config").json
    assert config["max_batch_size"] == 32
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 2000}
    assert (later["max_batch_size"], "dynamic_batching" in later) == (2**31 - 1, False)


@pytest.mark.parametrize("path", ["config", "stats", "trace/setting"])
def test_pages_of_an_unknown_model_or_version_are_404(served: Served, path: str):
    assert get(served, f"/v2/models/other/{path}").error == "unknown model 'other'; this server has 'iris'"
    if path != "trace/setting":
        assert get(served, f"/v2/models/iris/versions/2/{path}").status == 404


def slow(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    time.sleep(0.02)
    if (arrays["X"] < 0).any():
        raise ValueError
    return iris_like(arrays, wanted)


def test_statistics_count_what_was_asked_and_what_it_took():
    # a model that is never cheap runs in a thread, a second request waits for the first
    with serving(model(slow, threadsafe=False), limits=Limits(inline_seconds=0.0)) as served:
        assert get(served, "/v2/models/stats").json["model_stats"][0]["inference_stats"]["success"]["count"] == 0
        before = time.time()
        two = BODY.replace(b"[1,4]", b"[2,4]").replace(b"5.1,", b"1,2,3,4,5.1,")
        with Wire(served.port) as first, Wire(served.port) as second:
            first.send(request())
            second.send(request(body=two))
            assert (first.answer().status, second.answer().status) == (200, 200)
        longest = (time.time() - before) * 1_000_000_000
        assert post(served, INFER, b"{}").status == 400
        assert post(served, INFER, BODY.replace(b"5.1", b"-5.1")).status == 500
        answers = [get(served, f"/v2/models/{path}").json for path in ("stats", "iris/stats", "iris/versions/1/stats")]
    assert answers[0] == answers[1] == answers[2]
    (stats,) = answers[0]["model_stats"]
    assert (stats["name"], stats["version"]) == ("iris", "v1")
    assert (stats["inference_count"], stats["execution_count"]) == (3, 2)
    assert before * 1000 - 1 <= stats["last_inference"] <= time.time() * 1000
    parts = stats["inference_stats"]
    assert {name: part["count"] for name, part in parts.items()} == {
        "success": 2, "fail": 2, "queue": 2, "compute_input": 2, "compute_infer": 2, "compute_output": 2,
        "cache_hit": 0, "cache_miss": 0,
    }  # fmt: skip
    took = {name: part["ns"] for name, part in parts.items()}
    assert took["queue"] > 10_000_000
    assert took["compute_infer"] >= 40_000_000
    assert took["compute_output"] > 0
    stages = sum(took[name] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert stages < took["success"] < 2 * longest  # the way back from the thread, which takes long on a busy machine
    assert took["fail"] > 20_000_000
    assert [(part["batch_size"], part["compute_infer"]["count"]) for part in stats["batch_stats"]] == [(1, 1), (2, 1)]
    assert abs(sum(part["compute_infer"]["ns"] for part in stats["batch_stats"]) - took["compute_infer"]) <= 3
    assert (stats["memory_usage"], stats["response_stats"]) == ([], {})


def test_settings_of_the_log_can_be_read_and_not_changed(served: Served):
    path = "/v2/logging"
    settings = get(served, path).json
    assert settings == {
        "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 1,
        "log_format": "ISO8601",
    }  # fmt: skip
    for body in (b"", b"{}", b'{"log_info":true}', json.dumps(settings).encode()):
        assert post(served, path, body).json == settings
    refused = post(served, path, b'{"log_verbose_level":2}')
    assert refused.status == 400
    assert refused.error.startswith("setting 'log_verbose_level' is read only; restart the server with another")
    assert post(served, path, b'{"log_level":1}').error == "unknown setting 'log_level'"


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/iris/trace/setting"])
def test_settings_of_traces_can_be_read_and_not_changed(served: Served, path: str):
    assert get(served, path).json == TRACE
    assert post(served, path, b'{"trace_level":["OFF"]}').json == TRACE
    refused = post(served, path, b'{"trace_level":["TIMESTAMPS"]}')
    assert (refused.status, refused.error) == (
        400,
        "setting 'trace_level' is read only; traces go where OTEL_EXPORTER_OTLP_ENDPOINT says",
    )
    wrong = ask(served.port, request("PUT", path, b""))[0]
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
