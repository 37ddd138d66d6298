"""Every estimator of scikit-learn that can be fitted so: on a frame with text labels, on several targets, on a sparse
matrix. What is served has its own answers, datatypes and shapes.

`make test` takes every fourth of them, and all on a matrix (test_sklearn.py); CI's campaign takes all.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import is_classifier
from sklearn.utils._test_common.instance_generator import _construct_instances
from threadpoolctl import threadpool_limits

from adapters.base import Model, Options
from adapters.sklearn.adapter import load
from adapters.values import to_protocol
from tests.campaign import Campaign

from .kits import files_in
from .test_sklearn import DRAWN, DUMPS, METHODS, X, Y, families

FRAME = pd.DataFrame(X, columns=[f"of {i}" for i in range(X.shape[1])])
COLOURS = np.array(["red", "green", "blue"])[Y]
TWO = np.c_[Y, Y > 0]
ROWS = 7
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def fitted(cls: Any, rows: Any, targets: Callable[[Any], Any]) -> Any:
    for estimator in _construct_instances(cls):
        try:  # pickled once, as a file alters how arrays lie in memory, and so the last bits
            return pickle.loads(pickle.dumps(estimator.fit(rows, targets(estimator))))
        except Exception:  # noqa: BLE001 - an estimator that is not made for this
            continue
    return None


def colours(estimator: Any) -> Any:
    return COLOURS if is_classifier(estimator) else Y


CASES: dict[str, tuple[Any, Callable[[Any], Any], tuple[str, ...], int]] = {
    "frame": (FRAME, colours, ("joblib", "skops"), 120),
    "targets": (X, lambda _: TWO, ("pickle",), 50),
    "sparse": (csr_matrix(X), colours, ("joblib",), 90),
}
"""By name: rows and targets to fit on, forms of files, and how many estimators there are at least."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_served_has_the_answers_of_the_estimator(case: str, tmp_path: Path, campaign: Campaign) -> None:
    rows, targets, forms, least = CASES[case]
    tested, step = 0, campaign(8, 1, 1)
    with threadpool_limits(1):
        for name, cls in list(families().items())[::step]:
            estimator = fitted(cls, rows, targets)
            if estimator is None or not any(hasattr(estimator, method) for method in METHODS):
                continue
            for form in forms:
                path = tmp_path / f"m.{form}"
                try:
                    DUMPS[form](estimator, path)
                except TypeError:  # skops: no way to save a type
                    assert form == "skops"
                    continue
                compare(name, estimator, load(files_in(tmp_path, path.name), Options()), rows)
            tested += 1
    assert tested >= (least if step == 1 else least / step / 2)


def compare(name: str, estimator: Any, model: Model, rows: Any) -> None:
    if model.inputs[0].datatype == "BYTES":  # a vectoriser, that has taken the names of a frame's columns for texts
        return
    few = rows[:ROWS].toarray() if hasattr(rows, "toarray") else rows[:ROWS]
    outputs = {spec.name: spec for spec in model.outputs}
    for method, want in answers(name, estimator, few):
        named = [method] if method in outputs else [f"{method}_{i}" for i in range(len(want))]
        for given in inputs(model, few):
            got = model.predict(given, tuple(named))
            for one, wanted in zip(named, [want] if method in outputs else want, strict=True):
                array = to_protocol(np.asarray(wanted))
                assert (got[one].dtype, got[one].shape) == (array.dtype, array.shape), (name, one)
                assert got[one].tolist() == array.tolist() or np.array_equal(got[one], array, equal_nan=True), (
                    name,
                    one,
                )
                assert len(outputs[one].shape) == array.ndim, (name, one)


def answers(name: str, estimator: Any, few: Any) -> Iterator[tuple[str, Any]]:
    for method in METHODS:
        if not hasattr(estimator, method) or (name, method) in DRAWN:
            continue
        try:
            want = getattr(estimator, method)(few)
        except (ValueError, TypeError, AttributeError):  # these rows are not for that method
            continue
        yield method, want.toarray() if hasattr(want, "toarray") else want


def inputs(model: Model, few: Any) -> Iterator[dict[str, Any]]:
    """The rows as one matrix, and by columns where the model has names."""
    matrix = np.asarray(few)
    for specs in filter(None, (model.inputs, model.also)):
        if len(specs) == 1:
            yield {specs[0].name: matrix if len(specs[0].shape) == 2 else matrix[:, 0]}
        else:
            yield {spec.name: matrix[:, i] for i, spec in enumerate(specs)}
