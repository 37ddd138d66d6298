"""Files of every form through a model, block by block, in this process."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import Unsupported, WrongRow
from runtime.rows.base import Job, beside
from runtime.rows.scoring import Scoring, block_size, form_of
from tests.extras import MISSING
from tests.serving.protocol.models import people, texts
from tests.serving.support import app_of, model

HEADER = "label,scores[setosa],scores[versicolor],scores[virginica]"
LONG = 10_000


class Pipe(io.BytesIO):
    """Bytes that can be read in their order only."""

    def seekable(self) -> bool:
        return False


class Outcome:
    """What came of a file: the bytes, how many rows were predicted and skipped, and what was logged."""

    def __init__(
        self,
        source: bytes,
        form: str = "",
        loaded: Any = None,
        *,
        columns: tuple[str, ...] = (),
        alone: bool = False,
        skip: bool = False,
        pipe: bool = False,
        target: Any = None,
    ) -> None:
        app = app_of(loaded or model(), warm=False)
        self.target, self.app = target or io.BytesIO(), app
        job = Job(io.BufferedReader((Pipe if pipe else io.BytesIO)(source)), self.target, app.model, columns, alone)
        self.predicting = Scoring(job, form or form_of(source), app.lines.log, skip=skip)

    def run(self) -> bytes:
        self.predicting.run()
        return self.target.getvalue()

    def lines(self) -> list[str]:
        return self.run().decode().splitlines()


def wrong(*arguments: Any, **options: Any) -> str:
    with pytest.raises(WrongRow) as caught:
        Outcome(*arguments, **options).run()
    return str(caught.value)


def test_csv_gets_its_predictions_beside_the_rows():
    rows = 'id,X[1],X[0],X[2],X[3]\n"a, b",2,5,3,1\nc,1,7,0,0\n'
    assert Outcome(rows.encode(), "csv").lines() == [
        "id,X[1],X[0],X[2],X[3]," + HEADER,
        '"a, b",2,5,3,1,0,11.0,5.0,1.0',
        "c,1,7,0,0,0,8.0,7.0,0.0",
    ]  # fmt: skip


def test_csv_without_a_header_gets_one():
    assert Outcome(b"5,2,3,1\n").lines() == ["X[0],X[1],X[2],X[3]," + HEADER, "5,2,3,1,0,11.0,5.0,1.0"]


def test_predictions_alone():
    assert Outcome(b"5,2,3,1\n", alone=True).lines() == [HEADER, "0,11.0,5.0,1.0"]


def test_columns_are_named_in_the_models_order():
    rows = b"d,c,b,a,note\n1,3,2,5,x\n"
    assert Outcome(rows, columns=("a", "b", "c", "d")).lines()[1] == "1,3,2,5,x,0,11.0,5.0,1.0"
    assert "lacks 'e' of --columns" in wrong(rows, columns=("a", "b", "c", "e"))
    jsons = b'{"a": 5, "b": 2, "c": 3, "d": 1, "note": "x"}\n'
    assert json.loads(Outcome(jsons, columns=("a", "b", "c", "d"), alone=True).run())["label"] == 0


def test_names_with_blanks_are_found_where_the_file_has_none():
    inputs = tuple(TensorSpec(name, "FP64", (-1,)) for name in ("my_age", "pay"))
    given = {"outputs": (TensorSpec("y", "FP64", (-1,)),), "labels": None}
    matrix = (TensorSpec("x", "FP64", (-1, 2)),)

    def weighed(columns, _):
        return {"y": 10 * columns["my_age"] + columns["pay"]}

    for loaded in (model(weighed, inputs=inputs, **given), model(weighed, inputs=matrix, also=inputs, **given)):
        for rows in (b"note,pay,my age\na,2,5\n", b'{"note": "a", "pay": 2, "my age": 5}\n'):
            wanted = rows.replace(b"my age", b"my_age")
            assert Outcome(rows, loaded=loaded, alone=True).run() == Outcome(wanted, loaded=loaded, alone=True).run()
        assert "duplicate input 'my_age'" in wrong(b'{"pay": 2, "my age": 5, "my_age": 5}\n', loaded=loaded)


def test_a_column_that_is_called_as_a_prediction_keeps_its_name():
    assert (
        Outcome(b"label,X[0],X[1],X[2],X[3]\nold,5,2,3,1\n")
        .lines()[0]
        .startswith("label,X[0],X[1],X[2],X[3],predicted_label,")
    )
    assert beside(["y", "z"], ["y", "predicted_y"]) == ["predicted_predicted_y", "z"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"X[0],X[1],X[2],X[3]\n1,2,3,4\n1,2,3,4\n1,two,3,4\n", "row 3: input 'X', element 1: FP32 wants a number"),
        (b"X[0],X[1],X[2],X[3]\n1,2,3,4\n1,2,3\n", "row 2: it has 3 cells, the first line has 4; --on-error skip"),
        (b"a,b,c,d\n1,2,3,4\n", "; if its columns have other names, say which the model takes: --columns a,b,c,d; --on-error"),
        (b"a,b,c\n1,2,3\n", "no header that this model knows, wanted 4: 'X[0]', 'X[1]', 'X[2]', 'X[3]'; if its columns have other names, say which the model takes: --columns a,b,c"),
        (b"X[0],X[1],X[2],x3\n1,2,3,4\n", "the CSV lacks 'X[3]'; expected 'X[0]', 'X[1]', 'X[2]', 'X[3]'; if its columns"),
        (b"1,x,3,4\n", "row 1: input 'X', element 1: FP32 wants a number or null, got 'x' (wrong element type); --on-error"),
        (b"", "the CSV is empty"),
        (b'X[0],X[1],X[2],X[3]\n1,2,3,4\n1,"2\n', "the CSV cannot be read"),
        (b"X[0],X[1],X[2],X[3]\n\xff,2,3,4\n", "the CSV is not UTF-8; unpack or convert it"),
        (b"a (cm),b,c,d\n1,2,3,4\n", "say which the model takes: --columns 'a (cm),b,c,d'; --on-error"),
        (b",a,b,c,d\n0,1,2,3,4\n", "say which the model takes: --columns a,b,c,d"),
        (b'"a, b",c,d,e\n1,2,3,4\n', "say which the model takes: --columns '\"a, b\",c,d,e'; --on-error"),
        (b"X[0];X[1];X[2];X[3]\n1;2;3;4\n", "; its first line has ';' between its cells, expected commas"),
        (b"1\t2\t3\t4\n", "; its first line has '\\t' between its cells, expected commas"),
        (b'{"X": [1, 2, 3, 4]}\n{"X": [1, 2, 3]}\n', "row 2: input 'X'"),
        (b'{"X": [1, 2, 3, 4]}\n{"X": [1, 2, \n', "row 2: it is not JSON"),
        (b'{"x": [1, 2, 3, 4]}\n', "row 1: it has no 'X'; if its columns have other names, say which the model takes: --columns x"),
        (b"[1, 2", "the file is not JSON"),
        (b"[[1, 2, 3, 4], [1, 2, 3, null, 5]]", "row 2: input 'X'"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_by_its_number(rows: bytes, message: str):
    assert message in wrong(rows)


def test_the_rows_before_a_wrong_one_are_there():
    outcome = Outcome(b"1,2,3,4\n" * LONG + b"1,2,3\n" + b"1,2,3,4\n", "csv", alone=True)
    with pytest.raises(WrongRow, match=rf"^row {LONG + 1}: "):
        outcome.run()
    assert outcome.predicting.rows == LONG
    outcome = Outcome(b"[1, 2, 3, 4]\n[1]\n", "jsonl")
    with pytest.raises(WrongRow, match=r"^row 2: "):
        outcome.run()
    assert outcome.target.getvalue().endswith(b"}\n")


def test_wrong_rows_are_skipped_and_named():
    rows = [b"1,2,3,4\n"] * LONG
    bad = [0, 17, 4096, 4097, LONG - 1]
    for number in bad:
        rows[number] = b"1,2,x,4\n"
    outcome = Outcome(b"X[0],X[1],X[2],X[3]\n" + b"".join(rows), skip=True)
    assert len(outcome.lines()) == 1 + LONG - len(bad)
    assert (outcome.predicting.rows, outcome.predicting.skipped) == (LONG - len(bad), len(bad))
    assert [event["row"] for event in outcome.app.lines.events("row.skipped")] == [number + 1 for number in bad]


def test_a_row_on_which_the_model_fails_is_named():
    def picky(arrays: Any, _: Any) -> Any:
        if (arrays["X"] < 0).any():
            raise ValueError("negative")
        return {"label": np.zeros(len(arrays["X"]), np.int64)}

    loaded = model(picky, outputs=(TensorSpec("label", "INT64", (-1,)),))
    assert "row 2: the model raised: " in wrong(b"1,2,3,4\n1,2,3,-4\n", "csv", loaded)


def test_many_rows_are_each_their_own():
    rows = "".join(f"{number},0,0,{number}.5\n" for number in range(LONG))
    lines = Outcome(rows.encode(), alone=True).lines()[1:]
    assert [float(line.split(",")[1]) for line in lines] == [2 * number + 0.5 for number in range(LONG)]


def test_columns_of_several_datatypes():
    rows = 'note,name,flag,count,age\nx,"a, b",1,2,1.5\n'
    assert Outcome(rows.encode(), "csv", people()).lines() == [
        "note,name,flag,count,age,y",
        'x,"a, b",1,2,1.5,"1.5|2|a, b|True"',
    ]


def test_objects_may_have_the_values_of_a_matrix_one_by_one():
    row = {"id": "a", "X[1]": 2, "X[0]": 5, "X[2]": 3, "X[3]": 1}
    (line,) = Outcome(json.dumps(row).encode()).lines()
    assert json.loads(line) | row == json.loads(line)
    assert list(json.loads(line)["scores"].values()) == [11.0, 5.0, 1.0]
    assert wrong(b'{"X[0]": 5, "X[1]": 2}').startswith("row 1: it lacks 'X[2]', 'X[3]'")


def test_json_lines_and_arrays():
    row = {"X": [5, 2, 3, 1], "id": "a"}
    scores = {"setosa": 11.0, "versicolor": 5.0, "virginica": 1.0}
    (line,) = Outcome(json.dumps(row).encode()).lines()
    assert json.loads(line) == {**row, "label": 0, "scores": scores}
    whole = json.loads(Outcome(json.dumps([row, row]).encode()).run())
    assert whole == [{**row, "label": 0, "scores": scores}] * 2
    (line,) = Outcome(b"[5, 2, 3, 1]\n\n", "jsonl").lines()
    assert json.loads(line) == {"row": [5, 2, 3, 1], "label": 0, "scores": scores}
    assert json.loads(Outcome(b'"ab"\n', "jsonl", texts(), alone=True).run()) == {"y": "ab", "length": 2}
    assert json.loads(Outcome(b"[]").run()) == []
    assert Outcome(b"", "jsonl").run() == b""


def test_numpy_files():
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    source = io.BytesIO()
    np.save(source, rows)
    found = np.load(io.BytesIO(Outcome(source.getvalue()).run()), allow_pickle=False)
    assert found["label"].tolist() == [0] * 10
    assert found["scores"][:, 1].tolist() == rows.max(axis=1).tolist()
    assert "not a NumPy file" in wrong(b"\x93NUMPY")
    assert "--columns has no meaning" in wrong_columns(source.getvalue())


def test_an_archive_of_arrays_is_told_what_to_send():
    written = io.BytesIO()
    np.savez(written, X=np.zeros((2, 4), np.float32))
    assert wrong(written.getvalue()).startswith("the file is a zip archive, as .npz and .xlsx are: send an array as")


@pytest.mark.parametrize("form", ["npy", *([] if "pyarrow" in MISSING else ["parquet", "arrow"])])
def test_files_of_bytes_are_written_to_a_pipe_too(form: str):
    """They hold two rows: a pipe holds 64 KiB before anybody reads."""
    rows = np.array([[5, 2, 3, 1], [1, 7, 0, 0]], "float32")
    if form == "npy":
        np.save(source := io.BytesIO(), rows)
    else:
        import pandas as pd

        getattr(
            pd.DataFrame(rows, columns=[f"X[{at}]" for at in range(4)]), {"arrow": "to_feather"}.get(form, "to_parquet")
        )(source := io.BytesIO())
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "wb") as target:
        whole = Outcome(source.getvalue(), form).run()
        Outcome(source.getvalue(), form, target=target).predicting.run()
        target.close()
        assert read.read() == whole


def wrong_columns(source: bytes) -> str:
    with pytest.raises(WrongRow) as caught:
        Outcome(source, columns=("a",)).run()
    return str(caught.value)


def test_a_numpy_file_of_one_output_is_that_output():
    source = io.BytesIO()
    np.save(source, np.array(["ab", "c"]))
    loaded = texts()
    only = type(loaded)(**{**{name: getattr(loaded, name) for name in loaded.__slots__}, "default_outputs": ("y",)})
    assert np.load(io.BytesIO(Outcome(source.getvalue(), "npy", only).run()), allow_pickle=False).tolist() == [
        "ab",
        "c",
    ]


@pytest.mark.skipif("pyarrow" in MISSING, reason="pyarrow is not installed")
def test_parquet_and_arrow_files():
    import pyarrow as pa
    from pyarrow import ipc, parquet

    names = ["X0", "X1", "X2", "X3"]
    table = pa.table(
        {**{name: [5.0, 2.0 + at] for at, name in enumerate(names)}, "when": pa.array([1, 2], pa.timestamp("ms"))}
    )
    source = io.BytesIO()
    parquet.write_table(table, source)
    found = parquet.read_table(io.BytesIO(Outcome(source.getvalue(), columns=tuple(names)).run()))
    assert found.select(table.column_names).equals(table)
    assert found["scores[versicolor]"].to_pylist() == [5.0, 5.0]
    for new in (ipc.new_file, ipc.new_stream):
        source = io.BytesIO()
        with new(source, table.schema) as writer:
            writer.write_table(table)
        found = ipc.open_file(io.BytesIO(Outcome(source.getvalue(), columns=tuple(names), alone=True).run())).read_all()
        assert found.column_names == HEADER.split(",")
    assert "the file cannot be read" in wrong(b"PAR1")
    assert wrong(b"PAR1", pipe=True) == "Parquet cannot be read from a pipe: give the file's name"
    assert wrong(b"ARROW1", pipe=True) == "an Arrow file cannot be read from a pipe: give the file's name"
    source = io.BytesIO()
    parquet.write_table(pa.table({"X": [[1.0, 2.0, 3.0, 4.0]] * 4 + [[1.0]]}), source)
    assert "row 5: input 'X'" in wrong(source.getvalue())
    assert len(parquet.read_table(io.BytesIO(Outcome(source.getvalue(), skip=True).run()))) == 4
    words = io.BytesIO()
    parquet.write_table(pa.table({"text": ["ab", "c"]}), words)
    assert parquet.read_table(io.BytesIO(Outcome(words.getvalue(), "parquet", texts()).run()))[
        "length"
    ].to_pylist() == [2, 1]


def test_blocks_are_as_large_as_the_model_allows():
    assert block_size(model()) == 4096
    assert block_size(model(inputs=(TensorSpec("X", "FP32", (-1, 3, 224, 224)),))) == 6
    assert block_size(model(inputs=(TensorSpec("X", "FP32", (1, 4)),))) == 1
    with pytest.raises(Unsupported, match="does not take rows"):
        block_size(model(inputs=(TensorSpec("X", "FP32", (2, 4)),)))
