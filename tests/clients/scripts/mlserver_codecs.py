"""MLServer's codecs, and `mlserver infer`."""

import json
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib import import_module
from pathlib import Path

import pandas as pd
import requests
from mlserver.codecs import (
    Base64Codec,
    DatetimeCodec,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    StringCodec,
    StringRequestCodec,
)
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, RequestOutput
from tensors import array, flat

TEXTS = ["é", ""]


def answered(at, request):
    response = requests.post(f"{at.url}/v2/models/{at.model}/infer", json=request.model_dump(), timeout=60)
    assert response.status_code == 200, response.text
    return InferenceResponse.model_validate_json(response.content)


def np_inputs(at):
    inputs = [NumpyCodec.encode_input(each["name"], array(each)) for each in at.request["inputs"]]
    answer = answered(at, InferenceRequest(inputs=inputs))
    return {"outputs": {output.name: flat(NumpyCodec.decode_output(output)) for output in answer.outputs}}


def np_request(at):
    answer = answered(at, NumpyRequestCodec.encode_request(array(at.request["inputs"][0])))
    return {"outputs": {output.name: flat(NumpyCodec.decode_output(output)) for output in answer.outputs}}


def frame_of(at):
    return pd.DataFrame({each["name"]: each["data"] for each in at.request["inputs"]})


def pandas_frame(at):
    answer = answered(at, PandasCodec.encode_request(frame_of(at), use_bytes=False))
    frame = PandasCodec.decode_response(answer)
    return {"rows": len(frame), "predict": [str(value) for value in frame["predict"]]}


def pandas_kinds(at):
    answer = answered(at, PandasCodec.encode_request(frame_of(at), use_bytes=False))
    return {"content_type": answer.parameters and answer.parameters.content_type}


def string_output(at):
    """Text in and out, where the answer's own content type decides how it is read."""
    answer = answered(at, InferenceRequest(inputs=[StringCodec.encode_input("x", TEXTS, use_bytes=False)]))
    return {"texts": StringCodec.decode_output(answer.outputs[0])}


def string_request(at):
    answer = answered(at, StringRequestCodec.encode_request(TEXTS, use_bytes=False))
    return {"texts": StringCodec.decode_output(answer.outputs[0])}


def base64_input(at):
    """The model sees the bytes, not their base64."""
    sent = [b"no base64 by itself!", b""]
    answer = answered(at, InferenceRequest(inputs=[Base64Codec.encode_input("x", sent, use_bytes=False)]))
    return {"texts": [value.decode() for value in Base64Codec.decode_output(answer.outputs[0])]}


def datetime_input(at):
    sent = [datetime(2026, 5, 1, 12, 30), datetime(1969, 7, 20)]
    answer = answered(at, InferenceRequest(inputs=[DatetimeCodec.encode_input("x", sent, use_bytes=False)]))
    return {"texts": [value.isoformat() for value in DatetimeCodec.decode_output(answer.outputs[0])]}


def answers_as_asked(at):
    """Each decoder reads what its content type brings."""
    sent = StringCodec.encode_input("x", ["2026-05-01"], use_bytes=False)
    found = {}
    for kind, codec in (("str", StringCodec), ("base64", Base64Codec), ("datetime", DatetimeCodec), ("pd_json", None)):
        wanted = RequestOutput(name="y", parameters=Parameters(content_type=kind))
        answer = answered(at, InferenceRequest(inputs=[sent], outputs=[wanted]))
        values = codec.decode_output(answer.outputs[0]) if codec else PandasCodec.decode_response(answer)["y"]
        texts = (value.decode() if isinstance(value, bytes) else value for value in values)
        found[kind] = [text.isoformat() if kind == "datetime" else text for text in texts]
    return found


def pandas_objects(at):
    """`pd_json`: of columns that hold Python's numbers as objects, each arrives as its JSON text."""
    request = PandasCodec.encode_request(frame_of(at).astype(object), use_bytes=False)
    kinds = {given.parameters.content_type for given in request.inputs}
    frame = PandasCodec.decode_response(answered(at, request))
    return {"kinds": sorted(kinds), "predict": [str(value) for value in frame["predict"]]}


def in_process(command):
    import_module("mlserver.cli.main").root(command, standalone_mode=False)


def as_program(command):
    program = "import sys; from mlserver.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def batch(at, run, *options):
    """Two lines of a file through `mlserver infer`."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        given.write_text(json.dumps(at.request) + "\n" + json.dumps(at.request) + "\n")
        run(["infer", "--url", at.address, "--model-name", at.model, "--retries", "1", *options,
             "--input-data-path", str(given), "--output-data-path", str(made)])  # fmt: skip
        answers = [json.loads(line) for line in made.read_text().splitlines()]
    assert [answer for answer in answers if "error" in answer] == []
    first = {output["name"]: output["data"] for output in answers[0]["outputs"]}
    return {"outputs": first, "lines": len(answers)}


def infer_json(at):
    return batch(at, as_program)


def infer_binary(at):
    return batch(at, in_process, "--binary-data")


def infer_in_batches(at):
    return batch(at, in_process, "--batch-size", "2")
