"""Arrow IPC streams: columns by name, exactly; nothing inflated, followed or evaluated."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from adapters.base import Model
from runtime.errors import InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.plain.arrow import read_arrow
from tests.serving.protocol.models import column, people, texts
from tests.serving.protocol.plain.test_json import ANSWER, post
from tests.serving.support import Served, echo, model

pa = pytest.importorskip("pyarrow")

KIND = "application/vnd.apache.arrow.stream"


def stream_of(table: Any, rows: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def arrow(served: Served | Model, columns: dict[str, Any], **options: Any) -> Any:
    return post(served, stream_of(pa.table(columns), **options), **{"Content-Type": KIND})


FLOATS = {f"X[{index}]": np.array([value], np.float32) for index, value in enumerate([5.0, 3.5, 1.5, 0.25])}
PERSON = {"age": [1.0], "count": pa.array([2], pa.int32()), "name": ["x"], "flag": [True]}


def test_columns_are_inputs_by_name_or_the_columns_of_the_one_matrix():
    assert arrow(people(), PERSON) == [{"y": "1.0|2|x|True"}]
    assert arrow(people(), dict(reversed(PERSON.items()))) == [{"y": "1.0|2|x|True"}]
    assert arrow(model(), FLOATS) == [ANSWER]
    assert arrow(model(), dict(reversed(FLOATS.items()))) == [ANSWER]
    assert arrow(model(), {letter: [value] for letter, value in zip("abcd", [5.0, 3.5, 1.5, 0.25], strict=True)}) == [
        ANSWER
    ]
    lists = pa.array([[5.0, 3.5, 1.5, 0.25]], pa.list_(pa.float64(), 4))
    assert arrow(model(), {"anything": lists}) == [ANSWER]
    assert post(model(), stream_of(pa.table({"X": lists})), **{"Content-Type": "application/octet-stream"}) == [ANSWER]


def test_lists_of_lists_are_further_axes():
    kind = pa.list_(pa.list_(pa.int8(), 3), 2)
    answer = [{"y": [[1, 2, 3], [4, 5, 6]]}, {"y": [[0, 0, 0], [0, 0, 1]]}]
    assert arrow(echo("INT8", (-1, 2, 3)), {"x": pa.array([row["y"] for row in answer], kind)}) == answer
    assert "expected shape" in arrow(echo("INT8", (-1, 3)), {"x": pa.array([[[1, 2, 3], [4, 5, 6]]], kind)})[1]


def test_datatypes_batches_and_nulls():
    assert arrow(column(), {"x": [1, 2, 3]}, rows=2) == [{"y": [1.0]}, {"y": [2.0]}, {"y": [3.0]}]
    assert arrow(echo("FP16"), {"x": pa.array(np.array([1.5], np.float16))}) == [{"y": 1.5}]
    assert arrow(echo("FP64"), {"x": [1.5, None]}) == [{"y": 1.5}, {"y": None}]
    assert arrow(echo("INT8"), {"x": [1.0, -2.0]}) == [{"y": 1}, {"y": -2}]
    assert arrow(texts(), {"t": pa.array(["\u00e9", ""], pa.large_string())})[0] == {"y": "\u00e9", "length": 2}
    assert arrow(texts(), {"t": pa.array([b"\xff"])}) == [{"y": {"b64": "/w=="}, "length": 1}]
    assert arrow(echo("BOOL"), {"x": [True, False]}) == [{"y": True}, {"y": False}]
    assert arrow(echo("FP64"), {"x": pa.array([], pa.float64())}) == []


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"x": pa.array(["a"]).dictionary_encode()}, {}, "has dictionary-encoded columns; send them decoded"),
        ({"x": [[1.0], [1.0, 2.0]]}, {}, "column 'x' is of type 'list<"),
        ({"x": [{"a": 1}]}, {}, "column 'x' is of type 'struct<a"),
        ({"x": pa.array([0], pa.timestamp("s"))}, {}, "column 'x' is of type 'timestamp[s]'; wanted numbers"),
        ({"x": np.zeros(1000)}, {"compression": "zstd"}, "is compressed; send it plain, or the whole body as gzip"),
        ({"x": np.zeros(1000)}, {"compression": "lz4"}, "is compressed"),
        ({"x": [1, None]}, {}, "column 'x' has a null, which only floating-point columns may"),
        ({"x": ["a"]}, {}, "input 'x': expected datatype FP32, got BYTES"),
        ({"x": [0.1]}, {}, "expected datatype FP32, got FP64, and 0.1 would change in that"),
        ({"x": [1.0], "z": [2.0]}, {}, "unknown input 'x'; expected"),
        ({"x": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))}, {}, "expected shape [-1] (-1: any), got [1, 2]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_400_in_words(columns: Any, options: Any, said: str):
    served = people() if "z" in columns else echo("FP32")
    status, error = arrow(served, columns, **options)
    assert (status, said in error) == (400, True), error


def test_broken_streams_are_refused():
    whole = stream_of(pa.table({"x": np.arange(100, dtype=np.float32)}))
    twice = pa.table([[1.0], [2.0]], names=["x", "x"])
    assert "a column twice" in post(echo("FP32"), stream_of(twice), **{"Content-Type": KIND})[1]
    for body in (b"", b"\xff" * 64, whole[:100], whole[:-200], b"ARROW1\0\0" + whole):
        status, error = post(echo("FP32"), body, **{"Content-Type": KIND})
        assert (status, error.startswith("the body is no Arrow IPC stream, or is broken")) == (400, True), error


def test_no_changed_byte_is_another_error():
    whole = stream_of(pa.table({"age": [1.0], "count": [2], "name": ["x"], "flag": [True]}))
    rng, signature, refused = np.random.default_rng(7), Signature.of(people()), 0
    for _ in range(2000):
        body = bytearray(whole)
        for at in rng.integers(0, len(body), 3):
            body[at] = rng.integers(0, 256)
        try:
            read_arrow(bytes(body), signature, {}, Limits())
        except InvalidInput:
            refused += 1
    assert 0 < refused < 2000


def test_a_server_without_the_extra_says_so(monkeypatch: pytest.MonkeyPatch):
    body = stream_of(pa.table(PERSON))
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as Python marks a module that cannot be imported
    status, said = post(people(), body, **{"Content-Type": KIND})
    assert (status, said) == (
        415,
        "this server reads no Arrow; its operator can install the extra `arrow`",
    )
