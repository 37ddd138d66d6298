"""Long arrays of numbers in JSON: what simdjson reads is what orjson reads, and whatever it does not is refused alike."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.errors import InvalidInput, TooLarge
from runtime.link.limits import Limits
from runtime.serving.protocol import json_numbers
from runtime.serving.protocol.json_document import read_document
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.protocol.json_numbers import LONG, Numbers, read_tensors

LIMITS = Limits()
WIDE = " " * LONG
"""White space, which makes any array a long one."""
DEPTH = 64

Read = Callable[[bytes, int], Any]

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="pysimdjson has no wheel")

INTEGERS = [0, 1, -1, 127, 128, -128, -129, 255, 256, 65_504, 65_520, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**64)]  # fmt: skip
TOKENS = ["-0", "0.0", "-0.0", "1.0", "2.5", "1e0", "1E+2", "0.1", "1e-400", "65519.99", "65520.0", "3.4028235677973362e38",
          "3.4028235677973367e38", "1.7976931348623157e308", "1e400", "-1e400", "9007199254740993.0", "null", "true",
          '"NaN"', '"x"', "NaN", "01", "1.", ".5", "+1", "[]", "[1]", "{}", "", *map(str, INTEGERS)]  # fmt: skip


def body(data: str, datatype: str = "FP32", shape: list[int] | None = None) -> bytes:
    head = json.dumps({"name": "x", "datatype": datatype, "shape": shape or [1]})
    return f'{{"inputs":[{head[:-1]},"data":{data}}}]}}'.encode()


def outcome(read: Read, text: bytes, rank: int = 1) -> object:
    """What becomes of the first tensor: its type, shape and bytes, or what is said of it."""
    try:
        tensor = read(text, DEPTH)["inputs"][0]
        spec = TensorSpec("x", tensor["datatype"], (-1,) * rank)
        array = array_of(spec, tensor["shape"], tensor["data"], LIMITS)
    except InvalidInput as error:
        return str(error)
    return array.dtype, array.shape, array.tobytes() if array.dtype != object else array.tolist()


def document(read: Read, text: bytes) -> object:
    try:
        whole = read(text, DEPTH)
    except InvalidInput as error:
        return str(error)
    for tensor in whole["inputs"] if type(whole.get("inputs")) is list else ():
        if type(tensor) is dict and isinstance(tensor.get("data"), Numbers):
            tensor["data"] = tensor["data"].listed()
    return whole


def test_a_long_array_of_numbers_makes_no_object_for_each() -> None:
    numbers = read_tensors(body(json.dumps([0.5] * 2000), shape=[2000]), DEPTH)["inputs"][0]["data"]
    assert isinstance(numbers, Numbers)
    assert (numbers.flat.dtype, numbers.shape, numbers.flat.flags.writeable) == (np.float64, [2000], True)


def test_numbers_for_which_memory_may_be_short_are_counted() -> None:
    """Each takes 24 bytes; 4 for a byte of the body are free."""
    long, short = (body(f"[{','.join([number] * 5000)}]", shape=[5000]) for number in ("0.123456", "1"))
    assert isinstance(read_tensors(long, DEPTH, 2000)["inputs"][0]["data"], Numbers)
    with pytest.raises(TooLarge):
        read_tensors(short, DEPTH, 2000)


@pytest.mark.parametrize("datatype", DTYPES)
def test_each_kind_of_element_means_the_same_in_a_long_array(datatype: str) -> None:
    for token in TOKENS:
        text = body(f"[1,{token}{WIDE}]", datatype, [2])
        assert outcome(read_tensors, text) == outcome(read_document, text), token


NUMBERS = st.sampled_from(TOKENS) | st.integers(-(2**65), 2**65).map(str) | st.floats().map(repr)


@given(st.lists(NUMBERS, max_size=4), st.sampled_from(list(DTYPES)), st.integers(0, 4))
def test_any_list_means_the_same_in_a_long_array(tokens: list[str], datatype: str, size: int) -> None:
    text = body(f"[{','.join(tokens)}{WIDE}]", datatype, [size])
    assert outcome(read_tensors, text) == outcome(read_document, text)


NESTED = st.recursive(
    st.sampled_from([1, 2.5, -3]), lambda inner: st.lists(inner, min_size=1, max_size=3) | inner.map(lambda of: [of] * 2), max_leaves=12
)  # fmt: skip


@given(NESTED, st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_any_nesting_means_the_same_in_a_long_array(data: Any, shape: list[int]) -> None:
    text = body(json.dumps([data]).replace("]", WIDE + "]"), "FP64", shape)
    assert outcome(read_tensors, text, len(shape)) == outcome(read_document, text, len(shape))


def even(*shape: int) -> Any:
    return np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape).tolist()


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (even(2, 3), [2, 3]),
        (even(6), [2, 3]),
        (even(3, 2), [2, 3]),
        (even(2, 3), [6]),
        ([[0, 1, 2, 3], [4]], [2, 2]),
        ([[0, 1, 2, 3], [4, 5]], [2, 3]),
        ([[0], 1, 2], [3]),
        ([0, [1], 2], [3]),
        ([[[0, 1]], [2, 3]], [2, 2]),
        ([[], [0, 1]], [2]),
        ([[0], [1]], [2]),
        ([[0], [1]], [2, 1]),
        ([0, 1], [2, 1]),
        (even(2, 1, 3, 2), [2, 1, 3, 2]),
        ([[[0, 1], [2]], [[3, 4]]], [2, 2, 1]),
    ],
    ids=str,
)
def test_nesting_is_checked(data: Any, shape: list[int]) -> None:
    text = body(json.dumps(data).replace("]", WIDE + "]"), "FP32", shape)
    assert outcome(read_tensors, text, len(shape)) == outcome(read_document, text, len(shape))


def nested(levels: int) -> str:
    """A document with the data so many levels deep."""
    return f'{{"inputs":[{{"datatype":"FP32","shape":[1],"data":{"[" * levels}1{WIDE}{"]" * levels}}}]}}'


LIST = "[1.5,2" + WIDE + "]"
TENSOR = f'{{"name":"x","datatype":"FP32","shape":[2],"data":{LIST}}}'
DOCUMENTS = {
    "one": f'{{"inputs":[{TENSOR}]}}',
    "two": f'{{"inputs":[{TENSOR},{TENSOR}],"id":"data"}}',
    "data first": f'{{"inputs":[{{"data":{LIST},"datatype":"FP32","shape":[2],"name":"x"}}]}}',
    "spaces": f'{{"inputs":[{{"datatype":"FP32","data" \n:\t{LIST}\n,"shape":[2]}}]}}',
    "a short one, too": f'{{"inputs":[{TENSOR},{{"name":"y","datatype":"FP32","shape":[1],"data":[1]}}]}}',
    "twice": f'{{"inputs":[{TENSOR[:-1]},"data":{LIST}}}]}}',
    "twice, short": f'{{"inputs":[{TENSOR[:-1]},"data":[1]}}]}}',
    "another key twice": f'{{"inputs":[{TENSOR[:-1]},"a":1,"a":2}}]}}',
    "in a parameter": f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[2],"data":3,"parameters":{{"data":{LIST}}}}}]}}',
    "beside the inputs": f'{{"inputs":[],"data":{LIST}}}',
    "in a text": json.dumps({"inputs": [], "id": f'"data":{LIST}'}),
    "behind a text": rf'{{"inputs":[{{"\"data":{LIST},"datatype":"FP32"}}]}}',
    "inputs are an object": f'{{"inputs":{TENSOR}}}',
    "no inputs": f'{{"outputs":[{TENSOR}]}}',
    "no object": f"[{TENSOR}]",
    "open": f'{{"inputs":[{TENSOR}]',
    "open array": f'{{"inputs":[{TENSOR[:-2]}',
    "garbage behind": f'{{"inputs":[{TENSOR}]}}x',
    "garbage behind the array": f'{{"inputs":[{TENSOR[:-1]}]]}}]}}',
    "two arrays": f'{{"inputs":[{TENSOR[:-1]},[2]}}]}}',
    "as deep as may be": nested(61),
    "too deep": nested(62),
    "too deep for simdjson": nested(5000),
    "an object in it": f'{{"inputs":[{{"datatype":"FP32","data":[1{WIDE},{{"data":{LIST}}}]}}]}}',
    "unknown datatype": f'{{"inputs":[{{"datatype":"FP99","shape":[2],"data":{LIST}}}]}}',
    "no datatype": f'{{"inputs":[{{"shape":[2],"data":{LIST}}}]}}',
    "BOM": f'\ufeff{{"inputs":[{TENSOR}]}}',
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_is_read_as_before(text: str) -> None:
    assert document(read_tensors, text.encode()) == document(read_document, text.encode())


def test_the_number_in_an_arrays_place_is_of_no_use_to_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_numbers, "_NUMBER", 5)
    monkeypatch.setattr(json_numbers, "_PLACE", b"5")
    text = f'{{"inputs":[{TENSOR},{{"data":5}}]}}'.encode()
    assert document(read_tensors, text) == document(read_document, text)


@pytest.mark.parametrize("part", [b'"data":[', b'"data":[1,', b'"data":[]', b'"data":[}'])
def test_finding_arrays_takes_linear_time(part: bytes) -> None:
    began = time.process_time()
    assert json_numbers._cut(part * 20_000) is not None
    assert time.process_time() - began < 1


@pytest.fixture
def no_simdjson(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "simdjson", None)  # as where it is not installed
    json_numbers._parser.cache_clear()
    yield
    json_numbers._parser.cache_clear()


@pytest.mark.usefixtures("no_simdjson")
def test_without_simdjson_orjson_reads_all() -> None:
    assert read_tensors(body(LIST, shape=[2]), DEPTH)["inputs"][0]["data"] == [1.5, 2]


def test_a_parser_is_used_again_after_an_array_that_it_could_not_read() -> None:
    for bad in ("[1,]", "[null]", "[[1],[2,3]]", "[[1],2]"):
        text = body(bad.replace("]", WIDE + "]"))
        assert outcome(read_tensors, text) == outcome(read_document, text)
        assert outcome(read_tensors, body(LIST, shape=[2])) == outcome(read_document, body(LIST, shape=[2]))
    assert len(json_numbers._parsers) == 1
