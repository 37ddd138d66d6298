"""The table of trust rules for JSON over HTTP: every row through a real server, first and later on a connection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.base import TensorSpec
from runtime.errors import InputAtFault, TooLarge
from runtime.link.limits import Limits
from runtime.serving.protocol.v2.decode import decode
from tests.serving.support import BODY, INFER, Served, app_of, echo, iris_like, model, serving
from tests.serving.wire import Wire, ask, request

LIMITS = Limits(body_bytes=200_000)
TYPES = ("INT8", "UINT8", "INT64", "UINT64", "FP16", "FP32", "FP64", "BOOL", "BYTES")


@pytest.fixture(scope="module")
def iris() -> Iterator[Served]:
    with serving(model(), limits=LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def typed() -> Iterator[Served]:
    """One model with an optional input of each datatype, beside a required one."""
    inputs = tuple(TensorSpec(name.lower(), name, (-1,), optional=True) for name in TYPES)
    outputs = (TensorSpec("count", "INT64", ()),)
    counting = model(_count, inputs=(TensorSpec("x", "FP32", ()), *inputs), outputs=outputs, labels=None)
    with serving(counting, limits=LIMITS) as served:
        yield served


def _count(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    import numpy as np

    return {"count": np.array(len(arrays), np.int64)}


def tensor(**changes: Any) -> dict[str, Any]:
    fields = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2], **changes}
    return {key: value for key, value in fields.items() if value is not ...}


def body(*inputs: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **members}).encode()


def of(**changes: Any) -> bytes:
    return body(tensor(**changes))


def patched(old: bytes, new: bytes) -> bytes:
    assert old in BODY
    return BODY.replace(old, new)


ROWS = [
    # 1
    pytest.param(b"", "not valid JSON", id="1 empty"),
    pytest.param(b"{", "not valid JSON", id="1 open"),
    pytest.param(BODY[:-1] + b",}", "not valid JSON", id="1 trailing comma"),
    pytest.param(BODY + b"x", "not valid JSON", id="1 garbage behind"),
    pytest.param(BODY + BODY, "not valid JSON", id="1 two documents"),
    pytest.param(b"inputs=1", "not valid JSON", id="1 form"),
    # 2
    *(pytest.param(text, "request must be a JSON object", id=f"2 {text.decode()}") for text in (b"null", b"[]", b'"x"', b"1", b"true")),
    # 3
    pytest.param(b"\xff" + BODY, "not UTF-8", id="3 ff"),
    pytest.param(patched(b'"X"', b'"\xc3("'), "not UTF-8", id="3 in a string"),
    pytest.param(b"\xef\xbb\xbf" + BODY, "not UTF-8", id="3 BOM"),
    pytest.param(BODY.decode().encode("utf-16"), "not UTF-8", id="3 UTF-16"),
    pytest.param(BODY.decode().encode("utf-16-le"), "not UTF-8", id="3 UTF-16 without BOM"),
    pytest.param(BODY.decode().encode("utf-32"), "not UTF-8", id="3 UTF-32"),
    # 4
    pytest.param(BODY[:-1] + rb',"id":"\ud800"}', "invalid string", id="4 id"),
    pytest.param(patched(b'"X"', rb'"\udfff"'), "invalid string", id="4 name"),
    pytest.param(patched(b"5.1", rb'"\ud800x"'), "invalid string", id="4 data"),
    # 5
    *(pytest.param(b'{"inputs":' + b"[" * n + b"]" * n + b"}", "nesting deeper than 64", id=f"5 closed {n}") for n in (65, 1000, 60_000)),
    *(pytest.param(b"[" * n, "nesting deeper than 64", id=f"5 open {n}") for n in (65, 1025, 190_000)),
    pytest.param(b'{"a":' * 20_000, "nesting deeper than 64", id="5 objects"),
    pytest.param(b'{"\\"[":' + b'"]]"' + b',"a":' + b"[" * 64 + b"]" * 64 + b"}", "nesting deeper than 64", id="5 brackets in strings"),
    # 6
    pytest.param(BODY[:-1] + b',"inputs":[]}', "duplicate key: 'inputs'", id="6 inputs"),
    pytest.param(patched(b'"shape":[1,4]', b'"shape":[1,4],"shape":[1,4]'), "duplicate key: 'shape'", id="6 shape"),
    pytest.param(BODY[:-1] + b',"id":"a:b","x":{"a":1,"a":2}}', "duplicate key: 'a'", id="6 in an unknown member"),
    pytest.param(BODY[:-1] + rb',"id":"\":","id":"2"}', "duplicate key: 'id'", id="6 colon in a string"),
    pytest.param(BODY[:-1] + b',"parameters":{"p":1,"p":2}}', "duplicate key: 'p'", id="6 parameter"),
    pytest.param(BODY[:-1] + rb',"i\u0064":"1","id":"2"}', "duplicate key: 'id'", id="6 escaped"),
    # 7
    *(pytest.param(patched(b"5.1", token), "NaN and Infinity are not JSON", id=f"7 {token.decode()}") for token in (b"NaN", b"Infinity", b"-Infinity")),
    # 8
    pytest.param(patched(b"5.1", b"1e400"), "out of range", id="8 1e400"),
    pytest.param(patched(b"5.1", b"-1e400"), "out of range", id="8 -1e400"),
    pytest.param(patched(b"5.1", b"1e39"), "element 0: 1e+39 is out of range for FP32", id="8 1e39"),
    pytest.param(patched(b"0.2", b"-1e39"), "element 3: -1e+39 is out of range for FP32", id="8 -1e39"),
    pytest.param(of(shape=[100, 4], data=[0.0] * 399 + [1e39]), "element 399: 1e+39 is out of range", id="8 among many"),
    pytest.param(of(data=[None, 1.0, -1e39, 1.0]), "element 2: -1e+39 is out of range", id="8 beside null"),
    # 9
    *(pytest.param(patched(b"5.1", b"9" * n), "out of range", id=f"9 {n} digits") for n in (40, 5000, 150_000)),
    # 11 for floats
    pytest.param(of(data=[1.0, "7", 1.0, 1.0]), "element 1: FP32 wants a number or null, got '7' (wrong element type)", id="11 text"),
    pytest.param(of(data=[1.0, True, 1.0, 1.0]), "element 1: FP32 wants a number or null, got true", id="11 true"),
    pytest.param(of(data=[1.0, {"a": 1}, 1.0, 1.0]), "element 1: FP32 wants a number or null, got an object", id="11 object"),
    # 14
    pytest.param(b"{}", "inputs must be a non-empty array of tensors, got nothing", id="14 missing"),
    *(pytest.param(b'{"inputs":%b}' % text, "inputs must be a non-empty array", id=f"14 {text.decode()}") for text in (b"[]", b"{}", b'"x"', b"1", b"null")),
    *(pytest.param(body(entry), "inputs[0] must be an object", id=f"14 of {entry!r}") for entry in (None, 1, "x", [])),
    # 15
    *(pytest.param(of(**{field: ...}), f"has no {field}", id=f"15 no {field}") for field in ("name", "shape", "datatype", "data")),
    pytest.param(of(name=3), "inputs[0]: name must be a string, got a number", id="15 name number"),
    pytest.param(of(name=None), "inputs[0]: name must be a string, got null", id="15 name null"),
    pytest.param(of(data=None), "data must be an array, got null", id="15 data null"),
    pytest.param(of(data="abc"), "data must be an array, got a string", id="15 data text"),
    pytest.param(of(data={"0": 1}), "data must be an array, got an object", id="15 data object"),
    # 16
    pytest.param(body(tensor(), tensor(name="Y")), "unknown input 'Y'; expected 'X'", id="16 one too many"),
    pytest.param(body(tensor(), tensor()), "duplicate input 'X'", id="16 twice"),
    # 17
    *(pytest.param(of(datatype=d), f"unknown datatype {d!r}; expected FP32", id=f"17 {d}") for d in ("FP99", "fp32", "", "float32", "BF16")),
    *(pytest.param(of(datatype=d), "unknown datatype", id=f"17 {d}") for d in (None, 32, ["FP32"])),
    # 18
    pytest.param(of(datatype="BYTES"), "expected datatype FP32, got BYTES", id="18 BYTES"),
    pytest.param(of(datatype="FP64"), "element 0: expected datatype FP32, got FP64, and 5.1 would change in that; send FP32 (float32) to have it rounded", id="18 FP64"),
    pytest.param(of(datatype="INT32"), "element 0: INT32 wants a whole number, got 5.1 (wrong element type)", id="18 INT32"),
    pytest.param(of(datatype="INT32", data=[1, 2, 3, 2**24 + 1]), "element 3: expected datatype FP32, got INT32, and 16777217 would change", id="18 long INT32"),
    pytest.param(of(datatype="STRING"), "expected datatype FP32, got BYTES", id="18 STRING"),
    # 19
    pytest.param(of(shape=[4]), "expected shape [-1, 4] (-1: any), got [4]", id="19 rank 1"),
    pytest.param(of(shape=[1, 1, 4]), "expected shape [-1, 4] (-1: any), got [1, 1, 4]", id="19 rank 3"),
    pytest.param(of(shape=[2, 2]), "expected shape [-1, 4] (-1: any), got [2, 2]", id="19 fixed"),
    pytest.param(of(shape=[]), "expected shape [-1, 4] (-1: any), got []", id="25 scalar"),
    pytest.param(of(shape=[4, 0], data=[]), "expected shape [-1, 4]", id="24 zero in a fixed dimension"),
    # 20
    *(pytest.param(of(shape=[s, 4]), "shape must be non-negative integers, dimension 0 is", id=f"20 {s!r}") for s in (-1, -5, 1.5, "3", None, True, [1])),
    *(pytest.param(of(shape=s), "shape must be an array of non-negative integers", id=f"20 shape {s!r}") for s in (None, 4, "1,4", {})),
    # 21
    *(pytest.param(of(shape=[s, 4]), "element count too large", id=f"21 {s}") for s in (2**31, 2**63, 2**64, 2**80)),
    pytest.param(of(shape=[2**4, 2**60 + 2]), "element count too large", id="21 product wraps"),
    pytest.param(of(shape=[0, 2**62], data=[]), "element count too large", id="21 hidden behind a zero"),
    pytest.param(of(shape=[2**20, 2**20, 2**20, 0], data=[]), "element count too large", id="21 product behind a zero"),
    # 22
    pytest.param(of(shape=[2, 4]), "shape [2, 4] wants 8 elements, got 4", id="22 too few"),
    pytest.param(of(data=[1.0] * 5), "shape [1, 4] wants 4 elements, got 5", id="22 too many"),
    pytest.param(of(data=[]), "shape [1, 4] wants 4 elements, got 0", id="22 none"),
    pytest.param(of(shape=[0, 4]), "shape [0, 4] wants 0 elements, got 4", id="22 some for none"),
    # 23
    pytest.param(of(shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]]), "data does not match shape [2, 4]", id="23 ragged"),
    pytest.param(of(shape=[2, 4], data=[[1, 2], [3, 4], [5, 6], [7, 8]]), "data does not match shape [2, 4]", id="23 other nesting"),
    pytest.param(of(shape=[1, 4], data=[[[1, 2, 3, 4]]]), "data does not match shape [1, 4]", id="23 too deep"),
    pytest.param(of(data=[[1, 2, 3], 4]), "data does not match shape [1, 4]", id="23 list then number"),
    pytest.param(of(data=[1, [2], 3, 4]), "data does not match shape", id="23 number then list"),
    # 27
    *(pytest.param(of(shape=[1] * n), f"too many dimensions: {n}, at most 16", id=f"27 rank {n}") for n in (17, 100, 10_000)),
    *(pytest.param(body(*[{}] * n), f"too many inputs: {n}, at most 64", id=f"27 {n} inputs") for n in (65, 20_000)),
    # 28
    pytest.param(body(tensor(), outputs=[{"name": "nope"}]), "unknown output 'nope'; the model has 'label', 'scores'", id="28 unknown"),
    pytest.param(body(tensor(), outputs=[{"name": "label"}] * 2), "duplicate output 'label'", id="28 twice"),
    pytest.param(body(tensor(), outputs={}), "outputs must be an array of objects, got an object", id="28 object"),
    pytest.param(body(tensor(), outputs=["label"]), "outputs[0] must be an object, got a string", id="28 text"),
    pytest.param(body(tensor(), outputs=[{}]), "outputs[0] has no name", id="28 no name"),
    pytest.param(body(tensor(), outputs=[{"name": 1}]), "outputs[0]: name must be a string", id="28 name number"),
    # 29
    *(pytest.param(body(tensor(), parameters=p), "request: parameters must be an object", id=f"29 {p!r}") for p in ([], "x", 1)),
    pytest.param(body(tensor(parameters=[])), "inputs[0]: parameters must be an object", id="29 of an input"),
    pytest.param(body(tensor(), outputs=[{"name": "label", "parameters": {"classification": 99}}]), "invalid parameter 'classification'", id="29 classification"),
    pytest.param(body(tensor(), parameters={"sequence_id": 7}), "invalid parameter 'sequence_id'", id="29 sequence"),
    # 30
    pytest.param(body(tensor(), id="x" * 1025), "id too long: 1025 bytes, at most 1024", id="30 1025"),
    pytest.param(body(tensor(), id="é" * 600), "id too long: 1200 bytes", id="30 bytes count"),
    pytest.param(body(tensor(), id="x" * 150_000), "id too long", id="30 huge"),
    *(pytest.param(body(tensor(), id=i), "id must be a string", id=f"30 {i!r}") for i in (7, [], {}, True)),
    # 33, 40
    pytest.param(body(tensor(data=..., parameters={"binary_data_size": 16})), "binary_data_size needs the header Inference-Header-Content-Length", id="33 no header"),
    pytest.param(body(tensor(data=..., parameters={"shared_memory_region": "r"})), "shared memory is not supported", id="40 input"),
    pytest.param(body(tensor(), outputs=[{"name": "label", "parameters": {"shared_memory_region": "r"}}]), "shared memory is not supported", id="40 output"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "said"), ROWS)
def test_a_bad_body_is_refused_wherever_it_comes_and_the_next_request_is_answered(iris: Served, bad: bytes, said: str):
    good = request()
    first, middle, last = ask(iris.port, request(body=bad), good, request(body=bad))
    for refusal in (first, last):
        assert refusal.status == 400
        assert said in refusal.error
        message = refusal.error.partition("; a body that passes: ")[0]
        assert len(message.encode()) <= 512
    assert middle.status == 200
    assert middle.json["outputs"][0]["data"] == [0]


OF_A_TYPE = [
    # 8, 10
    ("FP16", [70000], "element 0: 70000 is out of range for FP16"),
    ("FP16", [1, -65520], "element 1: -65520 is out of range for FP16"),
    ("INT8", [300], "element 0: 300 is out of range for INT8"),
    ("INT8", [0, -129], "element 1: -129 is out of range for INT8"),
    ("UINT8", [5, 6, -1], "element 2: -1 is out of range for UINT8"),
    ("UINT8", [256], "element 0: 256 is out of range for UINT8"),
    ("INT64", [2**63], "element 0: 9223372036854775808 is out of range for INT64"),
    ("INT64", [-(2**63) - 1], "element 0: -9.223372036854776e+18 is out of range for INT64"),
    ("INT64", [float(2**53 + 2)], "is out of range for INT64 or not exact"),
    ("UINT64", [2**64], "element 0: 1.8446744073709552e+19 is out of range for UINT64"),
    ("UINT64", [1, -1], "element 1: -1 is out of range for UINT64"),
    # 11
    ("INT64", [1, 1.5], "element 1: INT64 wants a whole number, got 1.5 (wrong element type)"),
    ("INT64", ["7"], "element 0: INT64 wants a whole number, got '7' (wrong element type)"),
    ("INT64", [True], "element 0: INT64 wants a whole number, got true (wrong element type)"),
    ("INT8", [None], "element 0: INT8 wants a whole number, got null (wrong element type)"),
    ("UINT8", [1, [2]], "data does not match shape"),
    # 12
    ("BOOL", [2], "element 0: BOOL wants true, false, 0 or 1, got 2 (wrong element type)"),
    ("BOOL", ["true"], "element 0: BOOL wants true, false, 0 or 1, got 'true' (wrong element type)"),
    ("BOOL", [1.0], "element 0: BOOL wants true, false, 0 or 1, got 1.0 (wrong element type)"),
    ("BOOL", [True, None], "element 1: BOOL wants true, false, 0 or 1, got null (wrong element type)"),
    # 13
    ("BYTES", ["a", 1], "element 1: BYTES wants a string, got 1 (wrong element type)"),
    ("BYTES", [None], "element 0: BYTES wants a string, got null (wrong element type)"),
    ("BYTES", [b"x".hex(), ["y"]], "data does not match shape"),
    ("BYTES", [{}], "element 0: BYTES wants a string, got an object (wrong element type)"),
]


@pytest.mark.parametrize(("datatype", "data", "said"), OF_A_TYPE, ids=[f"{t} {d}" for t, d, _ in OF_A_TYPE])
def test_an_element_that_its_datatype_cannot_hold_is_named(typed: Served, datatype: str, data: list[Any], said: str):
    x = tensor(name="x", shape=[], data=[1.0])
    wrong = tensor(name=datatype.lower(), datatype=datatype, shape=[len(data)], data=data)
    (refusal,) = ask(typed.port, request(body=body(x, wrong)))
    assert refusal.status == 400
    assert said in refusal.error


def test_a_missing_required_input_is_named(typed: Served):
    (refusal,) = ask(typed.port, request(body=body(tensor(name="int8", datatype="INT8", shape=[1], data=[1]))))
    assert "missing input 'x'; expected 'x', 'int8'" in refusal.error


GOOD = [
    pytest.param(BODY, id="plain"),
    pytest.param(b" \r\n\t" + BODY + b"\n", id="white space around"),
    pytest.param(patched(b'"X"', b'"anything"'), id="16 one input may have any name"),
    pytest.param(of(data=[[5.1, 3.5, 1.4, 0.2]]), id="nested"),
    pytest.param(of(data=[5, 3, 1, 0]), id="integers"),
    pytest.param(of(data=[None, 3.5, 1.4, 0.2]), id="null is NaN"),
    pytest.param(of(data=["NaN", "Infinity", "-Infinity", 0.2]), id="names of numbers that JSON has not"),
    pytest.param(body(tensor(), parameters=None, outputs=[{"name": "label", "parameters": None}]), id="null is absent"),
    pytest.param(body(tensor(parameters=None), parameters={"content_type": None}), id="null is absent in parameters"),
    pytest.param(body(tensor(parameters={"a": [1]}), parameters={"headers": {"a": "b"}}), id="lists and objects are ignored"),
    pytest.param(body(tensor(), outputs=[{"name": "label", "parameters": {"content_type": {"a": []}}}]), id="of an output, too"),
    pytest.param(BODY[:-1] + b',"model_name":"other","extra":{"a":[{"b":"c:d"}]}}', id="31 unknown members"),
    pytest.param(body(tensor(), parameters={"binary_data_output": False, "mine": "x"}), id="harmless parameters"),
    pytest.param(of(datatype="INT32", data=[5, 3, 1, 0]), id="whole numbers for FP32"),
    pytest.param(of(datatype="FP64", data=[5.5, 3.25, 1, None]), id="doubles that are FP32 as well"),
    pytest.param(of(datatype="BOOL", data=[True, False, 1, 0]), id="booleans for FP32"),
    pytest.param(body(tensor(), outputs=[{"name": "scores", "parameters": {"binary_data": False}}, {"name": "label"}]), id="outputs"),
    pytest.param(body(tensor(), outputs=[]), id="no outputs asked"),
    pytest.param(body(tensor(), outputs=None), id="null is no outputs asked"),
    pytest.param(body(tensor(), id="a\nb\0c \U0001f600:{}"), id="30 odd id"),
    pytest.param(body(tensor(), id=""), id="30 empty id"),
    pytest.param(body(tensor(), parameters={"a": "b:c"}, extra=[[{"d": ":"}]]), id="6 colons that are no keys'"),
    pytest.param(of(shape=[300, 4], data=[[1.0, 2.0, 3.0, 4.0]] * 300), id="many brackets"),
]  # fmt: skip


@pytest.mark.parametrize("good", GOOD)
def test_a_body_that_the_protocol_allows_is_answered(iris: Served, good: bytes):
    (answer,) = ask(iris.port, request(body=good))
    assert answer.status == 200
    asked = json.loads(good)
    assert answer.json["id"] == asked.get("id", answer.json["id"])
    wanted = [output["name"] for output in asked.get("outputs") or ()] or ["label", "scores"]
    assert [output["name"] for output in answer.json["outputs"]] == wanted


def test_an_empty_batch_is_the_models_own_matter(iris: Served):
    """Row 24: this model cannot take the argmax of nothing for its rows, but it can of no rows."""
    (answer,) = ask(iris.port, request(body=of(shape=[0, 4], data=[])))
    assert answer.status == 200
    assert [output["shape"] for output in answer.json["outputs"]] == [[0], [0, 3]]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (1, "inputs[1] must be an object, got a number"),
        ({"shape": [1]}, "inputs[1] has no name; an input has name, shape, datatype, data"),
        ({"name": ["int8"]}, "inputs[1]: name must be a string, got an array"),
    ],
)
def test_of_several_inputs_the_one_at_fault_is_named(typed: Served, second: Any, said: str):
    (refusal,) = ask(typed.port, request(body=body(tensor(name="x", shape=[], data=[1.0]), second)))
    assert (refusal.status, refusal.error.partition("; a body")[0].partition("; GET")[0]) == (400, said)


@pytest.mark.parametrize(
    ("piece", "error", "said"),
    [
        ("0.5", InputAtFault, "inputs[0] must be an object"),
        ("{}", TooLarge, "body too large: read as JSON it would take"),
    ],
)
def test_of_a_long_body_without_tensors_that_is_said_and_not_its_length(piece: str, error: type[Exception], said: str):
    served = app_of(model(), limits=Limits(json_bytes=1000), warm=False).model
    with pytest.raises(error, match=re.escape(said)):
        decode({}, f'{{"inputs": [{",".join([piece] * 1000)}]}}'.encode(), served)


def test_an_id_that_is_null_is_none(iris: Served):
    (answer,) = ask(iris.port, request(body=body(tensor(), id=None), headers={"X-Request-Id": "mine"}))
    assert (answer.status, answer.json["id"]) == (200, "mine")


def test_a_scalar_is_shape_of_nothing_with_one_element(typed: Served):
    (answer,) = ask(typed.port, request(body=body(tensor(name="x", shape=[], data=[1.0]))))
    assert answer.json["outputs"][0] == {"name": "count", "datatype": "INT64", "shape": [], "data": [1]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/other/infer", 404),
        ("/v2/models/iris/versions/v2/infer", 404),
        ("/v2/models/iris/versions/-1/infer", 404),
        ("/v2/models/iris/versions/1/2/infer", 404),
        ("/v2/models/iris/versions//infer", 404),
        ("/v2/models/%2e%2e%2firis/infer", 404),
        ("/v2/models/iris%00/infer", 404),
        ("/v2/models/iris%ff/infer", 404),
        ("/v2/models/" + "x" * 10_000 + "/infer", 414),
        ("//v2/models/iris/infer", 404),
        ("/V2/models/iris/infer", 404),
        ("/v2/../v2/models/iris/infer", 404),
        ("/v2/models/iris/infer;x", 404),
        ("/v2/models/iris/infer/", 404),
        ("http://localhost/v2/models/iris/infer", 200),
        ("/v2/models/iris/infer?query=1", 200),
        ("/v2/models/%69ris/infer", 200),
        ("/v2/models/iris/versions/v1/infer", 200),
        ("/v2/models/iris/versions/1/infer", 200),
    ],
)
def test_rows_41_to_43_paths(iris: Served, path: str, status: int):
    (answer,) = ask(iris.port, request(path=path))
    assert answer.status == status
    assert status == 200 or len(answer.error) < 512


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Content-Type": "text/xml"}, 415, "unsupported content type 'text/xml'"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415, "unsupported content type"),
        ({"Content-Type": "text/csv"}, 415, "unsupported content type"),
        ({"Content-Type": "application/vnd.apache.arrow.stream"}, 415, "unsupported content type"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported charset 'utf-16'"),
        ({"Content-Type": "text/plain;charset=latin1"}, 415, "unsupported charset"),
        ({"Content-Encoding": "gzip"}, 400, "body is not gzip, as Content-Encoding says"),
        (
            {"Content-Encoding": "zstd"},
            415,
            "unsupported content encoding 'zstd'; send gzip, deflate, or the body as it is",
        ),
        ({"Content-Encoding": "br"}, 415, "unsupported content encoding"),
        ({"Content-Encoding": "identity, gzip"}, 415, "unsupported content encoding"),
        ({"Inference-Header-Content-Length": "10"}, 400, "not valid JSON"),
        *(
            ({"Inference-Header-Content-Length": n}, 400, "invalid header Inference-Header-Content-Length")
            for n in ("-1", "abc", "1e3", "+5", "", "9" * 11, "9" * 30, "10000", "0x52", "\xb2")
        ),
        (
            {"Inference-Header-Content-Length": "82", "inference-header-content-length": "82"},
            400,
            "invalid header Inference-Header-Content-Length '82, 82'",
        ),
        ({"Inference-Header-Content-Length": "82"}, 200, ""),
        ({"Content-Type": 'application/json; charset="UTF-8"'}, 200, ""),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 200, ""),
        ({"Content-Type": "nonsense"}, 200, ""),
        ({"Content-Encoding": "identity"}, 200, ""),
        ({"Accept": "text/html"}, 200, ""),
        ({"Accept": "application/json;q=0"}, 200, ""),
        ({"Expect": "100-continue"}, 200, ""),
    ],
)
def test_rows_47_to_49_and_68_headers(iris: Served, headers: dict[str, str], status: int, said: str):
    with Wire(iris.port) as wire:
        for _ in range(2):
            answer = wire.send(request(headers=headers)).answer()
            if answer.status == 100:
                answer = wire.answer()
            assert answer.status == status
            assert status == 200 or said in answer.error
        assert ("accept-encoding" in answer.headers) == ("Content-Encoding" in headers and status == 415)


def test_row_67_nan_is_null_and_infinities_are_named():
    with serving(echo("FP32")) as served:
        (answer,) = ask(served.port, request(body=body(tensor(name="x", shape=[3], data=[None, 1.5, 2]))))
        assert answer.json["outputs"][0]["data"] == [None, 1.5, 2.0]


def test_every_error_about_inputs_shows_a_body_that_passes_and_it_does(iris: Served, typed: Served):
    for served in (iris, typed):
        (refusal,) = ask(served.port, request(body=b'{"inputs":[]}'))
        shown = refusal.error.partition("; a body that passes: ")[2]
        (answer,) = ask(served.port, request(body=shown.encode()))
        assert answer.status == 200


def test_a_long_example_is_not_shown_but_pointed_at():
    wide = model(iris_like, inputs=(TensorSpec("X", "FP32", (-1, 3000)),))
    with serving(wide, warm=False) as served:
        (refusal,) = ask(served.port, request(body=b"{}"))
        assert refusal.error.endswith("; GET /v2/models/iris shows what the model takes")


def test_client_text_in_an_error_is_escaped_and_cut(iris: Served):
    name = 'evil"\n\x1b[31m' + "é" * 10_000
    (refusal,) = ask(iris.port, request(body=body(tensor(), tensor(name=name))))
    message = refusal.error.partition("; a body that passes: ")[0]
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 120


def test_the_path_in_an_error_is_escaped_and_cut(iris: Served):
    (refusal,) = ask(iris.port, request(path="/%0a%1b%e2%80%ae" + "x" * 500))
    assert refusal.error.isprintable()
    assert len(refusal.error) < 120


def test_no_refusal_names_anything_of_the_inside(iris: Served):
    refused = [ask(iris.port, request(body=bad))[0].error for bad in (b"", b"[" * 70, b"{}", b"\xff", INFER.encode())]
    for text in refused:
        assert not any(word in text for word in ("Traceback", "Error", "orjson", "numpy", "/work", ".py"))
