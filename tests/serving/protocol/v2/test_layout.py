"""Requests whose JSON has come before: they are read as the first one was, and refused as it would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import InputAtFault
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.protocol.v2.encode import NAME
from runtime.serving.served import Served
from tests.serving.protocol.v2.tensors import framed
from tests.serving.support import app_of, model

KINDS = {"FP32": np.float32, "FP64": np.float64, "INT8": np.int8, "UINT64": np.uint64, "BOOL": np.bool_}


def served(*datatypes: str) -> Served:
    inputs = tuple(TensorSpec(f"x{index}", kind, (-1, 2)) for index, kind in enumerate(datatypes))
    return app_of(model(inputs=inputs, labels=None), warm=False).model


def asked(values: list[Any], announced: list[str] | None = None, **more: Any) -> tuple[dict[bytes, bytes], memoryview]:
    inputs = []
    for index, array in enumerate(values):
        kind = (announced or [next(k for k, dtype in KINDS.items() if dtype == each.dtype) for each in values])[index]
        entry = {"name": f"x{index}", "datatype": kind, "shape": list(array.shape)}
        inputs.append(entry | {"parameters": {"binary_data_size": array.nbytes}})
    own, body = framed({"inputs": inputs, **more}, *(array.tobytes() for array in values))
    padding = -int(next(iter(own.values()))) % 16
    head = {name.lower().encode(): value.encode() for name, value in own.items()}
    return head, memoryview(bytearray(padding) + body)[padding:]


@pytest.mark.parametrize("more", [{}, {"parameters": {"binary_data_output": True, "timeout": 2_000_000}}], ids=str)
def test_what_comes_again_is_read_as_the_first_was(more: dict[str, Any]) -> None:
    made, random = served("UINT64", "FP32", "INT8"), np.random.default_rng(1)
    for count in (1, 3, 1, 3):
        values = [random.integers(0, 100, (count, 2)).astype(KINDS[kind]) for kind in ("UINT64", "FP32", "INT8")]
        request = V2_JSON.decode(*asked(values, **more), made)
        for index, (array, (name, got)) in enumerate(zip(values, request.inputs.items(), strict=True)):
            assert (name, got.dtype, got.shape, got.tolist()) == (f"x{index}", array.dtype, array.shape, array.tolist())
            assert got.flags.aligned
            assert got.flags.writeable
        wanted = (made.signature.default, None, 2.0 if more else 0.0)
        assert (request.wanted, request.id, request.deadline_seconds) == wanted
        assert (request.form is not None) == bool(more)
    assert len([layout for layout in made.forms[NAME].layouts.values() if layout]) == 2


def test_the_same_json_with_less_data_is_refused_as_ever() -> None:
    made = served("FP32")
    head, body = asked([np.ones((2, 2), np.float32)])
    V2_JSON.decode(head, body, made)
    with pytest.raises(InputAtFault, match="12 bytes are left"):
        V2_JSON.decode(head, body[:-4], made)


def test_values_that_have_to_be_looked_at_are() -> None:
    made = served("BOOL")
    head, body = asked([np.ones((1, 2), np.bool_)])
    V2_JSON.decode(head, body, made)
    body[-1] = 2
    with pytest.raises(InputAtFault, match="a byte must be 0 or 1"):
        V2_JSON.decode(head, body, made)


def test_values_that_have_to_be_converted_are() -> None:
    made = served("FP32")
    V2_JSON.decode(*asked([np.ones((1, 2), np.float64)]), made)
    with pytest.raises(InputAtFault, match="would change"):
        V2_JSON.decode(*asked([np.full((1, 2), 1e-300)]), made)


def test_no_client_fills_the_memory() -> None:
    made = served("FP32")
    for more in range(1000):
        V2_JSON.decode(*asked([np.ones((1, 2), np.float32)], parameters={"mine": more}), made)
        V2_JSON.decode(*asked([np.ones((1, 2), np.float32)], id=str(more)), made)
        V2_JSON.decode(*asked([np.ones((1, 2), np.float32)], parameters={"mine": f"{more:03000}"}), made)
    assert 0 < len(made.forms[NAME].layouts) <= 64


def test_no_elements_are_no_trouble() -> None:
    made = served("FP32")
    for _ in range(2):
        assert V2_JSON.decode(*asked([np.ones((0, 2), np.float32)]), made).inputs["x0"].shape == (0, 2)
