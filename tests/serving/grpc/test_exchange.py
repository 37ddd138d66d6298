"""What grpcio's clients do beside a plain call: many at once, long messages, pings, deadlines and cancelled streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runtime.link.limits import Limits
from runtime.serving.grpc.standard_services import HEALTH, REFLECTION
from runtime.serving.http2.frames import DATA, END_STREAM
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE
from tests.serving.grpc.client import Client, Infer, infer_request, serving
from tests.serving.grpc.test_server import refusal, stream
from tests.serving.http2.raw import Raw, frame, message
from tests.serving.support import Served, echo, iris_like, model

MOST_BYTES = 72 * 2**20


@pytest.fixture(scope="module")
def echoing() -> Iterator[tuple[Served, Client]]:
    with serving(echo("FP32"), limits=Limits(body_bytes=MOST_BYTES)) as (served, client):
        yield served, client


def asked(data: np.ndarray) -> object:
    tensor = {"name": "x", "datatype": "FP32", "shape": data.shape}
    return Infer(model_name="iris", inputs=[tensor], raw_input_contents=[data.tobytes()])


@pytest.mark.slow
def test_a_message_of_64_megabytes_passes_both_ways(echoing):
    data = np.arange(2**24, dtype=np.float32)
    with Client(f"127.0.0.1:{echoing[0].port}", ("grpc.max_send_message_length", -1)) as client:
        answer = client.infer(asked(data))
    assert answer.raw_output_contents[0] == data.tobytes()
    assert echoing[0].app.bodies._in_flight == 0


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_inflated_in_calls_and_in_streams(echoing, compression):
    data = np.zeros(50_000, np.float32)
    _, client = echoing
    assert client.infer(asked(data), compression=compression).raw_output_contents[0] == data.tobytes()
    first, second = stream(client, [asked(data), asked(data[:1])], compression=compression)
    assert first.infer_response.raw_output_contents[0] == data.tobytes()
    assert second.infer_response.raw_output_contents[0] == bytes(4)


def test_a_hundred_calls_at_once_on_one_connection_are_answered_each(echoing):
    served, client = echoing  # 90,000 rows: as many may wait where a model is slow
    calls = [client.future(asked(np.full(900, number, np.float32))) for number in range(100)]
    for number, call in enumerate(calls):
        assert np.frombuffer(call.result().raw_output_contents[0], np.float32).tolist() == [number] * 900
    assert len(served.server.connections) == 1


@pytest.mark.slow
def test_a_client_that_pings_is_let_be(echoing):
    served, _ = echoing
    options = (("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 5000),
               ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0))  # fmt: skip
    with Client(f"127.0.0.1:{served.port}", *options) as client:
        watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(), timeout=1.5)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert refusal(next, watch)[0] == "DEADLINE_EXCEEDED"
        assert client.infer(asked(np.ones(1, np.float32))).raw_output_contents[0] == np.ones(1, np.float32).tobytes()


def test_binary_metadata_and_those_of_anybody_are_let_through(echoing):
    _, client = echoing
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    metadata = (("some-bin", b"\x00\xff"), ("authorization", "x"), ("x-request-id", "mine"), ("traceparent", trace))
    call = client.future(asked(np.ones(1, np.float32)), metadata=metadata)
    assert call.result().id == "mine"
    trailing = dict(call.trailing_metadata())
    assert trailing["x-request-id"] == "mine"
    assert trailing["traceresponse"].startswith(f"00-{'1' * 32}-")


def test_a_message_of_a_stream_may_be_longer_than_its_window_and_many_may_wait(echoing):
    _, client = echoing
    data = [np.full(size, size, np.float32) for size in (1_500_000, 1, 2_000_000, *range(2, 60))]
    answers = stream(client, map(asked, data))
    for sent, answer in zip(data, answers, strict=True):
        assert answer.infer_response.raw_output_contents[0] == sent.tobytes()


def test_a_stream_with_many_messages_lets_others_have_their_turn():
    order, waiting, flood = list[str](), list[int](), threading.Event()

    def predict(arrays, wanted):
        if flood.is_set():
            if not order:
                served.loop.call_soon_threadsafe(order.append, "other")
            order.append("message")
            waiting.extend(len(call._waiting) for one in served.server.connections for call in one.streams.values())
        return iris_like(arrays, wanted)

    with serving(model(predict), limits=Limits(inline_seconds=1)) as (served, _), Raw(served.port) as client:
        flood.set()
        number = client.request(None, path=f"/{SERVICE}/ModelStreamInfer")
        client.send(frame(DATA, END_STREAM, number, message(infer_request().SerializeToString()) * 100))
        assert client.answer(number)[0]["grpc-status"] == "0"
    assert len(order) == 101
    assert order.index("other") < 20
    assert max(waiting) < 20


def test_a_stream_ends_at_its_deadline_and_when_its_client_cancels_it():
    entered, leave = threading.Event(), threading.Event()

    def predict(arrays, wanted):
        entered.set()
        assert leave.wait(30)
        return iris_like(arrays, wanted)

    with serving(model(predict), warm=False, limits=Limits(inline_seconds=0)) as (served, client):
        method = client.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer", Infer.SerializeToString, METHODS["ModelStreamInfer"][1].FromString
        )
        late = method(iter([infer_request()]), timeout=0.2)
        assert refusal(list, late)[0] == "DEADLINE_EXCEEDED"
        entered.clear()
        cancelled = method(iter([infer_request()]), timeout=60)
        assert entered.wait(10)
        cancelled.cancel()
        assert refusal(list, cancelled)[0] == "CANCELLED"
        leave.set()
        assert client.infer(infer_request()).outputs[0].shape == [2]
    assert served.model.engine.in_flight == 0


def test_a_stream_of_an_unknown_method_is_refused_before_it_ends():
    """grpcurl tries one version of reflection after another, as the first of all calls."""
    with serving(model()) as (served, _):
        for _ in range(2):
            with Raw(served.port) as client:
                number = client.request(b"", path="/grpc.reflection.v2.ServerReflection/ServerReflectionInfo", flags=0)
                assert client.answer(number)[0]["grpc-status"] == "12"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_are_there(echoing, version):
    method = echoing[1].channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    (answer,) = map(reflection_pb2.ServerReflectionResponse.FromString, method(iter([asked]), timeout=60))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_an_unknown_method_is_said_before_and_after_the_messages_are_known():
    with serving(model()) as (_, client):
        for _ in range(2):
            for path in (f"/{SERVICE}/Other", "/other.Service/Method"):
                code, text = refusal(client.channel.unary_unary(path), b"", timeout=60)
                assert (code, "unknown method" in text) == ("UNIMPLEMENTED", True)


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({"file_by_filename": "inference.proto"}, "file_descriptor_response"),
        ({"file_containing_symbol": "inference.ModelInferRequest"}, "file_descriptor_response"),
        ({"file_containing_symbol": "grpc.health.v1.Health"}, "file_descriptor_response"),
        ({"file_containing_symbol": "grpc.reflection.v1alpha.ServerReflection"}, "file_descriptor_response"),
        ({"file_by_filename": "other.proto"}, "error_response"),
        ({"file_containing_symbol": "other"}, "error_response"),
        ({"all_extension_numbers_of_type": "inference.ModelInferRequest"}, "error_response"),
    ],
)
def test_reflection_answers_what_can_be_asked(echoing, request_, found):
    asked = reflection_pb2.ServerReflectionRequest(host="here", **request_)
    stub = reflection_pb2_grpc.ServerReflectionStub(echoing[1].channel)
    (answer,) = stub.ServerReflectionInfo(iter([asked]), timeout=60)
    assert (answer.WhichOneof("message_response"), answer.valid_host, answer.original_request) == (found, "here", asked)


def test_the_descriptors_are_those_of_the_standard_services():
    assert health_pb2.DESCRIPTOR.serialized_pb == HEALTH
    assert reflection_pb2.DESCRIPTOR.serialized_pb == REFLECTION


def test_what_is_no_message_of_a_method_is_the_clients_mistake(echoing):
    for path in (f"/{SERVICE}/ModelMetadata", "/grpc.health.v1.Health/Check"):
        assert refusal(echoing[1].channel.unary_unary(path), b"\xff", timeout=60)[0] == "INVALID_ARGUMENT"
    watch = echoing[1].channel.unary_stream("/grpc.health.v1.Health/Watch")
    assert refusal(list, watch(b"\xff", timeout=60))[0] == "INVALID_ARGUMENT"
