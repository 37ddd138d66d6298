"""Bad inputs in every form of V2: the same words for JSON, for binary tensors, and for raw and typed gRPC.

The numbers are those of the table of bad inputs; rows that only one form can have are in its own tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from adapters.values import DTYPES
from runtime.link.limits import Limits
from runtime.serving.codec_table import CODECS
from runtime.serving.inference import Endpoint, infer
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS
from runtime.serving.protocol.grpc.messages import METHODS
from runtime.serving.protocol.json_elements import ALIASES
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.statuses import GRPC_CODE, Response
from runtime.serving.wording import quoted
from tests.serving.protocol.v2.tensors import framed, objects, raw, strings
from tests.serving.support import app_of, echo, model

Infer, Answer = METHODS["ModelInfer"]
Request = dict[str, Any]
NUMBERS: dict[type, str] = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
FOUR = [5.0, 3.5, 1.5, 0.25]
IRIS = model()
TWO = model(
    lambda arrays, wanted: {"y": arrays["a"]},
    inputs=(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1,), optional=True)),
    outputs=(TensorSpec("y", "FP32", (-1,)),),
    labels=None,
)


def tensor(**changes: Any) -> Request:
    return {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": FOUR, **changes}


def of(*tensors: Request, **members: Any) -> Request:
    return {"inputs": list(tensors or (tensor(),)), **members}


def one(datatype: str, values: list[Any], shape: list[int] | None = None) -> Request:
    return of({"name": "x", "datatype": datatype, "shape": shape or [len(values)], "data": values})


def output(name: str, **parameters: Any) -> Request:
    return {"name": name, "parameters": parameters}


# a request in each form: the headers of HTTP (None: gRPC), and the body


def as_json(request: Request) -> tuple[dict[bytes, bytes] | None, bytes]:
    return {}, json.dumps(request).encode()


def as_binary(request: Request) -> tuple[dict[bytes, bytes] | None, bytes]:
    data = [bytes_of(tensor) for tensor in request["inputs"]]
    inputs = [
        {**{key: value for key, value in tensor.items() if key != "data"},
         "parameters": {"binary_data_size": len(own), **tensor.get("parameters", {})}}
        for tensor, own in zip(request["inputs"], data, strict=True)
    ]  # fmt: skip
    headers, body = framed({**request, "inputs": inputs}, *data)
    return {name.encode(): value.encode() for name, value in headers.items()}, body


def as_raw(request: Request) -> tuple[dict[bytes, bytes] | None, bytes]:
    message = message_of(request, lambda _: {})
    message.raw_input_contents.extend(map(bytes_of, request["inputs"]))
    return None, message.SerializeToString()


def as_typed(request: Request) -> tuple[dict[bytes, bytes] | None, bytes]:
    def contents(tensor: Request) -> Request:
        values = [value.encode() if isinstance(value, str) else value for value in tensor["data"]]
        return {"contents": {FIELDS.get(ALIASES.get(tensor["datatype"], ""), "fp32_contents"): values}}

    return None, message_of(request, contents).SerializeToString()


def bytes_of(tensor: Request) -> bytes:
    dtype = DTYPES.get(ALIASES.get(tensor["datatype"], ""), np.dtype(np.float32))
    values = tensor["data"]
    return raw(objects([value.encode() for value in values]) if dtype == np.object_ else np.array(values, dtype))


def message_of(request: Request, contents: Callable[[Request], Request]) -> Any:
    inputs = [
        {"name": each["name"], "datatype": each["datatype"], "shape": each["shape"],
         "parameters": parameters(each), **contents(each)}
        for each in request["inputs"]
    ]  # fmt: skip
    outputs = [{"name": each["name"], "parameters": parameters(each)} for each in request.get("outputs", ())]
    return Infer(
        model_name="iris", id=request.get("id", ""), parameters=parameters(request), inputs=inputs, outputs=outputs
    )


def parameters(at: Request) -> Request:
    return {name: {NUMBERS[type(value)]: value} for name, value in at.get("parameters", {}).items()}


FORMS = {"json": as_json, "binary": as_binary, "raw": as_raw, "typed": as_typed}


def asked(made: Model, head: dict[bytes, bytes] | None, body: bytes, **limits: Any) -> tuple[int, str, Response]:
    """The status of HTTP, what is said without the example behind it, and the whole answer."""
    codec = V2_JSON if head is not None else GRPC
    served = app_of(made, codecs=(*CODECS, GRPC), limits=Limits(inline_seconds=9, **limits), warm=False)
    served.model.engine._costs.seed(40, 0.0)
    answer = infer(Endpoint.of(served.model, (codec,)), head or {}, body)
    served.model.engine.close()
    served.lines.close()
    assert isinstance(answer, Response)
    if answer.status == 200:
        return 200, "", answer
    if codec is GRPC:
        assert dict(answer.headers)[GRPC_CODE] == b"INVALID_ARGUMENT"
        return answer.status, answer.body.decode(), answer
    said = json.loads(answer.body)["error"].partition("; a body that passes: ")[0]
    return answer.status, said.partition("; GET /v2/models/")[0], answer


WIDE = 2**24 + 1
X = "input 'X': "
ROWS: list[tuple[str, Model, Request, str]] = [
    ("10 INT8", echo("INT8"), one("INT64", [1, 300]), "input 'x', element 1: expected datatype INT8, got INT64, and 300 would change in that"),
    ("10 UINT8", echo("UINT8"), one("INT32", [-1]), "input 'x', element 0: expected datatype UINT8, got INT32, and -1 would change in that"),
    ("11 INT64", echo("INT64"), one("FP64", [1.0, 1.5]), "input 'x', element 1: expected datatype INT64, got FP64, and 1.5 would change in that"),
    ("12 BOOL", echo("BOOL"), one("INT8", [0, 1, 2]), "input 'x', element 2: expected datatype BOOL, got INT8, and 2 would change in that"),
    ("14 none", IRIS, {"inputs": []}, "inputs must be a non-empty array of tensors, got none"),
    ("16 unknown", IRIS, of(tensor(), tensor(name="Y")), "unknown input 'Y'; expected 'X'"),
    ("16 duplicate", IRIS, of(tensor(), tensor()), "duplicate input 'X'"),
    ("16 missing", TWO, of({"name": "b", "datatype": "BYTES", "shape": [1], "data": ["x"]}), "missing input 'a'; expected 'a', 'b', got 'b'"),
    *((f"17 {name}", IRIS, of(tensor(datatype=name)), f"{X}unknown datatype '{name}'; expected FP32") for name in ("FP99", "fp32", "", "BF16")),
    ("18 text", IRIS, of(tensor(datatype="BYTES", data=list("abcd"))), f"{X}expected datatype FP32, got BYTES"),
    ("18 number", echo("BYTES"), one("FP32", [1.5]), "input 'x': expected datatype BYTES, got FP32"),
    ("18 FP64", IRIS, of(tensor(datatype="FP64", data=[1.0, 5.1, 1.0, 1.0])), "input 'X', element 1: expected datatype FP32, got FP64, and 5.1 would change in that; send FP32 (float32) to have it rounded"),
    ("18 INT32", IRIS, of(tensor(datatype="INT32", data=[1, 2, 3, WIDE])), f"input 'X', element 3: expected datatype FP32, got INT32, and {WIDE} would change in that"),
    ("18 INT64", echo("FP64"), one("INT64", [2**53 + 1]), f"input 'x', element 0: expected datatype FP64, got INT64, and {2**53 + 1} would change in that"),
    ("18 UINT64", echo("INT64"), one("UINT64", [2**63]), f"input 'x', element 0: expected datatype INT64, got UINT64, and {2**63} would change in that"),
    ("19 rank", IRIS, of(tensor(shape=[4])), f"{X}expected shape [-1, 4] (-1: any), got [4]"),
    ("19 fixed", IRIS, of(tensor(shape=[2, 2])), f"{X}expected shape [-1, 4] (-1: any), got [2, 2]"),
    ("19 row for column", echo("FP32"), one("FP32", [1.0, 2.0], [1, 2]), "input 'x': expected shape [-1] (-1: any), got [1, 2]"),
    *((f"20 {size}", IRIS, of(tensor(shape=[size, 4])), f"{X}shape must be non-negative integers, dimension 0 is {size}") for size in (-1, -5, -(2**63))),
    *((f"21 {shape}", IRIS, of(tensor(shape=shape)), f"{X}element count too large: shape {shape}, at most {2**31 - 1}") for shape in ([2**31, 4], [2**63 - 1, 4], [2**4, 2**60 + 2], [0, 2**62])),
    ("24 fixed", IRIS, of(tensor(shape=[4, 0], data=[])), f"{X}expected shape [-1, 4] (-1: any), got [4, 0]"),
    ("25", IRIS, of(tensor(shape=[], data=[1.0])), f"{X}expected shape [-1, 4] (-1: any), got []"),
    ("26", echo("FP32", (2, 4)), one("FP32", [0.0] * 12, [3, 4]), "input 'x': expected shape [2, 4] (-1: any), got [3, 4]"),
    ("27 rank", IRIS, of(tensor(shape=[1] * 17)), f"{X}too many dimensions: 17, at most 16"),
    ("27 inputs", IRIS, of(*[tensor()] * 65), "too many inputs: 65, at most 64"),
    ("28 unknown", IRIS, of(outputs=[{"name": "z"}]), "unknown output 'z'; the model has 'label', 'scores'"),
    ("28 duplicate", IRIS, of(outputs=[{"name": "label"}] * 2), "duplicate output 'label'"),
    ("29 classes", IRIS, of(outputs=[output("scores", classification=4)]), "output 'scores': invalid parameter 'classification': 4 of 3 classes"),
    ("29 no class", IRIS, of(outputs=[output("scores", classification=0)]), "output 'scores': invalid parameter 'classification': must be a positive integer, got 0"),
    ("29 text", IRIS, of(outputs=[output("scores", classification="2")]), "output 'scores': invalid parameter 'classification': must be a positive integer, got '2'"),
    ("29 no number", echo("BYTES"), {**one("BYTES", ["a"]), "outputs": [output("y", classification=1)]}, "output 'y': invalid parameter 'classification': an output of BYTES has no highest values"),
    ("29 of a request", IRIS, of(parameters={"classification": 1}), "request: invalid parameter 'classification': not supported"),
    ("29 sequence", IRIS, of(parameters={"sequence_id": 7}), "request: invalid parameter 'sequence_id': not supported"),
    *((f"29 timeout {given}", IRIS, of(parameters={"timeout": given}), f"request: invalid parameter 'timeout': must be a whole number of microseconds, got {quoted(given)}") for given in (-1, 1.5, "7", True)),
    ("30", IRIS, of(id="x" * 1025), "id too long: 1025 bytes, at most 1024"),
    ("30 bytes count", IRIS, of(id="é" * 600), "id too long: 1200 bytes, at most 1024"),
    *((f"40 {key}", IRIS, of(tensor(parameters={key: "r"})), f"inputs[0]: parameter '{key}': shared memory is not supported; send the data itself") for key in ("shared_memory_region", "shared_memory_byte_size")),
    ("40 output", IRIS, of(outputs=[output("label", shared_memory_region="r")]), "outputs[0]: parameter 'shared_memory_region': shared memory is not supported; send the data itself"),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("made", "request_", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_bad_request_is_refused_in_the_same_words_in_every_form(
    made: Model, request_: Request, said: str, form: str
) -> None:
    head, body = FORMS[form](request_)
    assert asked(made, head, body)[:2] == (400, said)


# what a form can get wrong on its own

COUNTS: list[tuple[str, Request, dict[str, str]]] = [
    ("22 too few", tensor(shape=[2, 4]), {
        "json": "shape [2, 4] wants 8 elements, got 4", "typed": "shape [2, 4] wants 8 elements, got 4",
        "binary": "binary size does not match shape: shape [2, 4] of FP32 wants 32 bytes, got 16",
        "raw": "binary size does not match shape: shape [2, 4] of FP32 wants 32 bytes, got 16"}),
    ("22 some for none", tensor(shape=[0, 4]), {
        "json": "shape [0, 4] wants 0 elements, got 4", "typed": "shape [0, 4] wants 0 elements, got 4",
        "binary": "binary size does not match shape: shape [0, 4] of FP32 wants 0 bytes, got 16",
        "raw": "binary size does not match shape: shape [0, 4] of FP32 wants 0 bytes, got 16"}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("given", "said"), [row[1:] for row in COUNTS], ids=[row[0] for row in COUNTS])
def test_another_number_of_elements_than_the_shape_says(given: Request, said: dict[str, str], form: str) -> None:
    assert asked(IRIS, *FORMS[form](of(given)))[:2] == (400, X + said[form])


BYTES = [
    ("36 longer", "BYTES", [1], b"\2\0\0\0a", "element 0: malformed BYTES: 5 bytes are left of its 6"),
    ("36 2^32-1", "BYTES", [1], b"\xff\xff\xff\xff", "element 0: malformed BYTES: 4 bytes are left of its 4294967299"),
    ("36 cut", "BYTES", [1], b"\1\0\0", "element 0: malformed BYTES: its length is not there"),
    ("36 too few", "BYTES", [2], b"\1\0\0\0a", "element 1: malformed BYTES: its length is not there"),
    ("36 too many", "BYTES", [1], b"\0\0\0\0abc", ": malformed BYTES: 3 bytes are left behind the last of 1 elements"),
    ("37", "BOOL", [2], b"\1\2", "element 1: invalid BOOL: a byte must be 0 or 1, got 2"),
    ("34 item", "INT64", [1], b"7 bytes", ": binary size does not match shape: shape [1] of INT64 wants 8 bytes, got 7"),
]  # fmt: skip


@pytest.mark.parametrize("form", ["binary", "raw"])
@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"), [row[1:] for row in BYTES], ids=[row[0] for row in BYTES]
)
def test_bytes_that_are_no_such_tensor(datatype: str, shape: list[int], data: bytes, said: str, form: str) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": shape}
    if form == "raw":
        given = None, Infer(inputs=[tensor], raw_input_contents=[data]).SerializeToString()
    else:
        headers, body = framed({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}, data)
        given = {name.encode(): value.encode() for name, value in headers.items()}, body  # type: ignore[assignment]
    status, text, _ = asked(echo(datatype), *given)
    assert (status, text) == (400, f"input 'x'{said}" if said.startswith(":") else f"input 'x', {said}")


FLAT = {"name": "X", "datatype": "FP32", "shape": [1, 4]}
TYPED = {**FLAT, "contents": {"fp32_contents": FOUR}}
MESSAGES: list[tuple[str, Model, Any, str]] = [
    ("38 two for one", IRIS, Infer(inputs=[FLAT], raw_input_contents=[bytes(16)] * 2), "raw_input_contents must have one entry for each input: 1, got 2"),
    ("38 one for two", TWO, Infer(inputs=[{"name": name} for name in "ab"], raw_input_contents=[b""]), "raw_input_contents must have one entry for each input: 2, got 1"),
    ("38 mixed", IRIS, Infer(inputs=[TYPED], raw_input_contents=[bytes(16)]), f"{X}contents and raw_input_contents must not be mixed"),
    ("38 other field", IRIS, Infer(inputs=[{**FLAT, "contents": {"fp64_contents": FOUR}}]), f"{X}FP32 is sent in fp32_contents, got fp64_contents"),
    ("38 of what is announced", IRIS, Infer(inputs=[{**TYPED, "datatype": "FP64"}]), f"{X}FP64 is sent in fp64_contents, got fp32_contents"),
    ("38 two fields", IRIS, Infer(inputs=[{**FLAT, "contents": {"fp32_contents": FOUR, "int_contents": [1]}}]), f"{X}FP32 is sent in fp32_contents, got int_contents"),
    ("38 FP16", echo("FP16"), Infer(inputs=[{**FLAT, "datatype": "FP16", "contents": {"bytes_contents": [b"ab"]}}]), "input 'x': FP16 has no typed contents; send raw_input_contents"),
    ("38 no contents", IRIS, Infer(inputs=[FLAT]), f"{X}shape [1, 4] wants 4 elements, got 0"),
    *((f"10 {kind} {value}", echo(kind), Infer(inputs=[{"name": "x", "datatype": kind, "shape": [1], "contents": {FIELDS[kind]: [value]}}]), f"input 'x', element 0: {value} is out of range for {kind}") for kind, value in (("INT8", 128), ("INT16", -40_000), ("UINT8", 256), ("UINT16", 65_536))),
]  # fmt: skip


@pytest.mark.parametrize(("made", "message", "said"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES])
def test_messages_whose_contents_do_not_match(made: Model, message: Any, said: str) -> None:
    assert asked(made, None, message.SerializeToString())[:2] == (400, said)


@pytest.mark.parametrize(
    "garbage", [b"\xff", b"\x2a\x01\xff", b"\x2a\x05\xff\xff\xff\xff\xff", b"\x0b", b"\x3a\x05abc"]
)
def test_row_39_garbage_is_the_clients_mistake(garbage: bytes) -> None:
    status, said, _ = asked(IRIS, None, garbage)
    assert (status, said.startswith("not a valid")) == (400, True)


# what is taken in every form

GOOD: list[tuple[str, Model, Request, list[Any]]] = [
    ("INT64 for FP64", echo("FP64"), one("INT64", [2, -(2**53)]), [2.0, -(2.0**53)]),
    ("FP64 for FP32", echo("FP32"), one("FP64", [1.5, -0.25]), [1.5, -0.25]),
    ("FP64 for INT8", echo("INT8"), one("FP64", [1.0, -128.0]), [1, -128]),
    ("BOOL for FP32", echo("FP32"), one("BOOL", [True, False]), [1.0, 0.0]),
    ("INT32 for BOOL", echo("BOOL"), one("INT32", [0, 1]), [False, True]),
    ("UINT64 for INT64", echo("INT64"), one("UINT64", [2**63 - 1]), [2**63 - 1]),
    ("STRING for BYTES", echo("BYTES"), one("STRING", ["a", "é"]), ["a", "é"]),
    ("[N, 1] for [N]", echo("INT64"), one("INT64", [1, 2], [2, 1]), [1, 2]),
    ("[N] for [N, 1]", echo("INT64", (-1, 1)), one("INT64", [1, 2]), [1, 2]),
    ("24 no rows", echo("FP32", (-1, 4)), one("FP32", [], [0, 4]), []),
    ("31 any parameter", echo("FP32"), {**one("FP32", [1.0]), "parameters": {"mine": "x", "timeout": 0}}, [1.0]),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("made", "request_", "values"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_what_stays_the_same_is_taken_in_every_form(
    made: Model, request_: Request, values: list[Any], form: str
) -> None:
    status, said, answer = asked(made, *FORMS[form](request_))
    assert (status, said) == (200, "")
    assert values_in(answer, made.outputs[0].datatype, form) == values


def values_in(answer: Response, datatype: str, form: str) -> list[Any]:
    if form in ("json", "binary"):  # binary in, JSON out
        values: list[Any] = json.loads(answer.body)["outputs"][0]["data"]
        return values
    found = Answer.FromString(answer.body)
    if form == "typed":
        array = np.array(getattr(found.outputs[0].contents, FIELDS[datatype]), DTYPES[datatype])
    else:
        data = found.raw_output_contents[0]
        array = strings(data) if datatype == "BYTES" else np.frombuffer(data, DTYPES[datatype])
    return [value.decode() if isinstance(value, bytes) else value for value in array.tolist()]
