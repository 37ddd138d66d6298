"""tritonclient.grpc, grpc.health.v1 and reflection."""

import queue

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensors import array, flat
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


def inputs_of(request):
    made = []
    for tensor in request["inputs"]:
        made.append(InferInput(tensor["name"], tensor["shape"], tensor["datatype"]))
        made[-1].set_data_from_numpy(array(tensor))
    return made


def outputs_of(result):
    return {output.name: flat(result.as_numpy(output.name)) for output in result.get_response().outputs}


def refused(call, *arguments, **options):
    """The code of an error, whose message has to be one line."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.status() if len(error.message().splitlines()) == 1 else error.message()
    raise AssertionError("not refused")


def infer(at):
    with InferenceServerClient(at.grpc) as client:
        return {"outputs": outputs_of(client.infer(at.model, inputs_of(at.request)))}


def compressed(at):
    with InferenceServerClient(at.grpc) as client:
        return {name: {"outputs": outputs_of(client.infer(at.model, inputs_of(at.request), compression_algorithm=name))}
                for name in ("gzip", "deflate")}  # fmt: skip


def bytes_that_are_no_text(at):
    one = InferInput("x", [2], "BYTES")
    one.set_data_from_numpy(np.array([b"\xff\xfe\x00", b""], dtype=object))
    with InferenceServerClient(at.grpc) as client:
        return {"hex": [value.hex() for value in client.infer(at.model, [one]).as_numpy("y").tolist()]}


def twelve_megabytes(at):
    rows = array(at.request["inputs"][0])
    many = np.ascontiguousarray(np.resize(rows, (12_582_912 // rows[0].nbytes, rows.shape[1])))
    one = InferInput("X", list(many.shape), "FP32")
    one.set_data_from_numpy(many)
    with InferenceServerClient(at.grpc) as client:
        label = client.infer(at.model, [one], outputs=[InferRequestedOutput("label")]).as_numpy("label")
    return {"rows": len(label), "first": label[: len(rows)].tolist(), "kinds": len(set(label.tolist()))}


def stream(at):
    """A right request, a wrong one and a right one in one stream."""
    answers = queue.Queue()
    wrong = InferInput("X", [1, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 3), "float32"))
    seen = []
    with InferenceServerClient(at.grpc) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for inputs in (inputs_of(at.request), [wrong], inputs_of(at.request)):
            client.async_stream_infer(at.model, inputs)
            result, error = answers.get(timeout=30)
            seen.append({"outputs": outputs_of(result)} if error is None else "refused")
        client.stop_stream()
    return {"first": seen[0], "second": seen[1], "third": seen[2]}


def pages(at):
    with InferenceServerClient(at.grpc) as client:
        model = client.get_model_metadata(at.model, as_json=True)
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(at.model),
            "model": model["name"],
            "datatypes": [each["datatype"] for each in model["inputs"]],
            "server": sorted(set(client.get_server_metadata(as_json=True)) - {"extensions"}),
            "unknown": refused(client.get_model_metadata, "nobody"),
            "unknown_ready": refused(client.is_model_ready, "nobody"),
        }


def index(at):
    with InferenceServerClient(at.grpc) as client:
        return {"index": [each["name"] for each in client.get_model_repository_index(as_json=True)["models"]]}


def management(at):
    with InferenceServerClient(at.grpc) as client:
        return {
            "statistics": client.get_inference_statistics(at.model, as_json=True)["model_stats"][0]["name"],
            "config": client.get_model_config(at.model, as_json=True)["config"]["name"],
        }


def settings(at):
    with InferenceServerClient(at.grpc) as client:
        return {
            "log": type(client.get_log_settings(as_json=True)).__name__,
            "trace": type(client.get_trace_settings(as_json=True)).__name__,
        }


def classification(at):
    wanted = [InferRequestedOutput("probabilities", class_count=1)]
    with InferenceServerClient(at.grpc) as client:
        result = client.infer(at.model, inputs_of(at.request), outputs=wanted)
    return {"first": [text.split(":")[1] for text in flat(result.as_numpy("probabilities"))]}


def deadline(at):
    """One that is long enough is no matter; one that has passed is an error, of the client's or of the server's."""
    inputs = inputs_of(at.request)
    with InferenceServerClient(at.grpc) as client:
        return {
            "outputs": outputs_of(client.infer(at.model, inputs, client_timeout=30, timeout=30_000_000)),
            "late": refused(client.infer, at.model, inputs, client_timeout=-1),
            "too_late": refused(client.infer, at.model, inputs, timeout=1),
        }


def health(at):
    with grpc.insecure_channel(at.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        services = ("", "inference.GRPCInferenceService")
        states = [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status for name in services]
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=30)
        except grpc.RpcError as error:
            unknown = error.code().name
    return {
        "states": [health_pb2.HealthCheckResponse.ServingStatus.Name(state) for state in states],
        "unknown": unknown,
    }


def reflection(at):
    with grpc.insecure_channel(at.grpc) as channel:
        described = ProtoReflectionDescriptorDatabase(channel)
        services = described.get_services()
        file = described.FindFileContainingSymbol("inference.GRPCInferenceService")
    methods = {method.name for service in file.service for method in service.method}
    known = {"inference.GRPCInferenceService", "grpc.health.v1.Health"}
    return {"services": sorted(known & set(services)), "infer": "ModelInfer" in methods}
