"""Which models may be batched: what they say of themselves counts for nothing, what joined rows get counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from runtime.serving.engine.batches import Shape, Verdict
from runtime.serving.engine.trial import Ran, Wish, trial

X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, -1))
WEIGHTS = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)


def model(predict: Callable[..., Any], inputs: Any = (X,), outputs: Any = (Y,), **changes: Any) -> Model:
    return Model("test", inputs, outputs, predict, **{"batch": True, **changes})


def verdict(tried: Model, *given: Any, wish: Wish | None = None, seconds: Callable[[int], float] = lambda _: 1e-3,
            ) -> tuple[Verdict, list[int]]:  # fmt: skip
    """What a trial says of a model of which a prediction of so many rows takes so long; and the rows it was asked."""
    steps, ran, sizes = trial(tried, given or ({"x": np.ones((1, 4), np.float32)},), wish or Wish()), None, list[int]()
    while True:
        try:
            request = next(steps) if ran is None else steps.send(ran)
        except StopIteration as end:
            return end.value, sizes
        sizes.append(request.rows)
        try:
            outputs = tried.predict(request.inputs, request.wanted)
        except ValueError:
            outputs = None
        ran = Ran(outputs, seconds(request.rows))


def linear(arrays: Any, wanted: Any) -> Any:
    return {"y": np.einsum("ij,jk->ik", arrays["x"], WEIGHTS)}


def test_rows_that_do_not_know_each_other_may_be_joined():
    found, sizes = verdict(model(linear))
    assert found == Verdict((Shape(frozenset({"x"}), frozenset({"y"}), None),), 64, 0.0, 0.0, "")
    assert sizes == [1] * 9 + [2, 3, 8, 32, 64]


def remembering() -> Callable[..., Any]:
    state = [0.0]

    def predict(arrays: Any, wanted: Any) -> Any:
        state[0] += 1
        return {"y": arrays["x"] + state[0]}

    return predict


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        pytest.param(lambda a, w: {"y": np.cumsum(a["x"], axis=0)}, "joined rows got other answers", id="state"),
        pytest.param(lambda a, w: {"y": a["x"] - a["x"].mean(axis=0)}, "joined rows got other answers", id="mean"),
        pytest.param(lambda a, w: {"y": a["x"] * np.float32(1 + 1e-4 * (len(a["x"]) - 1))},
                     "joined rows got other answers", id="a little"),
        pytest.param(lambda a, w: {"y": a["x"][::-1].copy()}, "joined rows got other answers", id="another order"),
        pytest.param(lambda a, w: {"y": a["x"][: max(1, len(a["x"]) // 2)]}, "joined rows got other answers",
                     id="fewer rows"),
        pytest.param(lambda a, w: {"y": np.repeat(a["x"], 2, axis=0)}, "a row got not one row", id="two a row"),
        pytest.param(lambda a, w: {"y": np.zeros((3, 2), np.float32)}, "a row got not one row", id="no batch axis"),
        pytest.param(remembering(), "a row got not one row of answers, or others the second time", id="memory"),
        pytest.param(lambda a, w: {"y": np.ones((len(a["x"]), 1), np.float32)},
                     "rows that differ got the same answer: a mix-up would not show", id="constant"),
        pytest.param(lambda a, w: linear(a, w) if len(a["x"]) == 1 else {"y": linear(a, w)["y"].astype("f8")[:, :4]},
                     "joined rows got other answers", id="another shape"),
    ],
)  # fmt: skip
def test_a_claim_that_does_not_hold_is_not_believed(predict: Any, reason: str):
    found, _ = verdict(model(predict))
    assert found.shapes == ()
    assert reason in found.reason


def test_a_model_without_a_batch_axis_is_not_tried():
    assert verdict(model(linear, batch=False)) == (Verdict(reason="the model has no batch axis"), [])


def test_a_model_that_takes_no_batch_is_not_batched():
    def single(arrays: Any, wanted: Any) -> Any:
        if len(arrays["x"]) > 1:
            raise ValueError("one row")
        return linear(arrays, wanted)

    assert verdict(model(single))[0].reason == "joined rows got other answers than single ones"
    assert "does not take the row" in verdict(model(lambda a, w: single({"x": np.ones((2, 4))}, w)))[0].reason


def test_a_model_that_takes_only_few_rows_is_batched_up_to_those():
    def few(arrays: Any, wanted: Any) -> Any:
        if len(arrays["x"]) > 8:
            raise ValueError("at most 8 rows")
        return linear(arrays, wanted)

    assert verdict(model(few))[0].most_rows == 8


@pytest.mark.parametrize(("exact", "close"), [(False, 1e-6), (True, None)])
def test_rounding_is_measured_and_exact_allows_none(exact: bool, close: float | None):
    def rounding(arrays: Any, wanted: Any) -> Any:
        return {"y": linear(arrays, wanted)["y"] * np.float32(1 + 4e-7 * (len(arrays["x"]) > 1))}

    found, _ = verdict(model(rounding), wish=Wish(exact=exact))
    assert found.difference <= 1e-6
    assert bool(found.difference) is bool(found.shapes) is not exact


def test_texts_and_integers_have_to_be_the_same():
    def answers(change: int) -> Callable[..., Any]:
        def predict(arrays: Any, wanted: Any) -> Any:
            number = arrays["x"][:, 0].astype(np.int64) + change * (len(arrays["x"]) == 8)
            return {"n": number, "t": np.array([b"%d" % n for n in arrays["x"][:, 1]], object)}

        return predict

    outputs = TensorSpec("n", "INT64", (-1,)), TensorSpec("t", "BYTES", (-1,))
    assert verdict(model(answers(0), outputs=outputs))[0].shapes[0].outputs == {"n", "t"}
    assert verdict(model(answers(1), outputs=outputs))[0].most_rows == 3


def test_an_output_that_is_no_row_is_left_out():
    both = model(lambda a, w: {**linear(a, w), "state": np.zeros(7, np.float32)},
                 outputs=(Y, TensorSpec("state", "FP32", (-1,))))  # fmt: skip
    assert verdict(both)[0].shapes == (Shape(frozenset({"x"}), frozenset({"y"}), None),)


def test_infinities_and_nan_are_compared_by_place():
    def odd(arrays: Any, wanted: Any) -> Any:
        y = linear(arrays, wanted)["y"]
        y[:, 0], y[:, 1] = np.inf, np.nan
        y[:, 2] = np.where(y[:, 2] > 0, np.inf, np.nan)
        return {"y": y * np.float32(1 + 1e-7 * (len(y) > 1))}

    assert verdict(model(odd))[0].most_rows == 64


@pytest.mark.parametrize(
    ("seconds", "wish", "most", "reason"),
    [
        pytest.param(lambda rows: 1e-3 * rows, Wish(), 0, "it does not pay: 8 rows took 8.0 times as long as one", id="no gain"),
        pytest.param(lambda rows: 1e-3 * rows, Wish(must_pay=False), 64, "", id="no gain, but wished"),
        pytest.param(lambda rows: 1e-3 * (1 + rows / 2), Wish(), 64, "", id="gain"),
        pytest.param(lambda rows: 0.2 * (1 + rows / 2), Wish(must_pay=False), 3, "", id="too long to try"),
        pytest.param(lambda rows: 0.2 * rows, Wish(), 0, "it does not pay: 3 rows took 3.0 times as long as one", id="long"),
        pytest.param(lambda rows: 1e-3, Wish(most_rows=5), 5, "", id="the kit's most rows"),
    ],
)  # fmt: skip
def test_what_a_batch_takes_decides_how_large_it_may_be(seconds: Any, wish: Wish, most: int, reason: str):
    found, _ = verdict(model(linear), wish=wish, seconds=seconds)
    assert (found.most_rows, found.reason) == (most, reason)


def test_a_row_that_takes_far_longer_than_the_one_given_ends_it():
    given = {"x": np.ones((1, 4), np.float32)}
    steps, ran, farthest = trial(model(linear), [given], Wish()), None, list[float]()
    found: Verdict | None = None
    while found is None:
        try:
            request = next(steps) if ran is None else steps.send(ran)
        except StopIteration as end:
            found = end.value
        else:
            farthest.append(float(np.abs(request.inputs["x"] - given["x"]).max()))
            ran = Ran(linear(request.inputs, ()), farthest[-1])
    assert "a row that it was tried on took" in found.reason
    assert farthest[-1] < 1  # rows depart from those given step by step
    assert len(farthest) > 3


def test_samples_lend_their_values_to_the_rows_that_are_tried():
    seen: list[Any] = []

    def picky(arrays: Any, wanted: Any) -> Any:
        seen.append(arrays["x"])
        if not set(arrays["x"].ravel().tolist()) <= {b"red", b"green", b"S", b"L"} or b"red" in arrays["x"][:, 1]:
            raise ValueError("unknown category")
        return {"y": (arrays["x"] == b"red").astype(np.float32) + 2 * (arrays["x"] == b"S").astype(np.float32)}

    texts = TensorSpec("x", "BYTES", (-1, 2))
    samples = [{"x": np.array([row], object)} for row in ([b"red", b"S"], [b"green", b"L"])]
    found, _ = verdict(model(picky, inputs=(texts,)), *samples)
    assert found.shapes
    assert not {b"redL", b"greenS"}.isdisjoint(b"".join(rows.ravel().tolist()) for rows in seen if len(rows) == 1)
    alone, _ = verdict(model(picky, inputs=(texts,)), samples[0])
    assert not alone.shapes


def test_optional_inputs_are_tried_with_and_without():
    def predict(arrays: Any, wanted: Any) -> Any:
        y = linear(arrays, wanted)["y"]
        return {"y": y if "shift" not in arrays else y + arrays["shift"].mean()}

    shift = TensorSpec("shift", "FP32", (-1,), optional=True)
    found, _ = verdict(model(predict, inputs=(X, shift)))
    assert [shape.inputs for shape in found.shapes] == [{"x"}]
    better = model(lambda a, w: {"y": a["x"] + a.get("shift", np.zeros(len(a["x"]), "f4"))[:, None]}, inputs=(X, shift))
    assert {shape.inputs for shape in verdict(better)[0].shapes} == {frozenset({"x"}), frozenset({"x", "shift"})}


def test_axes_of_any_size_are_tried_longer():
    def turned(arrays: Any, wanted: Any) -> Any:
        x = arrays["x"]
        return {"y": np.ascontiguousarray(x.reshape(x.shape[::-1]).T)}  # itself, where a row has one element

    free, one = TensorSpec("x", "FP32", (-1, -1)), {"x": np.ones((1, 1), np.float32)}
    found, _ = verdict(model(turned, inputs=(free,)), one)
    assert [shape.trailing for shape in found.shapes] == [frozenset({("x", (1,))})]
    found, _ = verdict(model(lambda a, w: {"y": 2 * a["x"]}, inputs=(free,)), one)
    assert [shape.trailing for shape in found.shapes] == [None]
