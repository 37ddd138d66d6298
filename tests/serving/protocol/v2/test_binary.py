"""Binary tensors over a real server: what is read, what is refused, and what comes back."""

from __future__ import annotations

import asyncio
import json
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.link.limits import Limits
from runtime.serving.statuses import Response
from runtime.serving.wording import quoted
from tests.serving.protocol.v2.tensors import HEADER, framed, objects, outputs, raw, tensor
from tests.serving.support import BODY, Served, app_of, echo, model, serving
from tests.serving.wire import Answer, Wire, ask, request

X = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
BIG = np.arange(150_528, dtype=np.float32).reshape(1, 3, 224, 224)
BINARY = {"binary_data_output": True}


@pytest.fixture(scope="module")
def iris() -> Iterator[Served]:
    with serving(model()) as served:
        yield served


@pytest.fixture(scope="module")
def typed() -> Iterator[Served]:
    """An optional input of each kind, given back as it came, beside a required one."""
    kinds = ("BYTES", "BOOL", "FP16", "INT64")
    inputs = (TensorSpec("x", "FP32", ()), *(TensorSpec(kind.lower(), kind, (-1,), optional=True) for kind in kinds))
    made = tuple(TensorSpec(f"y_{spec.name}", spec.datatype, spec.shape) for spec in inputs)
    back = model(_back, inputs=inputs, outputs=made, labels=None)
    with serving(back) as served:
        yield served


def _back(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    kinds = {"y_bytes": object, "y_bool": bool, "y_fp16": np.float16, "y_int64": np.int64}
    return {
        name: arrays[key] if (key := name.removeprefix("y_")) in arrays else np.zeros(0, kinds[name]) for name in wanted
    }


def sent(document: Any, *data: bytes, **headers: str) -> bytes:
    own, body = framed(document, *data)
    return request(body=body, headers={**own, **headers})


def read(answer: Answer) -> dict[str, Any]:
    headers = tuple((name.encode(), value.encode()) for name, value in answer.headers.items())
    return outputs(Response(answer.status, headers, answer.body))


def test_binary_in_and_out(iris: Served):
    document = {"inputs": [tensor("X", "FP32", X, binary=True)], "id": "a", "parameters": BINARY}
    for answer in ask(iris.port, *[sent(document, raw(X))] * 3):
        length = int(answer.headers[HEADER])
        assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert json.loads(answer.body[:length]) == {
            "model_name": "iris", "model_version": "v1", "id": "a",
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
                {"name": "scores", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}},
            ],
        }  # fmt: skip
        assert answer.body[length:] == struct.pack("<q", 0) + X.sum(axis=1).tobytes() + struct.pack("<2f", 5.1, 0.2)


@pytest.mark.parametrize(
    ("whole", "own", "binary"),
    [
        (None, [None, None], []),
        (True, [None, None], ["label", "scores"]),
        (True, [False, None], ["scores"]),
        (None, [True, None], ["label"]),
        (False, [None, True], ["scores"]),
        (False, None, []),
        (True, None, ["label", "scores"]),
    ],
)
def test_each_output_comes_as_it_is_asked(iris: Served, whole: bool | None, own: Any, binary: list[str]):
    document: dict[str, Any] = json.loads(BODY)
    if whole is not None:
        document["parameters"] = {"binary_data_output": whole}
    if own is not None:
        document["outputs"] = [{"name": name, **({} if flag is None else {"parameters": {"binary_data": flag}})}
                               for name, flag in zip(("label", "scores"), own, strict=True)]  # fmt: skip
    (answer,) = ask(iris.port, request(body=json.dumps(document).encode()))
    text = answer.body[: int(answer.headers.get(HEADER, len(answer.body)))]
    assert [output["name"] for output in json.loads(text)["outputs"] if "data" not in output] == binary
    assert answer.headers["content-type"] == ("application/octet-stream" if binary else "application/json")
    found = read(answer)
    assert found["label"].tolist() == [0]
    assert found["scores"].tolist() == [[X.sum(), X.max(), X.min()]]


def test_both_forms_and_every_kind_in_one_request(typed: Served):
    given = {
        "bytes": ("BYTES", objects([b"", b"\xff\xfe", "naïve".encode()]), True),
        "x": ("FP32", np.array(1.5, np.float32), False),
        "bool": ("BOOL", np.array([True, False, True]), True),
        "fp16": ("FP16", np.array([65504, -0.0, np.nan], np.float16), True),
        "int64": ("INT64", np.array([-(2**63), 2**63 - 1]), True),
    }
    document = {"inputs": [tensor(name, kind, array, binary=binary) for name, (kind, array, binary) in given.items()],
                "parameters": BINARY}  # fmt: skip
    (answer,) = ask(typed.port, sent(document, *(raw(array) for _, array, binary in given.values() if binary)))
    for name, (_, array, _) in given.items():
        assert raw(read(answer)[f"y_{name}"]) == raw(array)


def test_nothing_is_no_bytes_and_an_answer_of_nothing_is_json(iris: Served):
    empty = np.zeros((0, 4), np.float32)
    (answer,) = ask(iris.port, sent({"inputs": [tensor("X", "FP32", empty, binary=True)], "parameters": BINARY}))
    assert (answer.status, answer.headers["content-type"], HEADER in answer.headers) == (200, "application/json", False)
    assert [output["parameters"] for output in answer.json["outputs"]] == [{"binary_data_size": 0}] * 2


@pytest.mark.parametrize("kind", ["FP32", "BYTES"])
def test_the_size_may_be_left_out_where_it_is_known(typed: Served, kind: str):
    array = objects([b"a", b"bc"]) if kind == "BYTES" else np.array(2.5, np.float32)
    x = tensor("x", "FP32", np.array(2.5, np.float32), binary=False)
    one = {
        key: value
        for key, value in tensor("bytes" if kind == "BYTES" else "x", kind, array, binary=True).items()
        if key != "parameters"
    }
    document = {"inputs": [x, one] if kind == "BYTES" else [one], "parameters": BINARY}
    (answer,) = ask(typed.port, sent({**document, "outputs": [{"name": f"y_{one['name']}"}]}, raw(array)))
    assert raw(read(answer)[f"y_{one['name']}"]) == raw(array)


def bad(kind: str, sent: bytes, shape: list[int], size: Any = ..., **more: Any) -> tuple[Any, bytes]:
    one = {
        "name": kind.lower(),
        "datatype": kind,
        "shape": shape,
        "parameters": {"binary_data_size": len(sent) if size is ... else size},
        **more,
    }
    return {"inputs": [tensor("x", "FP32", np.array(1, np.float32), binary=False), one]}, sent


REFUSED = [
    # 33
    *(pytest.param(bad("INT64", b"8 bytes.", [1], size), f"binary_data_size must be a whole number of bytes, got {quoted(size)}", id=f"33 {size!r}") for size in (-1, 8.0, "8", True)),
    pytest.param(bad("INT64", b"8 bytes.", [1], 2**70), "a whole number of bytes, got 1.1805", id="33 2^70"),
    pytest.param(bad("INT64", b"8 bytes.", [1], 9), "input 'int64': binary size mismatch: binary_data_size is 9, 8 bytes are left", id="33 more than there is"),
    pytest.param(bad("INT64", b"8 bytes.+", [1], 8), "binary size mismatch: 1 bytes are left behind the last input", id="33 some left"),
    pytest.param(bad("INT64", b"", [1], 8), "binary_data_size is 8, 0 bytes are left", id="33 nothing there"),
    # 34
    pytest.param(bad("INT64", b"7 bytes", [1]), "binary size does not match shape: shape [1] of INT64 wants 8 bytes, got 7", id="34 item"),
    pytest.param(bad("INT64", b"16 bytes16 bytes", [1]), "shape [1] of INT64 wants 8 bytes, got 16", id="34 shape"),
    pytest.param(bad("INT64", b"8 bytes.", [0]), "shape [0] of INT64 wants 0 bytes, got 8", id="34 none"),
    pytest.param(bad("INT64", b"8 bytes.", [2**62]), "element count too large", id="21 binary"),
    pytest.param(bad("FP64", b"8 bytes.", [1]), "unknown input 'fp64'", id="16 binary"),
    # 35
    pytest.param(bad("INT64", b"8 bytes.", [1], data=[1]), "ambiguous data: it has both data and binary_data_size", id="35 both"),
    # 36
    pytest.param(bad("BYTES", b"\2\0\0\0a", [1]), "input 'bytes', element 0: malformed BYTES: 5 bytes are left of its 6", id="36 longer"),
    pytest.param(bad("BYTES", b"\xff\xff\xff\xffa", [1]), "element 0: malformed BYTES: 5 bytes are left of its 4294967299", id="36 2^32-1"),
    pytest.param(bad("BYTES", b"\1\0\0", [1]), "element 0: malformed BYTES: its length is not there", id="36 cut"),
    pytest.param(bad("BYTES", b"\1\0\0\0a\1\0\0\0", [2]), "element 1: malformed BYTES", id="36 second"),
    pytest.param(bad("BYTES", b"\1\0\0\0a", [2]), "element 1: malformed BYTES: its length is not there", id="36 too few"),
    pytest.param(bad("BYTES", b"\1\0\0\0a", [2**31 - 1]), "element 1: malformed BYTES", id="36 far too few"),
    pytest.param(bad("BYTES", b"\0\0\0\0\1\0\0\0a", [1]), "malformed BYTES: 5 bytes are left behind the last of 1 elements", id="36 too many"),
    # 37, and what a datatype makes of another's bytes
    pytest.param(bad("BOOL", b"\0\1\2", [3]), "input 'bool', element 2: invalid BOOL: a byte must be 0 or 1, got 2", id="37"),
    pytest.param(bad("INT64", b"\1\0\0\0a", [1], datatype="BYTES"), "expected datatype INT64, got BYTES", id="18 binary"),
    pytest.param(bad("INT64", b"2 ", [1], datatype="BF16"), "unknown datatype 'BF16'; expected INT64", id="17 BF16"),
    pytest.param(bad("INT64", np.array(1.5).tobytes(), [1], datatype="FP64"), "element 0: expected datatype INT64, got FP64, and 1.5 would change", id="18 inexact"),
    # 29
    pytest.param(({**bad("INT64", b"", [0])[0], "parameters": {"binary_data_output": 1}}, b""), "request: invalid parameter 'binary_data_output': must be true or false, got 1", id="29 request"),
    pytest.param(({**bad("INT64", b"", [0])[0], "outputs": [{"name": "y_x", "parameters": {"binary_data": "yes"}}]}, b""), "output 'y_x': invalid parameter 'binary_data': must be true or false", id="29 output"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "said"), REFUSED)
def test_what_is_refused(typed: Served, wrong: tuple[Any, bytes], said: str):
    for answer in ask(typed.port, *[sent(wrong[0], wrong[1])] * 2):
        assert answer.status == 400
        assert said in answer.error


def test_a_far_too_large_count_of_strings_takes_no_memory():
    served = app_of(echo("BYTES"), warm=False).model
    from runtime.errors import InvalidInput
    from runtime.serving.protocol.v2.decode import decode

    headers, body = framed(
        {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2**31 - 1], "parameters": {"binary_data_size": 8}}]},
        bytes(8),
    )
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="element 2: malformed BYTES"):
        decode({HEADER.encode(): headers[HEADER].encode()}, body, served)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


RAW = {HEADER: "0"}


@pytest.mark.parametrize(
    ("datatype", "shape", "batch", "data", "wanted"),
    [
        ("FP32", (-1, 4), True, X.tobytes() * 2, [2, 4]),
        ("FP32", (-1, 2, -1), True, X.tobytes(), [1, 2, 2]),
        ("FP32", (4,), False, X.tobytes(), [4]),
        ("INT8", (-1,), False, b"", [0]),
        ("BYTES", (-1,), True, b"whatever \xff", [1]),
        ("BYTES", (1, 1), False, b"", [1, 1]),
    ],
)
def test_a_raw_body_is_the_one_input(
    datatype: str, shape: tuple[int, ...], batch: bool, data: bytes, wanted: list[int]
):
    with serving(echo(datatype, shape, batch=batch), warm=False) as served:
        (answer,) = ask(served.port, request(body=data, headers=RAW))
        assert (answer.status, list(read(answer)["y"].shape)) == (200, wanted)
        tail = b"" if not data else answer.body[int(answer.headers[HEADER]) :]
        assert tail == (struct.pack("<I", len(data)) + data if datatype == "BYTES" and data else data)


@pytest.mark.parametrize(
    ("made", "data", "said"),
    [
        (echo("FP32", (-1, 4)), b"17 bytes, not 16.", "shape [1, 4] of FP32 wants 16 bytes, got 17"),
        (
            echo("FP32", (-1, -1)),
            bytes(16),
            "at most one dimension may be unknown, the model has [-1, -1]; send the shape in JSON",
        ),
        (echo("FP32", (2, 0)), b"1234", "wants 0 bytes, got 4"),
        (echo("BYTES", (-1, 2)), b"a", "a raw body of BYTES is one element; expected shape [-1, 2]"),
        (
            model(inputs=(TensorSpec("a", "FP32", ()), TensorSpec("b", "FP32", ()))),
            b"1234",
            "for models with one input; expected 'a', 'b'",
        ),
    ],
)
def test_a_raw_body_that_has_no_shape_is_refused(made: Any, data: bytes, said: str):
    with serving(made, warm=False) as served:
        (answer,) = ask(served.port, request(body=data, headers=RAW))
        assert (answer.status, said in answer.error) == (400, True)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("threadsafe", [True, False])
def test_a_long_tensor_goes_through_unchanged_and_unmoved(fresh: bool, threadsafe: bool):
    seen: list[Any] = []

    def same(arrays: dict[str, Any], wanted: Any) -> dict[str, Any]:
        seen.append(arrays["x"])
        return {"y": arrays["x"]}

    whole = ("FP32", (-1, 3, 224, 224))
    made = model(
        same,
        inputs=(TensorSpec("x", *whole),),
        outputs=(TensorSpec("y", *whole),),
        fresh_outputs=fresh,
        threadsafe=threadsafe,
    )
    with serving(made, limits=Limits(inline_seconds=9), warm=False) as served, Wire(served.port) as wire:
        for pad in ("", " ", "   "):
            document = {"inputs": [tensor("x", "FP32", BIG, binary=True)], "parameters": BINARY, "pad": pad}
            answer = wire.send(sent(document, raw(BIG)) * 2).answer(), wire.answer()
            assert [np.array_equal(read(one)["y"], BIG) for one in answer] == [True, True]
        assert all(array.flags.aligned and array.flags.writeable and array.base is not None for array in seen)
        assert served.lines.events("request.answered")[-1]["queued"] == 0 or not threadsafe


def test_another_server_gets_bytes_and_ours_the_memory_itself():
    made = echo("FP32", (-1, 3, 224, 224), fresh_outputs=True)
    served = app_of(made, limits=Limits(inline_seconds=9), warm=False)
    headers, body = framed({"inputs": [tensor("x", "FP32", BIG, binary=True)], "parameters": BINARY}, raw(BIG))

    async def asked(extensions: dict[str, Any]) -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v2/models/iris/infer", "extensions": extensions,
                 "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}  # fmt: skip
        await served.app(scope, receive, send)
        return messages

    for extensions, kind in (({}, bytes), ({"modelkit.views": {}}, memoryview)):
        start, text, data = asyncio.run(asked(extensions))
        assert (type(data["body"]), text["more_body"], data["more_body"]) == (kind, True, False)
        assert bytes(data["body"]) == raw(BIG)
        assert dict(start["headers"])[b"content-length"] == b"%d" % (len(text["body"]) + len(data["body"]))
    served.model.engine.close()


def test_the_server_says_that_it_can(iris: Served):
    (answer,) = ask(iris.port, request("GET", "/v2", None))
    assert "binary_tensor_data" in answer.json["extensions"]


def test_an_output_that_is_no_text_is_a_400_in_json_and_bytes_in_binary():
    with serving(echo("BYTES")) as served:
        x = tensor("x", "BYTES", objects([b"\xff"]), binary=True)
        data = raw(objects([b"\xff"]))
        text, binary = ask(served.port, sent({"inputs": [x]}, data), sent({"inputs": [x], "parameters": BINARY}, data))
        assert (text.status, text.error) == (
            400,
            "output 'y', element 0, is not UTF-8, which JSON needs; ask for this output as binary data",
        )
        assert read(binary)["y"].tolist() == [b"\xff"]
