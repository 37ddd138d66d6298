"""The service on a real server, asked by grpcio's own client."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from runtime.link.limits import Limits
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE
from tests.serving.grpc.client import ROWS, infer_request, serving
from tests.serving.support import PROVENANCE, StaticHealth, echo, iris_like, model


def refusal(call, *arguments, **options) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed contents"])
def test_outputs_come_back_in_the_form_of_the_inputs(raw):
    with serving(model()) as (_, client):
        answer = client.infer(infer_request(raw=raw, id="mine"))
    wanted = iris_like({"X": ROWS}, ("label", "scores"))
    assert (answer.model_name, answer.model_version, answer.id) == ("iris", "v1", "mine")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("label", "INT64", [2]),
        ("scores", "FP32", [2, 3]),
    ]
    if raw:
        assert list(answer.raw_output_contents) == [array.tobytes() for array in wanted.values()]
        assert not any(output.HasField("contents") for output in answer.outputs)
    else:
        assert list(answer.outputs[0].contents.int64_contents) == wanted["label"].tolist()
        assert list(answer.outputs[1].contents.fp32_contents) == wanted["scores"].ravel().tolist()
        assert not answer.raw_output_contents


def test_an_answer_says_where_the_model_is_from_and_the_account_is_that_of_any_protocol():
    with serving(model()) as (served, client):
        method = client.channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            METHODS["ModelInfer"][0].SerializeToString,
            METHODS["ModelInfer"][1].FromString,
        )
        answer, call = method.with_call(infer_request(), metadata=(("x-request-id", "seen-1"),))
        assert answer.id == "seen-1"
        assert dict(call.trailing_metadata())["modelkit-digest"] == PROVENANCE.digest
        refusal(client.infer, infer_request(data=ROWS[:, :3]))
        scrape = served.scrape()
    assert 'runtime_request_duration_seconds_count{model="iris",outcome="ok",protocol="grpc"} 1.0' in scrape
    assert 'runtime_request_duration_seconds_count{model="iris",outcome="invalid",protocol="grpc"} 1.0' in scrape
    assert 'runtime_requests_in_flight{model="iris"} 0.0' in scrape
    (answered,) = served.lines.events("request.answered")
    assert (answered["id"], answered["protocol"], answered["rows"]) == ("seen-1", "grpc", 2)
    (refused,) = served.lines.events("request.refused")
    assert (refused["protocol"], refused["status"]) == ("grpc", 400)


@pytest.mark.parametrize(
    ("method", "request_", "answer"),
    [
        ("ServerLive", {}, {"live": True}),
        ("ServerReady", {}, {"ready": True}),
        ("ModelReady", {"name": "iris"}, {"ready": True}),
        ("ModelReady", {"name": "iris", "version": "1"}, {"ready": True}),
        ("RepositoryIndex", {}, {"models": [{"name": "iris", "version": "v1", "state": "READY"}]}),
        ("RepositoryIndex", {"ready": True}, {"models": [{"name": "iris", "version": "v1", "state": "READY"}]}),
    ],
)
def test_what_the_server_says_of_itself(method, request_, answer):
    asked, answered = METHODS[method]
    with serving(model()) as (_, client):
        assert client.call(method, asked(**request_)) == answered(**answer)


def test_metadata_is_that_of_http():
    with serving(model()) as (_, client):
        server = client.call("ServerMetadata")
        found = client.call("ModelMetadata", METHODS["ModelMetadata"][0](name="iris"))
    assert server.name == "modelkit-runtime"
    assert (found.platform, list(found.versions)) == ("test_numpy", list(PROVENANCE.versions))
    assert [(t.name, t.datatype, list(t.shape)) for t in (*found.inputs, *found.outputs)] == [
        ("X", "FP32", [-1, 4]),
        ("label", "INT64", [-1]),
        ("scores", "FP32", [-1, 3]),
    ]


def test_before_the_model_is_ready_ready_is_false_and_a_prediction_unavailable():
    with serving(health=StaticHealth(ready=False)) as (_, client):
        assert not client.call("ServerReady").ready
        assert not client.call("ModelReady", METHODS["ModelReady"][0](name="iris")).ready
        assert client.call("RepositoryIndex").models[0].state == "LOADING"
        code, text = refusal(client.infer, infer_request())
    assert code == "UNAVAILABLE"
    assert "is not ready" in text


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("ModelReady", {"name": "other"}, "NOT_FOUND"),
        ("ModelReady", {"name": "iris", "version": "2"}, "NOT_FOUND"),
        ("ModelMetadata", {"name": "other"}, "NOT_FOUND"),
        ("ModelInfer", {"model_name": "other"}, "NOT_FOUND"),
        ("ModelInfer", {"model_name": "iris", "model_version": "2"}, "NOT_FOUND"),
        ("ModelInfer", {"model_name": "iris"}, "INVALID_ARGUMENT"),
        ("RepositoryModelLoad", {"model_name": "iris"}, "UNIMPLEMENTED"),
        ("RepositoryModelUnload", {"model_name": "iris"}, "UNIMPLEMENTED"),
        ("LogSettings", {"settings": {"log_info": {"bool_param": False}}}, "INVALID_ARGUMENT"),
        ("TraceSetting", {"settings": {"trace_rate": {"value": ["1"]}}}, "INVALID_ARGUMENT"),
    ],
)
def test_a_refusal_has_a_code_and_one_line(method, request_, code):
    with serving(model()) as (_, client):
        seen, text = refusal(client.call, method, METHODS[method][0](**request_))
    assert seen == code
    assert text
    assert "\n" not in text


@pytest.mark.slow
def test_a_message_has_at_most_the_bytes_of_a_body():
    rows = np.zeros((40_000, 4), np.float32)
    with serving(model(), limits=Limits(body_bytes=700_000)) as (_, client):
        assert client.infer(infer_request(data=rows)).outputs[0].shape == [40_000]
        code, _ = refusal(client.infer, infer_request(data=np.zeros((50_000, 4), np.float32)))
        assert code == "RESOURCE_EXHAUSTED"
        bomb = infer_request(data=np.zeros((500_000, 4), np.float32))
        code, _ = refusal(client.infer, bomb, compression=grpc.Compression.Gzip)
        assert code == "RESOURCE_EXHAUSTED"
        small = client.infer(infer_request(), compression=grpc.Compression.Gzip)
        assert small.outputs[0].shape == [2]


def test_a_message_that_comes_in_one_frame_has_no_more_either():
    with serving(model(), limits=Limits(body_bytes=500)) as (_, client):
        assert client.infer(infer_request()).outputs[0].shape == [2]
        code, text = refusal(client.infer, infer_request(data=np.zeros((40, 4), np.float32)))
        assert (code, "--max-body-bytes" in text) == ("RESOURCE_EXHAUSTED", True)


class Gate:
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, arrays, wanted):
        self.entered.set()
        assert self.leave.wait(30)
        return iris_like(arrays, wanted)


def test_more_calls_than_permits_are_refused_and_a_cancelled_call_gives_its_permit_back():
    gate = Gate()
    with serving(model(gate), warm=False, limits=Limits(in_flight=2, inline_seconds=0, threads=1)) as (served, client):
        running = client.future(infer_request())
        assert gate.entered.wait(10)
        waiting = client.future(infer_request())
        _until(lambda: served.model.engine.in_flight == 2)
        assert refusal(client.infer, infer_request())[0] == "RESOURCE_EXHAUSTED"
        waiting.cancel()
        _until(lambda: served.model.engine.in_flight == 1)
        gate.leave.set()
        assert running.result().outputs[0].shape == [2]
        assert client.infer(infer_request()).outputs[0].shape == [2]
    assert len(served.lines.events("request.abandoned")) == 1


def _until(holds) -> None:
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.001)  # another thread's counter has no event


@pytest.mark.parametrize(("operator", "client_seconds"), [(30.0, 0.1), (0.1, 30.0), (0.0, 0.1)])
def test_the_sooner_deadline_counts(operator, client_seconds):
    gate = Gate()
    limits = Limits(deadline_seconds=operator, inline_seconds=0)
    with serving(model(gate), warm=False, limits=limits) as (served, client):
        assert refusal(client.infer, infer_request(), timeout=client_seconds)[0] == "DEADLINE_EXCEEDED"
        gate.leave.set()
        _until(lambda: served.model.engine.in_flight == 0)
        scrape = served.scrape()
    assert 'runtime_request_duration_seconds_count{model="iris",outcome="deadline",protocol="grpc"} 1.0' in scrape
    assert not served.lines.events("request.abandoned")


@pytest.mark.parametrize("size", [2, 40_000], ids=["short", "decoded in a thread"])
def test_tritons_timeout_is_a_deadline_where_it_is_the_soonest(size):
    gate = Gate()
    data = np.zeros((size, 4), np.float32)
    with serving(model(gate), warm=False, limits=Limits(inline_seconds=0)) as (served, client):
        late = infer_request(data=data, parameters={"timeout": {"int64_param": 100_000}})
        code, said = refusal(client.infer, late)
        gate.leave.set()
        assert (code, said) == ("DEADLINE_EXCEEDED", "deadline exceeded: no answer within 0.1 s")
        _until(lambda: served.model.engine.in_flight == 0)
        long = infer_request(data=data, parameters={"timeout": {"uint64_param": 60_000_000}})
        assert client.infer(long).outputs[0].shape == [size]


def test_a_call_is_named_and_traced_by_its_metadata():
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    metadata = (("x-request-id", "mine-1"), ("traceparent", f"00-{trace}-{parent}-01"))
    with serving(model()) as (served, client):
        method = client.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", METHODS["ModelInfer"][0].SerializeToString, METHODS["ModelInfer"][1].FromString
        )
        answer, call = method.with_call(infer_request(), metadata=metadata)
        told = dict(call.trailing_metadata())
        with pytest.raises(grpc.RpcError) as caught:
            method(infer_request(data=ROWS[:, :3]), metadata=metadata)
        refused_told = dict(caught.value.trailing_metadata())
        with pytest.raises(grpc.RpcError) as caught:
            method(infer_request("other"), metadata=metadata)
        unknown_told = dict(caught.value.trailing_metadata())
    assert answer.id == "mine-1"
    (answered,) = served.lines.events("request.answered")
    refused, unknown = served.lines.events("request.refused")
    for line, seen in ((answered, told), (refused, refused_told), (unknown, unknown_told)):
        assert seen["x-request-id"] == "mine-1"
        assert (line["id"], line["trace"]) == ("mine-1", trace)
        assert seen["traceresponse"] == f"00-{trace}-{line['span']}-01"
        assert line["span"] != parent


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed contents"])
def test_classes_are_what_http_answers(raw):
    wanted = [{"name": "scores", "parameters": {"classification": {"int64_param": 2}}}, {"name": "label"}]
    with serving(model()) as (_, client):
        answer = client.infer(infer_request(raw=raw, outputs=wanted))
    scores, label = answer.outputs
    assert (scores.datatype, list(scores.shape), label.datatype) == ("BYTES", [2, 2], "INT64")
    texts = ["10.2:0:setosa", "5.1:1:versicolor", "16.0:0:setosa", "6.0:1:versicolor"]
    if raw:
        data = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
        assert list(answer.raw_output_contents) == [data, np.int64([0, 0]).tobytes()]
    else:
        assert [text.decode() for text in scores.contents.bytes_contents] == texts
        assert list(label.contents.int64_contents) == [0, 0]


def test_classes_of_fp16_need_no_raw_form():
    with serving(echo("FP16")) as (_, client):
        asked = METHODS["ModelInfer"][0](
            model_name="iris",
            inputs=[{"name": "x", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1.5, 2.5]}}],
            outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 1}}}],
        )
        assert list(client.infer(asked).outputs[0].contents.bytes_contents) == [b"1.5:0", b"2.5:0"]


def test_a_failure_of_the_model_is_told_by_an_error_id_only():
    def broken(arrays, wanted):
        raise RuntimeError("secret")

    with serving(model(broken), warm=False) as (served, client):
        code, text = refusal(client.infer, infer_request())
    assert code == "INTERNAL"
    assert text.startswith("inference failed (error id ")
    assert served.lines.events("request.refused")[0]["error_id"] in text


def stream(client, requests, **options):
    asked, answered = METHODS["ModelStreamInfer"]
    method = client.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", asked.SerializeToString, answered.FromString)
    return method(iter(requests), timeout=60, **options)


def test_a_stream_answers_each_request_in_order_and_lives_on_after_an_error():
    last = {"triton_enable_empty_final_response": {"bool_param": True}}
    requests = [infer_request(id="1"), infer_request(data=ROWS[:, :3], id="2"), infer_request(id="3", parameters=last)]
    with serving(model()) as (_, client):
        one, two, three = stream(client, requests)
    assert (one.error_message, one.infer_response.id) == ("", "1")
    assert ("expected shape" in two.error_message, two.infer_response.id) == (True, "2")
    assert (three.infer_response.id, three.infer_response.parameters["triton_final_response"].bool_param) == ("3", True)
    assert not one.infer_response.parameters


def test_a_stream_ends_with_a_status_if_the_client_wants_that():
    with serving(model()) as (_, client):
        answers = stream(client, [infer_request(data=ROWS[:, :3])], metadata=(("triton_grpc_error", "true"),))
        assert refusal(list, answers)[0] == "INVALID_ARGUMENT"


def test_garbage_is_the_clients_mistake():
    with serving(model()) as (_, client):
        method = client.channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for body in (b"\xff", b"\x0a\x04iris\x2a\x05\xff\xff\xff\xff\xff", b"\x0a\x04iris\x0b"):
            assert refusal(method, body, timeout=60)[0] == "INVALID_ARGUMENT"
        assert refusal(client.channel.unary_unary("/inference.Other/Method"), b"", timeout=60)[0] == "UNIMPLEMENTED"


def test_health_for_probes():
    health = StaticHealth()
    with serving(model(), health=health) as (_, client):
        stub = health_pb2_grpc.HealthStub(client.channel)
        check = health_pb2.HealthCheckRequest
        for service in ("", SERVICE, "iris"):
            assert stub.Check(check(service=service)).status == health_pb2.HealthCheckResponse.SERVING
        assert refusal(stub.Check, check(service="other"))[0] == "NOT_FOUND"
        assert set(stub.List(health_pb2.HealthListRequest()).statuses) == {"", SERVICE, "iris"}
        watch = stub.Watch(check())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        health.ready, health.draining = False, True
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watch) == []
        other = stub.Watch(check(service="other"))
        assert next(other).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_reflection_tells_all_that_a_client_without_our_file_needs():
    with serving(model()) as (_, client):
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        (listed,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {service.name for service in listed.list_services_response.service}
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(client.channel))
        methods = {method.name for method in pool.FindServiceByName(SERVICE).methods}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert methods == set(METHODS)


def test_fp16_is_raw_whatever_form_was_asked():
    with serving(echo("FP16")) as (_, client):
        data = np.array([1.5, np.nan, np.inf], np.float16)
        tensor = {"name": "x", "datatype": "FP16", "shape": [3]}
        asked = METHODS["ModelInfer"][0](model_name="iris", inputs=[tensor], raw_input_contents=[data.tobytes()])
        assert client.infer(asked).raw_output_contents[0] == data.tobytes()
        typed = METHODS["ModelInfer"][0](model_name="iris", inputs=[{**tensor, "contents": {"bytes_contents": [b"x"]}}])
        assert "raw_input_contents" in refusal(client.infer, typed)[1]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed contents"])
@pytest.mark.parametrize(("wanted", "sent"), [((-1,), (3, 1)), ((-1, 1), (3,))])
def test_a_column_comes_to_the_model_in_the_models_own_shape(wanted, sent, raw):
    column = np.arange(3, dtype=np.float32).reshape(sent)
    with serving(echo("FP32", wanted)) as (_, client):
        answer = client.infer(infer_request(data=column, raw=raw))
    assert tuple(answer.outputs[0].shape) == (3, 1)[: len(wanted)]
