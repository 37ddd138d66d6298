"""The two forms of a table, columns or one matrix, in each protocol; missing texts; the row that a model shows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import InvalidInput
from runtime.serving.codec_table import CODECS
from runtime.serving.protocol.examples import example_rows
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.messages import METHODS
from runtime.serving.protocol.plain.csv_text import read_csv
from runtime.serving.protocol.rows import from_rows
from runtime.serving.protocol.v2.decode import decode
from runtime.serving.protocol.v2.encode import advice, example_request
from tests.serving.support import app_of, model

Infer, _ = METHODS["ModelInfer"]
MATRIX = (TensorSpec("x", "FP64", (-1, 2)),)
COLUMNS = (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,)))
TABLES = {"columns": model(inputs=COLUMNS, also=MATRIX), "matrix": model(inputs=MATRIX, also=COLUMNS)}
AS_MATRIX = {"name": "any", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}
AS_COLUMNS = [
    {"name": "b", "datatype": "FP64", "shape": [2], "data": [2, 4]},
    {"name": "a", "datatype": "FP64", "shape": [2, 1], "data": [1, 3]},
]


def served(made: Any) -> Any:
    return app_of(made, codecs=(*CODECS, GRPC), warm=False).model


def read(made: Any, *inputs: dict[str, Any]) -> dict[str, Any]:
    request = decode({}, json.dumps({"inputs": inputs}).encode(), served(made))
    return {name: array.tolist() for name, array in request.inputs.items()}


def over_grpc(made: Any, *inputs: dict[str, Any]) -> dict[str, Any]:
    told = [{**i, "contents": {"fp64_contents": i["data"]}} for i in inputs]
    for tensor in told:
        del tensor["data"]
    request = GRPC.decode({}, Infer(model_name="m", inputs=told).SerializeToString(), served(made))
    return {name: array.tolist() for name, array in request.inputs.items()}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("ask", [read, over_grpc])
def test_either_form_is_taken(form: str, ask: Any) -> None:
    assert ask(TABLES[form], AS_MATRIX) == {"x": [[1, 2], [3, 4]]}
    assert ask(TABLES[form], *AS_COLUMNS) == {"b": [2, 4], "a": [1, 3]}
    with pytest.raises(InvalidInput, match="unknown input 'c'; expected 'a', 'b'"):
        ask(TABLES[form], *AS_COLUMNS, {**AS_COLUMNS[0], "name": "c"})
    with pytest.raises(InvalidInput, match="missing input 'b'"):
        ask(TABLES["columns"], AS_COLUMNS[1])


def test_rows_by_name_are_taken_for_a_matrix() -> None:
    rows = from_rows([{"b": 2, "a": 1}], served(TABLES["matrix"]).signature, served(TABLES["matrix"]).limits, "rows")
    assert {name: array.tolist() for name, array in rows.items()} == {"b": [2], "a": [1]}


def test_a_model_of_many_columns_is_reached() -> None:
    wide = model(inputs=tuple(TensorSpec(f"c{i}", "FP32", (-1,)) for i in range(100)))
    given = [{"name": f"c{i}", "datatype": "FP32", "shape": [1], "data": [i]} for i in range(100)]
    assert len(read(wide, *given)) == 100
    with pytest.raises(InvalidInput, match="unknown input"):
        read(wide, *given, {**given[0], "name": "more"})
    with pytest.raises(InvalidInput, match="too many inputs: 201, at most 200"):
        read(wide, *given, *given, given[0])


def test_null_is_a_missing_text_where_the_model_has_them() -> None:
    text = {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", None]}
    nullable = model(inputs=(TensorSpec("t", "BYTES", (-1,), nullable=True),))
    assert read(nullable, text) == {"t": [b"a", None]}
    with pytest.raises(InvalidInput, match="BYTES wants a string or null, got 3"):
        read(nullable, {**text, "data": ["a", 3]})
    with pytest.raises(InvalidInput, match=r"got null \(wrong element type\): this input has no missing texts"):
        read(model(inputs=(TensorSpec("t", "BYTES", (-1,)),)), text)


def test_a_column_that_the_model_drops_may_be_anything() -> None:
    dropped = TensorSpec("note", "FP64", (-1,), optional=True, nullable=True, ignored=True)
    made = model(inputs=(*COLUMNS, dropped))
    note = {"name": "note", "datatype": "BYTES", "shape": [2], "data": ["p", None]}
    assert read(made, *AS_COLUMNS, note)["a"] == read(made, *AS_COLUMNS)["a"] == [1, 3]
    rows = from_rows([{"a": 1, "b": 2, "note": "p"}], served(made).signature, served(made).limits, "rows")
    assert set(rows) == {"a", "b"}


def test_csv_has_names_dropped_columns_and_missing_texts() -> None:
    found = served(TABLES["matrix"])
    rows = read_csv(b"b,a\n2,1\n4,3\n", found.signature, found.limits)
    assert {name: array.tolist() for name, array in rows.items()} == {"b": [2, 4], "a": [1, 3]}
    assert read_csv(b"1,2\n3,4\n", found.signature, found.limits)["x"].tolist() == [[1, 2], [3, 4]]
    text = TensorSpec("t", "BYTES", (-1,), nullable=True)
    dropped = TensorSpec("note", "FP64", (-1,), optional=True, nullable=True, ignored=True)
    found = served(model(inputs=(COLUMNS[0], text, dropped)))
    rows = read_csv(b"a,t,note\n1,u,p\n,,q\n", found.signature, found.limits)
    assert rows["t"].tolist() == [b"u", None]
    assert np.isnan(rows["a"]).tolist() == [False, True]
    assert set(rows) == {"a", "t"}


def test_the_example_is_the_model_s_row() -> None:
    inputs = (TensorSpec("x", "FP64", (-1, 2)), TensorSpec("city", "BYTES", (-1,)), TensorSpec("n", "INT64", (-1,)))
    made = model(inputs=inputs, example={"x": [5.1, 2], "city": ["Rome"]})
    assert [tensor["data"] for tensor in example_request(made)["inputs"]] == [[5.1, 2], ["Rome"], [0]]
    signature = served(made).signature
    assert example_rows(signature, None) == [{"x": [5.1, 2], "city": "Rome", "n": 0}]
    read(made, *json.loads(advice(served(made)).partition("a body that passes: ")[2])["inputs"])
