"""What Triton's tools ask over gRPC beside predictions: it is what HTTP answers at the same resource."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from runtime.serving.protocol.grpc.messages import METHODS
from tests.serving.grpc.client import ROWS, Client, infer_request, serving
from tests.serving.support import StaticHealth, model


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(model()) as (_, client):
        yield client


def ask(client: Client, method: str, **fields: Any) -> Any:
    return client.call(method, METHODS[method][0](**fields))


def refusal(client: Client, method: str, **fields: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask(client, method, **fields)
    return caught.value.code().name, caught.value.details()


def test_a_message_that_is_no_inference_is_short_as_over_http(client: Client) -> None:
    settings = {f"setting{number}": {"bool_param": True} for number in range(5_000)}
    code, said = refusal(client, "LogSettings", settings=settings)
    assert (code, said) == ("RESOURCE_EXHAUSTED", "message too large: more than 65536 bytes, the limit of this method")


@pytest.mark.parametrize("version", ["", "1", "v1"])
def test_the_configuration_is_that_of_http(client: Client, version: str) -> None:
    config = ask(client, "ModelConfig", name="iris", version=version).config
    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("iris", "test_numpy", "onnx", 0)
    (x,) = config.input
    assert (x.name, x.data_type, list(x.dims)) == ("X", 11, [-1, 4])  # TYPE_FP32
    assert [output.name for output in config.output] == ["label", "scores"]


@pytest.mark.parametrize("name", ["", "iris"])
def test_statistics_count_calls_and_rows(name: str) -> None:
    with serving(model()) as (_, client):
        client.infer(infer_request(data=np.concatenate([ROWS, ROWS])))
        client.infer(infer_request())
        with pytest.raises(grpc.RpcError):
            client.infer(infer_request(data=ROWS[:, :3]))
        (stats,) = ask(client, "ModelStatistics", name=name).model_stats
    assert (stats.name, stats.version, stats.inference_count, stats.execution_count) == ("iris", "v1", 6, 2)
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (2, 1)
    assert stats.inference_stats.success.ns >= stats.inference_stats.compute_infer.ns > 0
    assert stats.last_inference > 0


def test_settings_of_the_log_can_be_read_and_not_changed(client: Client) -> None:
    settings = ask(client, "LogSettings").settings
    assert (settings["log_info"].bool_param, settings["log_verbose_level"].uint32_param) == (True, 1)
    assert settings["log_format"].string_param == "ISO8601"
    same = {"log_info": {"bool_param": True}, "log_verbose_level": {"uint32_param": 1}}
    assert ask(client, "LogSettings", settings=same).settings == settings
    code, said = refusal(client, "LogSettings", settings={"log_verbose_level": {"uint32_param": 2}})
    assert code == "INVALID_ARGUMENT"
    assert said.startswith("setting 'log_verbose_level' is read only; restart the server with another")
    unknown = refusal(client, "LogSettings", settings={"log_level": {"uint32_param": 2}})
    assert unknown == ("INVALID_ARGUMENT", "unknown setting 'log_level'")


@pytest.mark.parametrize("name", ["", "iris"])
def test_settings_of_traces_can_be_read_and_not_changed(client: Client, name: str) -> None:
    settings = ask(client, "TraceSetting", model_name=name).settings
    read = {key: list(setting.value) for key, setting in settings.items()}
    assert read == {"trace_level": ["OFF"], "trace_rate": ["1000"], "trace_count": ["-1"], "log_frequency": ["0"],
                    "trace_file": [""], "trace_mode": ["triton"]}  # fmt: skip
    same = {"trace_level": {"value": ["OFF"]}, "trace_rate": {"value": ["1000"]}, "trace_file": {}}
    assert ask(client, "TraceSetting", model_name=name, settings=same).settings == settings
    for setting, values in (("trace_level", ["TIMESTAMPS"]), ("trace_rate", ["1"]), ("trace_rate", [])):
        code, said = refusal(client, "TraceSetting", model_name=name, settings={setting: {"value": values}})
        assert (code, said) == (
            "INVALID_ARGUMENT",
            f"setting '{setting}' is read only; traces go where OTEL_EXPORTER_OTLP_ENDPOINT says",
        )


@pytest.mark.parametrize("method", ["ModelConfig", "ModelStatistics", "TraceSetting"])
def test_an_unknown_model_is_named(client: Client, method: str) -> None:
    fields = {"model_name" if method == "TraceSetting" else "name": "other"}
    assert refusal(client, method, **fields) == ("NOT_FOUND", "unknown model 'other'; this server has 'iris'")


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
@pytest.mark.parametrize("field", ["model_name", "repository_name"], ids=["as Triton sends it", "as KServe sends it"])
def test_loading_and_unloading_are_refused_in_the_words_of_http(client: Client, method: str, field: str) -> None:
    code, said = refusal(client, method, **{field: "iris"})
    assert (code, said) == (
        "UNIMPLEMENTED",
        "this server serves one model and neither loads nor unloads any; start another server",
    )


@pytest.mark.parametrize(
    ("reason", "state"), [("pulling", "LOADING"), ("draining", "UNLOADING"), ("failed", "UNAVAILABLE")]
)
def test_the_index_says_what_a_model_is_waiting_for(reason: str, state: str) -> None:
    with serving(health=StaticHealth(ready=False, reason=reason)) as (_, client):
        (entry,) = ask(client, "RepositoryIndex").models
        assert (entry.name, entry.state, entry.reason) == ("iris", state, reason)
        assert not ask(client, "RepositoryIndex", ready=True).models
