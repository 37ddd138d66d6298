"""Outputs as their highest values (`classification`), on real servers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from tests.serving.support import model, serving
from tests.serving.wire import Answer, ask, request


def asked(rows: list[list[float]], outputs: list[dict[str, Any]]) -> bytes:
    tensor = {"name": "X", "shape": [len(rows), 4], "datatype": "FP32", "data": [x for row in rows for x in row]}
    return request(body=json.dumps({"inputs": [tensor], "outputs": outputs}).encode())


def top(count: object, name: str = "scores") -> dict[str, Any]:
    return {"name": name, "parameters": {"classification": count}}


ROWS = [[5.1, 3.5, 1.4, 0.2], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -1.0, 0.0]]  # scores: sum, max, min


def test_the_highest_values_come_with_index_and_label_and_of_equals_the_first():
    with serving(model()) as served:
        plain, two = ask(served.port, asked(ROWS, [{"name": "scores"}]), asked(ROWS, [top(2), {"name": "label"}]))
        (three,) = ask(served.port, asked(ROWS, [top(3)]))
        (none,) = ask(served.port, asked([], [top(3)]))
    scores, label = two.json["outputs"]
    assert (scores["datatype"], scores["shape"], label["data"]) == ("BYTES", [3, 2], [0, 0, 1])
    expected = str(np.float32([5.1, 3.5, 1.4, 0.2]).sum())
    assert scores["data"] == [
        f"{expected}:0:setosa", "5.1:1:versicolor", "4.0:0:setosa", "1.0:1:versicolor", "0.0:1:versicolor", "-1.0:0:setosa",
    ]  # fmt: skip
    assert [text.split(":")[1] for text in three.json["outputs"][0]["data"]] == list("012012102")
    values = [np.float32(text.split(":")[0]) for text in three.json["outputs"][0]["data"]]
    assert sorted(values) == sorted(map(np.float32, plain.json["outputs"][0]["data"]))  # the digits are those needed
    assert (none.json["outputs"][0]["shape"], none.json["outputs"][0]["data"]) == ([0, 3], [])


def answer_of(datatype: str, shape: tuple[int, ...], values: np.ndarray, count: int, **changes: Any) -> Answer:
    given = model(lambda *_: {"y": values}, outputs=(TensorSpec("y", datatype, shape),), **changes)
    with serving(given, warm=False) as served:
        return ask(served.port, asked(ROWS[:1], [top(count, "y")]))[0]


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "count", "expected"),
    [
        ("FP32", (-1, 2, 2), np.float32([[[1, 4], [3, 2]]]), 3, ([1, 3], ["4.0:1", "3.0:2", "2.0:3"])),
        ("FP64", (4,), np.array([np.nan, np.inf, 0.1, -np.inf]), 3, ([3], ["inf:1", "0.1:2", "nan:0"])),
        ("FP32", (-1,), np.float32([7]), 1, ([1, 1], ["7.0:0"])),
        ("INT64", (-1, -1), np.int64([[2**62, 2**62 + 1]]), 2, ([1, 2], [f"{2**62 + 1}:1", f"{2**62}:0"])),
        ("UINT8", (-1, 3), np.uint8([[0, 255, 255]]), 2, ([1, 2], ["255:1:b", "255:2:c"])),
    ],
)
def test_every_kind_of_number_and_shape(
    datatype: str, shape: tuple[int, ...], values: np.ndarray, count: int, expected: tuple[list[int], list[str]]
):
    output = answer_of(datatype, shape, values, count, labels=("a", "b", "c")).json["outputs"][0]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", *expected)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "must be a positive integer, got 0"),
        (-1, "must be a positive integer, got -1"),
        (1.5, "must be a positive integer, got 1.5"),
        (True, "must be a positive integer, got true"),
        ("2", "must be a positive integer, got '2'"),
        (4, "4 of 3 classes"),
        (10**30, "must be a positive integer, got 1e+30"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(count: object, said: str):
    with serving(model()) as served:
        answer, after = ask(served.port, asked(ROWS, [top(count)]), request())
    assert (answer.status, after.status) == (400, 200)
    assert answer.error == f"output 'scores': invalid parameter 'classification': {said}"


def test_what_only_the_answer_shows_is_refused_then():
    answer = answer_of("FP32", (-1, -1), np.float32([[1, 2]]), 3)
    assert (answer.status, answer.error) == (400, "output 'y': invalid parameter 'classification': 3 of 2 classes")


@pytest.mark.parametrize(("datatype", "values"), [("BYTES", np.array([b"x"], object)), ("BOOL", np.array([True]))])
def test_what_are_no_numbers_has_no_highest_values(datatype: str, values: np.ndarray):
    answer = answer_of(datatype, (-1,), values, 1)
    assert (
        answer.error == f"output 'y': invalid parameter 'classification': an output of {datatype} has no highest values"
    )


def test_it_is_a_parameter_of_outputs_only():
    body = request(body=b'{"inputs":[],"parameters":{"classification":1}}')
    with serving(model()) as served:
        assert ask(served.port, body)[0].error == "request: invalid parameter 'classification': not supported"
