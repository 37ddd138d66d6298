"""tritonclient.http, as its own examples call it."""

import numpy as np
from tensors import array, flat
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


def inputs_of(request, *, binary):
    made = []
    for tensor in request["inputs"]:
        one = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        one.set_data_from_numpy(array(tensor), binary_data=binary)
        made.append(one)
    return made


def outputs_of(request, result):
    return {output["name"]: flat(result.as_numpy(output["name"])) for output in result.get_response()["outputs"]}


def infer(at, *, binary, **options):
    with InferenceServerClient(at.address) as client:
        result = client.infer(at.model, inputs_of(at.request, binary=binary), **options)
        return {"outputs": outputs_of(at.request, result), "binary": "data" not in result.get_response()["outputs"][0]}


def asked(at, *, binary):
    return [InferRequestedOutput(name, binary_data=binary) for name in at.outputs]


def pages(at):
    with InferenceServerClient(at.address) as client:
        model = client.get_model_metadata(at.model)
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(at.model),
            "other_ready": client.is_model_ready("nobody"),
            "server": sorted(client.get_server_metadata()),
            "model": model["name"],
            "inputs": model["inputs"],
        }


def as_json(at):
    return infer(at, binary=False, outputs=asked(at, binary=False))


def as_binary(at):
    """The default in everything."""
    with InferenceServerClient(at.address) as client:
        made = []
        for tensor in at.request["inputs"]:
            made.append(InferInput(tensor["name"], tensor["shape"], tensor["datatype"]))
            made[-1].set_data_from_numpy(array(tensor))
        result = client.infer(at.model, made)
        return {"outputs": outputs_of(at.request, result), "binary": "data" not in result.get_response()["outputs"][0]}


def json_in_binary_out(at):
    return infer(at, binary=False, outputs=asked(at, binary=True))


def binary_in_json_out(at):
    return infer(at, binary=True, outputs=asked(at, binary=False))


def one_of_each(at):
    """Of the outputs, the first as JSON and the others binary."""
    wanted = [InferRequestedOutput(name, binary_data=place > 0) for place, name in enumerate(at.outputs)]
    with InferenceServerClient(at.address) as client:
        result = client.infer(at.model, inputs_of(at.request, binary=True), outputs=wanted)
    return {
        "outputs": outputs_of(at.request, result),
        "forms": ["data" in each for each in result.get_response()["outputs"]],
    }


def bytes_that_are_no_text(at):
    sent = np.array([b"\xff\xfe\x00", b"", b"plain"], dtype=object)
    one = InferInput("x", [3], "BYTES")
    one.set_data_from_numpy(sent)
    with InferenceServerClient(at.address) as client:
        return {"hex": [value.hex() for value in client.infer(at.model, [one]).as_numpy("y").tolist()]}


def no_elements(at):
    one = InferInput("x", [0], "BYTES")
    one.set_data_from_numpy(np.array([], dtype=object))
    with InferenceServerClient(at.address) as client:
        got = client.infer(at.model, [one]).as_numpy("y")
        return {"shape": list(got.shape)}


def compressed_json(at):
    return {name: infer(at, binary=False, outputs=asked(at, binary=False), request_compression_algorithm=name)
            for name in ("gzip", "deflate")}  # fmt: skip


def compressed_binary(at):
    return {name: infer(at, binary=True, request_compression_algorithm=name) for name in ("gzip", "deflate")}


def compressed_answers(at):
    seen = {}
    for name in ("gzip", "deflate"):
        with InferenceServerClient(at.address) as client:
            result = client.infer(at.model, inputs_of(at.request, binary=True), response_compression_algorithm=name)
            seen[name] = {"outputs": outputs_of(at.request, result)}
    return seen


def index(at):
    with InferenceServerClient(at.address) as client:
        return {
            "models": [(each["name"], each["state"], each["reason"]) for each in client.get_model_repository_index()]
        }


def version(at):
    with InferenceServerClient(at.address) as client:
        result = client.infer(at.model, inputs_of(at.request, binary=False), model_version="1",
                              outputs=asked(at, binary=False))  # fmt: skip
        return {
            "outputs": outputs_of(at.request, result),
            "ready": client.is_model_ready(at.model, "1"),
            "model": client.get_model_metadata(at.model, "1")["name"],
            "other": refusal(client.get_model_metadata, at.model, "17"),
        }


def refusal(call, *arguments, **options):
    """How many lines the message of an error has."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return len(error.message().splitlines())
    raise AssertionError("not refused")


def errors(at):
    with InferenceServerClient(at.address) as client:
        wrong = InferInput("X", [1, 3], "FP32")
        wrong.set_data_from_numpy(np.zeros((1, 3), "float32"), binary_data=False)
        return {
            "unknown": refusal(client.get_model_metadata, "nobody"),
            "shape": refusal(client.infer, at.model, [wrong], outputs=asked(at, binary=False)),
            "method": refusal(client.load_model, at.model),
            "path": refusal(client.register_system_shared_memory, "a", "/a", 1),
        }


def statistics(at):
    with InferenceServerClient(at.address) as client:
        before = client.get_inference_statistics(at.model)["model_stats"][0]
        client.infer(at.model, inputs_of(at.request, binary=False), outputs=asked(at, binary=False))
        after = client.get_inference_statistics(at.model)["model_stats"][0]
        everything = client.get_inference_statistics()
    return {
        "model": after["name"],
        "rows": after["inference_count"] - before["inference_count"],
        "runs": after["execution_count"] - before["execution_count"],
        "success": after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"],
        "models": len(everything["model_stats"]),
    }


def config(at):
    with InferenceServerClient(at.address) as client:
        found = client.get_model_config(at.model)
    (given,) = found["input"]
    shape = [-1] * (found["max_batch_size"] > 0) + given["dims"]  # a batch axis stands in none of the shapes
    return {"name": found["name"], "shape": shape, "type": given["data_type"]}


def log_settings(at):
    with InferenceServerClient(at.address) as client:
        refused = refusal(client.update_log_settings, {"log_verbose_level": 1})
        return {"info": client.get_log_settings()["log_info"], "refused": refused}


def trace_settings(at):
    with InferenceServerClient(at.address) as client:
        return {"kind": type(client.get_trace_settings()).__name__}


def classification(at):
    wanted = [InferRequestedOutput("probabilities", class_count=2)]
    with InferenceServerClient(at.address) as client:
        classes = client.infer(at.model, inputs_of(at.request, binary=False), outputs=wanted).as_numpy("probabilities")
    return {"shape": list(classes.shape), "first": [text.decode().split(":")[1] for text in classes[:, 0]]}
