"""Encode → decode is the identity, whatever datatype, shape and form; and no body is a 5xx."""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.link.limits import Limits
from runtime.serving.inference import infer
from runtime.serving.protocol.tensor_bytes import aligned
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import encode
from runtime.serving.statuses import Response
from tests.serving.protocol.v2.tensors import framed, outputs, raw, tensor
from tests.serving.support import app_of, echo, model

pytestmark = pytest.mark.slow
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def elements(datatype: str, *, text: bool) -> Any:
    if datatype == "BYTES":
        return st.text().map(str.encode) if text else st.binary(max_size=20)
    return arrays_of.from_dtype(DTYPES[datatype], allow_nan=True)


@st.composite
def tensors(draw: Any, *, text: bool) -> tuple[str, Any]:
    datatype, shape = draw(st.sampled_from(sorted(DTYPES))), draw(SHAPES)
    return datatype, draw(
        arrays_of.arrays(DTYPES[datatype], shape, elements=elements(datatype, text=text), fill=st.nothing())
    )


def same(left: Any, right: Any) -> bool:
    if left.dtype == np.object_:
        return left.tolist() == right.tolist() and left.shape == right.shape
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@given(tensors(text=False), st.booleans(), st.integers(0, 20))
def test_binary(given: tuple[str, Any], whole: bool, spaces: int):
    """Bit for bit: NaN's payload, the sign of zero and bytes that are no text, wherever the tensor lies in the body."""
    datatype, array = given
    served = app_of(echo(datatype, (-1,) * array.ndim, fresh_outputs=True), warm=False).model
    asked = (
        {"parameters": {"binary_data_output": True}}
        if whole
        else {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    )
    headers, body = framed(
        {"inputs": [tensor("x", datatype, array, binary=True)], "pad": " " * spaces, **asked}, raw(array)
    )
    head = {name.encode(): value.encode() for name, value in headers.items()}
    at = int(*headers.values())
    for view in (body, aligned([body[:7], body[7:]], at)):
        request = decode(head, view, served)
        assert request.inputs["x"].flags.aligned
        assert request.inputs["x"].flags.writeable
        answer = encode(served, request, {"y": request.inputs["x"]})
        assert same(outputs(answer)["y"], array)
        assert len(b"".join((answer.body, *answer.tail))) == answer.length


@given(tensors(text=True))
def test_json(given: tuple[str, Any]):
    datatype, array = given
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)  # null has no payload
    served = app_of(echo(datatype, (-1,) * array.ndim), warm=False).model
    headers, body = framed({"inputs": [tensor("x", datatype, array, binary=False)]})
    for head in ({}, {name.encode(): value.encode() for name, value in headers.items()}):
        request = decode(head, body, served)
        assert same(request.inputs["x"], array)
        assert same(outputs(encode(served, request, {"y": array}))["y"], array)


@given(st.lists(st.tuples(tensors(text=True), st.booleans()), min_size=2, max_size=4))
def test_both_forms_in_one_request(given: list[tuple[tuple[str, Any], bool]]):
    specs = [TensorSpec(f"x{i}", datatype, (-1,) * array.ndim) for i, ((datatype, array), _) in enumerate(given)]
    served = app_of(model(inputs=tuple(specs)), warm=False).model
    inputs = [tensor(spec.name, spec.datatype, array, binary=binary or array.dtype.kind == "f")
              for spec, ((_, array), binary) in zip(specs, given, strict=True)]  # fmt: skip
    headers, body = framed(
        {"inputs": inputs}, *(raw(array) for ((_, array), binary) in given if binary or array.dtype.kind == "f")
    )
    found = decode({name.encode(): value.encode() for name, value in headers.items()}, body, served).inputs
    for spec, ((_, array), _) in zip(specs, given, strict=True):
        assert found[spec.name].flags.aligned
        assert same(found[spec.name], array)


def mutated(chance: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at, kind = chance.randrange(len(data) + 1), chance.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = chance.choice(
                (b"\0" * 4, b"\xff" * 4, b'"', b"{", b"]", b"-1", b"9" * 20, b"null", b",", b"0")
            )
        else:
            other = chance.randrange(len(data) + 1)
            data[at:at] = data[other : other + chance.randrange(1, 30)]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_no_mutated_body_is_a_server_error(seed: int):
    """2,000 bodies a seed, each with a header that is right, off by a little, or nonsense."""
    chance, kinds = random.Random(seed), ("BYTES", "BOOL", "FP32", "INT64")
    specs = tuple(TensorSpec(kind.lower(), kind, (-1,)) for kind in kinds)
    given = [
        np.array([b"a", b"\xff\xfe"], object),
        np.array([True, False]),
        np.array([1.5, 2], np.float32),
        np.array([3, 4]),
    ]
    made = tuple(TensorSpec(f"out_{spec.name}", spec.datatype, (-1,)) for spec in specs)
    back = model(
        lambda arrays, wanted: {name: arrays[name.removeprefix("out_")] for name in wanted}, inputs=specs, outputs=made
    )
    served = app_of(back, limits=Limits(inline_seconds=9), warm=False)
    served.model.engine._costs.seed(40, 0.0)
    inputs = [tensor(spec.name, spec.datatype, array, binary=True, content_type=kind)
              for spec, array, kind in zip(specs, given, ("base64", "np", "np", "pd"), strict=True)]  # fmt: skip
    document = {"inputs": inputs, "parameters": {"binary_data_output": True, "content_type": "pd"}, "id": "7"}
    headers, good = framed(document, *map(raw, given))
    right = int(*headers.values())
    seen = set()
    for _ in range(2000):
        body = mutated(chance, good) if chance.random() < 0.9 else good
        length = str(
            chance.choice(
                (
                    right,
                    right,
                    right,
                    right + len(body) - len(good),
                    right + chance.randint(-3, 3),
                    0,
                    len(body),
                    -1,
                    "x",
                )
            )
        )
        answer = infer(served.endpoint, {b"inference-header-content-length": length.encode()}, body)
        assert not isinstance(answer, Awaitable)
        assert isinstance(answer, Response)
        seen.add(answer.status)
    assert seen == {200, 400}
    assert set(outputs(infer(served.endpoint, {b"inference-header-content-length": str(right).encode()}, good))) == {
        spec.name for spec in made
    }  # type: ignore[arg-type]
