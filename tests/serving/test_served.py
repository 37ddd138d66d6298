"""A served model called in-process: arrays and lists in, arrays out, by the rules of a request."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import InvalidInput, PredictFailed
from runtime.link.limits import Limits
from runtime.serving.engine.trial import Wish, trial
from runtime.serving.served import Served
from tests.serving.asking import call
from tests.serving.support import BODY, app_of, echo, iris_like, model

ROW = [5.1, 3.5, 1.4, 0.2]


def served(*models: Any, **options: Any) -> Served:
    return app_of(*models, warm=False, **options).model


@pytest.mark.parametrize(
    "rows",
    [
        [ROW, ROW],
        (tuple(ROW), tuple(ROW)),
        np.array([ROW, ROW], np.float32),
        np.array([ROW, ROW]),
        np.asfortranarray(np.array([ROW, ROW], np.float32)),
        [np.array(ROW), np.array(ROW)],
        [[np.float32(value) for value in ROW]] * 2,
        np.array([ROW, ROW], object),
    ],
    ids=["lists", "tuples", "FP32", "FP64", "Fortran", "arrays in a list", "numpy scalars", "objects"],
)
def test_arrays_and_nested_lists_are_what_a_request_would_be(rows: Any):
    seen: list[Any] = []

    def predict(arrays: Any, wanted: Any) -> Any:
        seen.append(arrays["X"])
        return iris_like(arrays, wanted)

    outputs = served(model(predict)).predict({"X": rows})
    assert outputs["label"].tolist() == [0, 0]
    assert outputs["scores"].shape == (2, 3)
    (x,) = seen
    assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (2, 4), True)


@pytest.mark.parametrize(
    ("datatype", "value", "wanted"),
    [
        ("INT8", [1, 2.0], [1, 2]),
        ("INT64", np.array([2**62]), [2**62]),
        ("INT64", np.array([3], np.uint8), [3]),
        ("BOOL", [True, 0, 1], [True, False, True]),
        ("BYTES", ["a", b"\xff", np.str_("é")], [b"a", b"\xff", "é".encode()]),
        ("BYTES", np.array(["a", "bc"]), [b"a", b"bc"]),
        ("FP16", np.array([1, 2]), [1.0, 2.0]),
        ("FP32", np.array([np.inf], np.float32), [np.inf]),
    ],
)
def test_values_are_converted_where_nothing_is_lost(datatype: str, value: Any, wanted: list[Any]):
    assert served(echo(datatype)).predict({"x": value})["y"].tolist() == wanted


class Array:
    """As another library's arrays are that are on no CPU."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("not on the CPU")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("datatype", "inputs", "said"),
    [
        ("INT8", {"x": [1.5]}, "element 0: INT8 wants a whole number, got 1.5"),
        ("INT8", {"x": np.array([1, 300])}, "element 1: 300 is out of range for INT8"),
        ("FP32", {"x": ["7"]}, "FP32 wants a number or null, got '7'"),
        ("FP32", {"x": [[1.0, 2.0]]}, r"expected shape [-1] (-1: any), got [1, 2]"),
        ("FP32", {"x": [[1.0], [1.0, 2.0]]}, "data does not match shape [2]: its nesting differs"),
        ("FP32", {"x": np.zeros((2, 2), np.float32)}, r"expected shape [-1] (-1: any), got [2, 2]"),
        ("FP32", {"x": [np.zeros((2, 3)), np.zeros((2, 4))]}, "input 'x'"),
        ("FP32", {"x": np.ma.array([1, 2], np.float32, mask=[False, True])}, "input 'x': a masked array is not taken"),
        ("FP32", {"x": [np.ma.masked, 1.0]}, "input 'x': a masked array is not taken"),
        ("FP32", {"x": ([np.ma.array([1.0], mask=[True])],)}, "input 'x': a masked array is not taken"),
        ("BYTES", {"x": ["\ud800"]}, "UnicodeEncodeError: cannot be read as an array"),
        ("FP32", {"x": [10**400]}, "OverflowError: cannot be read as an array"),
        ("FP64", {"x": [10**400]}, "OverflowError: cannot be read as an array"),
        ("FP32", {"x": ENDLESS}, "RecursionError: cannot be read as an array"),
        ("FP32", {"x": Array()}, "TypeError: cannot be read as an array"),
        ("FP32", {"x": [Array()]}, "TypeError: cannot be read as an array"),
        ("FP32", None, "inputs must be a mapping from names to arrays, got NoneType"),
        ("FP32", [1.0], "inputs must be a mapping from names to arrays, got list"),
        ("BYTES", {"x": [1]}, "BYTES wants a string, got 1"),
        ("BYTES", {"x": [OrderedDict(a=1)]}, "BYTES wants a string, got OrderedDict"),
        ("FP32", {"x": [1.0], "z": [1.0]}, "unknown input 'z'; expected 'x'"),
        ("FP32", {}, "missing input 'x'; expected 'x', got none"),
    ],
)
def test_what_does_not_fit_the_model_is_said_as_to_a_client(datatype: str, inputs: Any, said: str):
    with pytest.raises(InvalidInput) as refused:
        served(echo(datatype)).predict(inputs)
    assert said in str(refused.value)


def test_the_one_input_of_a_model_may_have_any_name_and_outputs_are_the_default_ones():
    loaded = served(model(default_outputs=("scores",)))
    assert list(loaded.predict({"anything": [ROW]})) == ["scores"]
    two = served(
        model(lambda arrays, wanted: {"n": np.array(len(arrays))}, outputs=(TensorSpec("n", "INT64", ()),),
              inputs=(TensorSpec("a", "FP32", ()), TensorSpec("b", "FP32", (), optional=True)))
    )  # fmt: skip
    assert two.predict({"a": 1.0})["n"] == 1
    assert two.predict({"b": np.float32(2), "a": 1})["n"] == 2


def test_a_model_that_raises_is_one_failure_with_its_cause():
    def failing(arrays: Any, wanted: Any) -> Any:
        raise KeyError("no")

    with pytest.raises(PredictFailed, match="the model raised") as failed:
        served(model(failing)).predict({"X": [ROW]})
    assert isinstance(failed.value.__cause__, KeyError)


@pytest.mark.parametrize("threadsafe", [True, False])
def test_only_a_threadsafe_model_is_called_by_several_threads_at_once(threadsafe: bool):
    inside, gate = threading.Semaphore(0), threading.Event()

    def predict(arrays: Any, wanted: Any) -> Any:
        inside.release()
        assert gate.wait(20)
        return iris_like(arrays, wanted)

    loaded = served(model(predict, threadsafe=threadsafe))
    threads = [threading.Thread(target=loaded.predict, args=({"X": [ROW]},)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=20)
    assert inside.acquire(timeout=20 if threadsafe else 0.05) is threadsafe
    gate.set()
    for thread in threads:
        thread.join(20)


def test_log_metadata_and_metrics_say_what_became_of_batching(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.serving.engine.trial_run._PAUSE_SECONDS", 0)
    served = app_of(model(batch=True), warm=False, limits=Limits(inline_seconds=0))
    rows = [{"X": np.ones((1, 4), np.float32)}]

    def facts() -> dict[str, str]:
        properties = call(served, "GET", "/v2/models/iris").json()["properties"]
        return {name: text for name, text in properties.items() if name.startswith("batching")}

    assert facts() == {}
    asyncio.run(served.model.try_batching())  # nobody asked for it
    served.model.trial = trial(served.model.model, rows, Wish(must_pay=False))
    assert facts() == {"batching": "being tried"}
    asyncio.run(served.model.try_batching())
    assert facts() == {"batching": "64", "batching_difference": "0"}
    served.model.trial = trial(model(), rows, Wish())
    asyncio.run(served.model.try_batching())
    assert facts() == {"batching": "off: the model has no batch axis"}
    assert call(served, "POST", "/v2/models/iris/infer", content=BODY).status_code == 200
    metrics = call(served, "GET", "/metrics").text
    assert 'runtime_batch_rows_bucket{le="1.0",model="iris"} 1.0' in metrics
    assert 'runtime_batch_rows_sum{model="iris"} 1.0' in metrics
    on, off = served.lines.events("batching.on"), served.lines.events("batching.off")
    assert [(event["model"], event["rows"], event["difference"]) for event in on] == [("iris", 64, 0.0)]
    assert [event["reason"] for event in off] == ["the model has no batch axis"]
