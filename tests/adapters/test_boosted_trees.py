from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import make_classification

from adapters import load
from adapters.base import LoadFailed, Model, Options, TensorSpec, WrongInput

from .kits import check_case, expected, files_in, unpack

X, Y = make_classification(80, 6, n_informative=4, n_classes=3, random_state=0)
X = X.astype(np.float32)


def opened(root: Path, path: str, framework: str | None = None, **options: Any) -> tuple[str, Model]:
    adapter, model = load(files_in(root, path), Options(**options), framework=framework, format=None, warn=print)
    return adapter.name, model


@pytest.mark.parametrize("name", ["iris-xgboost", "iris-lightgbm"])
def test_golden_kit_answers_right(name: str, tmp_path: Path) -> None:
    kit = unpack(name, tmp_path)
    chosen, model, warned = kit.load()
    assert (f"iris-{chosen}", warned, model.batch) == (name, [], True)
    assert opened(tmp_path, kit.files.path)[0] == chosen  # without a framework in the Kitfile: by content
    for case in expected(name)["cases"]:
        check_case(model, case)


# -- XGBoost


def xgb(root: Path, path: str, frame: Any = X, **parameters: Any) -> xgboost.Booster:
    matrix = xgboost.DMatrix(frame, label=Y, enable_categorical=True, nthread=1)
    wanted = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, **parameters}
    booster = xgboost.train(wanted, matrix, 3)
    booster.save_model(root / path)
    return booster


@pytest.mark.parametrize("path", ["m.ubj", "m.json"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"booster": "dart"},
        {"booster": "gblinear"},
        {"objective": "multi:softmax"},
        {"max_leaves": 4, "grow_policy": "lossguide"},
    ],
    ids=str,
)
def test_xgboost_answers_as_the_booster_itself(path: str, parameters: Any, tmp_path: Path) -> None:
    booster = xgb(tmp_path, path, **parameters)
    chosen, model = opened(tmp_path, path)
    assert chosen == "xgboost"
    names = tuple(o.name for o in model.outputs)
    got = model.predict({"x": X}, names)
    matrix = xgboost.DMatrix(X)
    want = {"predict": booster.predict(matrix), "margin": booster.predict(matrix, output_margin=True)}
    if "leaf" in names:
        want["leaf"] = booster.predict(matrix, pred_leaf=True)
    for name, right in want.items():
        np.testing.assert_allclose(got[name], right, rtol=1e-6)
        assert (got[name].dtype, got[name].shape) == (right.dtype, right.shape)
    assert [len(o.shape) for o in model.outputs] == [got[n].ndim for n in names]


def test_xgboost_takes_columns_by_name_and_categories_as_codes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": pd.Categorical(np.arange(len(X)) % 3)})
    booster = xgb(tmp_path, "m.json", frame)
    inputs = (TensorSpec("b", "FP32", (-1,)), TensorSpec("a", "FP32", (-1,)))
    _, model = opened(tmp_path, "m.json", inputs=inputs)
    assert json.loads(model.properties["columns"]) == ["a", "b"]
    given = {"b": (np.arange(len(X)) % 3).astype(np.float32), "a": X[:, 0].copy()}
    want = booster.predict(xgboost.DMatrix(frame, enable_categorical=True))
    np.testing.assert_allclose(model.predict(given, ("predict",))["predict"], want, rtol=1e-6)
    with pytest.raises(WrongInput, match="different numbers of rows"):
        model.predict({"a": X[:2, 0], "b": X[:3, 0]}, ("predict",))
    with pytest.raises(LoadFailed, match="the model's features are a, b"):
        opened(tmp_path, "m.json", inputs=(TensorSpec("c", "FP32", (-1,)), TensorSpec("a", "FP32", (-1,))))


MATRIX = (TensorSpec("rows", "FP64", (-1, 2)),)
COLUMNS = (TensorSpec("b", "FP64", (-1,)), TensorSpec("a", "INT64", (-1,)))


@pytest.mark.parametrize(
    ("sampled", "inputs"),
    [
        pytest.param((), (TensorSpec("x", "FP32", (-1, 2)),), id="no samples"),
        pytest.param(MATRIX, (TensorSpec("x", "FP64", (-1, 2)),), id="another datatype"),
        pytest.param(COLUMNS, COLUMNS, id="columns"),
        pytest.param((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("x", "FP32", (-1, 2)),), id="another width"),
        pytest.param((TensorSpec("x", "BYTES", (-1, 2)),), (TensorSpec("x", "FP32", (-1, 2)),), id="texts"),
        pytest.param((TensorSpec("c", "FP32", (-1,)),), (TensorSpec("x", "FP32", (-1, 2)),), id="no such column"),
    ],
)
def test_samples_say_only_what_the_file_leaves_open(sampled: Any, inputs: Any, tmp_path: Path) -> None:
    xgb(tmp_path, "m.json", pd.DataFrame({"a": X[:, 0], "b": X[:, 1]}))
    assert opened(tmp_path, "m.json", sampled=sampled)[1].inputs == inputs


def test_width_of_a_matrix_comes_from_the_file(tmp_path: Path) -> None:
    xgb(tmp_path, "m.json")
    _, model = opened(tmp_path, "m.json", inputs=(TensorSpec("rows", "FP64", (-1, -1)),))
    assert model.inputs == (TensorSpec("rows", "FP64", (-1, 6)),)


def _tree(model: Any) -> Any:
    return model["learner"]["gradient_booster"]["model"]["trees"][0]


XGB_DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "child outside": (lambda m: _tree(m)["left_children"].__setitem__(0, 10**6), "points outside"),
    "loop": (lambda m: _tree(m)["left_children"].__setitem__(0, 0), "points outside"),
    "shared child": (lambda m: _tree(m)["left_children"].__setitem__(0, _tree(m)["right_children"][0]), "to the same node"),
    "feature": (lambda m: _tree(m)["split_indices"].__setitem__(0, 10**6), "asks for a feature past its 6"),
    "class": (lambda m: m["learner"]["gradient_booster"]["model"]["tree_info"].__setitem__(0, 99), "a class that does not exist"),
    "short": (lambda m: _tree(m)["split_conditions"].clear(), "tree 0 says other numbers of nodes than it has"),
}  # fmt: skip


@pytest.mark.parametrize("name", XGB_DAMAGE)
def test_damaged_xgboost_model_never_gets_to_predict(name: str, tmp_path: Path) -> None:
    damage, words = XGB_DAMAGE[name]
    xgb(tmp_path, "m.json")
    model = json.loads((tmp_path / "m.json").read_text())
    damage(model)
    (tmp_path / "m.json").write_text(json.dumps(model))
    with pytest.raises(LoadFailed, match=words) as caught:
        opened(tmp_path, "m.json")
    assert "\n" not in str(caught.value)


# -- LightGBM


def lgb(root: Path, path: str = "m.txt", frame: Any = X, **parameters: Any) -> lightgbm.Booster:
    wanted = {"objective": "multiclass", "num_class": 3, "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1}
    wanted |= parameters
    data = lightgbm.Dataset(frame, Y, params={"verbose": -1}, free_raw_data=False)
    booster = lightgbm.train(wanted, data, 3)
    booster.save_model(root / path)
    return booster


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"objective": "regression", "num_class": 1},
        {"boosting": "dart"},
        {"linear_tree": True, "objective": "l2", "num_class": 1},
    ],
    ids=str,
)
def test_lightgbm_answers_as_the_booster_itself(parameters: Any, tmp_path: Path) -> None:
    booster = lgb(tmp_path, **parameters)
    chosen, model = opened(tmp_path, "m.txt")
    assert chosen == "lightgbm"
    got = model.predict({"x": X}, ("predict", "raw_score", "leaf"))
    want = {
        "predict": booster.predict(X),
        "raw_score": booster.predict(X, raw_score=True),
        "leaf": booster.predict(X, pred_leaf=True),
    }
    for name, right in want.items():
        assert got[name].tolist() == np.asarray(right).tolist()
        assert got[name].dtype == np.asarray(right).dtype


def test_lightgbm_with_categories_passes_the_check(tmp_path: Path) -> None:
    frame = np.c_[X * 0, Y * 2 + (np.arange(len(X)) % 2)]
    data = lightgbm.Dataset(
        frame, Y, categorical_feature=[6], params={"verbose": -1, "min_data_per_group": 1, "max_cat_to_onehot": 1}
    )
    wanted = {
        "objective": "multiclass",
        "num_class": 3,
        "min_data_in_leaf": 1,
        "cat_smooth": 0.0,
        "min_data_per_group": 1,
        "verbose": -1,
    }
    booster = lightgbm.train(wanted, data, 30)
    booster.save_model(tmp_path / "m.txt")
    assert re.search(r"num_cat=[1-9]", (tmp_path / "m.txt").read_text())
    _, model = opened(tmp_path, "m.txt", inputs=(TensorSpec("x", "FP64", (-1, 7)),))
    assert model.predict({"x": frame}, ("predict",))["predict"].tolist() == np.asarray(booster.predict(frame)).tolist()


LGB_DAMAGE = {
    "child outside": (r"left_child=1", "left_child=9", "points outside"),
    "loop": (r"left_child=\d", "left_child=0", "points outside"),
    "leaf outside": (r"left_child=1 -1", "left_child=1 -9", "points outside"),
    "feature": (r"split_feature=2", "split_feature=9", "a feature past its 4"),
    "a child less": (r"left_child=1 -1", "left_child=1   ", "other numbers of nodes"),
    "sizes": (r"tree_sizes=443", "tree_sizes=444", "is not where tree_sizes says"),
    "classes": (r"num_tree_per_iteration=3", "num_tree_per_iteration=2", "classes and trees do not agree"),
    "objective": (r"num_class:3", "num_class:9", "another number of classes"),
    "objective twice": (r"num_class:3", "num_class:3 num_class:9", "another number of classes"),
    "objective with a sign": (r"num_class:3", "num_class:+9", "another number of classes"),
    "line of a carriage return": (r"label_index=0", "label_index=0\rnum_class=300\r", "other lines than key=value"),
    "key behind an =": (r"label_index=0", "label_index=0\n=num_class=300", "other lines than key=value"),
    "number of Python's": (r"max_feature_idx=3", "max_feature_idx=0_3", "where a whole number should be"),
    "no number": (r"num_leaves=3", "num_leaves=x", "is not a whole LightGBM model"),
}


@pytest.mark.parametrize("name", LGB_DAMAGE)
def test_damaged_lightgbm_text_never_gets_to_lightgbm(name: str, tmp_path: Path) -> None:
    pattern, replacement, words = LGB_DAMAGE[name]
    kit = unpack("iris-lightgbm", tmp_path)
    path = tmp_path / kit.files.path
    text, changed = re.subn(pattern, replacement, path.read_text(), count=1)
    assert changed
    path.write_text(text)
    with pytest.raises(LoadFailed, match=words):
        kit.load()


# -- CatBoost


def cat(root: Path, model: Any, frame: Any = X, labels: Any = Y, **fit: Any) -> Any:
    model.fit(frame, labels, verbose=False, **fit)
    model.save_model(str(root / "m.cbm"))
    return model


def test_catboost_answers_as_the_model_itself(tmp_path: Path) -> None:
    names = np.array(["a", "b", "c"])[Y]
    trained = cat(
        tmp_path, catboost.CatBoostClassifier(iterations=5, thread_count=1, allow_writing_files=False), labels=names
    )
    chosen, model = opened(tmp_path, "m.cbm")
    assert (chosen, model.labels) == ("catboost", ("a", "b", "c"))
    got = model.predict({"x": X}, ("predict", "predict_proba", "raw"))
    assert got["predict"].tolist() == [label.encode() for label in trained.predict(X).ravel()]
    np.testing.assert_array_equal(got["predict_proba"], trained.predict_proba(X))
    assert [(o.datatype, o.shape) for o in model.outputs] == [("BYTES", (-1,)), ("FP64", (-1, 3)), ("FP64", (-1, 3))]


def test_catboost_predicts_what_its_loss_function_is_for(tmp_path: Path) -> None:
    for loss in ("RMSEWithUncertainty", "Tweedie:variance_power=1.5", "Poisson"):
        made = catboost.CatBoostRegressor(iterations=3, thread_count=1, allow_writing_files=False, loss_function=loss)
        trained = cat(tmp_path, made, labels=np.abs(X[:, 0]))
        _, model = opened(tmp_path, "m.cbm")
        np.testing.assert_array_equal(model.predict({"x": X}, ("predict",))["predict"], trained.predict(X))


def test_catboost_regression(tmp_path: Path) -> None:
    trained = cat(
        tmp_path, catboost.CatBoostRegressor(iterations=5, thread_count=1, allow_writing_files=False), labels=X[:, 0]
    )
    _, model = opened(tmp_path, "m.cbm")
    assert [(o.name, o.datatype, o.shape) for o in model.outputs] == [
        ("predict", "FP64", (-1,)),
        ("raw", "FP64", (-1,)),
    ]
    np.testing.assert_array_equal(model.predict({"x": X}, ("predict",))["predict"], trained.predict(X))


def test_catboost_takes_categories_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": X[:, 0], "c": np.array(["red", "green", "blue"])[Y]})
    classifier = catboost.CatBoostClassifier(iterations=5, thread_count=1, allow_writing_files=False)
    trained = cat(tmp_path, classifier, frame, cat_features=["c"])
    _, model = opened(tmp_path, "m.cbm")
    assert [(s.name, s.datatype) for s in model.inputs] == [("n", "FP32"), ("c", "BYTES")]
    colours = np.empty(len(frame), dtype=object)
    colours[:] = [c.encode() for c in frame["c"]]
    got = model.predict({"n": X[:, 0].copy(), "c": colours}, ("predict_proba",))["predict_proba"]
    np.testing.assert_array_equal(got, trained.predict_proba(frame))
    with pytest.raises(WrongInput, match="different numbers of rows: n: 1, c: 2"):
        model.predict({"n": X[:1, 0], "c": colours[:2]}, ("predict",))
    sampled = (TensorSpec("n", "FP64", (-1,)), TensorSpec("c", "FP64", (-1,)))
    _, model = opened(tmp_path, "m.cbm", sampled=sampled)
    assert [(s.name, s.datatype) for s in model.inputs] == [("n", "FP64"), ("c", "BYTES")]


# -- files that are cut off


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.7])
@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "catboost"])
def test_truncated_file_fails_in_one_line(kind: str, part: float, tmp_path: Path) -> None:
    if kind == "catboost":
        cat(tmp_path, catboost.CatBoostRegressor(iterations=2, thread_count=1, allow_writing_files=False))
    path = {"xgboost": "m.ubj", "lightgbm": "m.txt", "catboost": "m.cbm"}[kind]
    (xgb if kind == "xgboost" else lgb)(tmp_path, path) if kind != "catboost" else None
    data = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(data[: int(len(data) * part)])
    with pytest.raises(LoadFailed) as caught:
        load(files_in(tmp_path, path), Options(), framework=None, format=None, adapter=kind, warn=print)
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)


# -- what their own estimators would answer


def test_xgboost_uses_the_trees_up_to_its_best_iteration(tmp_path: Path) -> None:
    estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, learning_rate=0.9, n_jobs=1)
    estimator.fit(X[:40], Y[:40], eval_set=[(X[40:], Y[40:])], verbose=0)
    estimator.save_model(tmp_path / "m.ubj")
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    _, model = opened(tmp_path, "m.ubj")
    assert model.predict({"x": X}, ("predict",))["predict"].tolist() == estimator.predict_proba(X).tolist()
    assert model.predict({"x": X}, ("leaf",))["leaf"].tolist() == estimator.apply(X).tolist()


def test_lightgbm_takes_doubles(tmp_path: Path) -> None:
    seconds = 1_700_000_000 + np.arange(400.0).reshape(-1, 1)
    estimator = lightgbm.LGBMRegressor(n_estimators=9, verbose=-1, min_child_samples=2, n_jobs=1)
    estimator.fit(seconds, seconds[:, 0] // 50 % 2).booster_.save_model(tmp_path / "m.txt")
    _, model = opened(tmp_path, "m.txt")
    assert model.inputs == (TensorSpec("x", "FP64", (-1, 1)),)
    assert model.predict({"x": seconds}, ("predict",))["predict"].tolist() == estimator.predict(seconds).tolist()


@pytest.mark.parametrize("path", ["m.txt", "m.ubj", "m.json"])
def test_categories_in_a_file_are_texts(path: str, tmp_path: Path) -> None:
    colours, sizes = np.array(["red", "green", "blue"])[Y], np.arange(len(Y)) % 2 + 5
    frame = pd.DataFrame({"a": X[:, 0], "colour": pd.Categorical(colours), "size": pd.Categorical(sizes)})
    if path == "m.txt":
        of_lightgbm = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=2, n_jobs=1)
        of_lightgbm.fit(frame, Y).booster_.save_model(tmp_path / path)
        want = of_lightgbm.predict_proba(frame)
    else:
        of_xgboost = xgboost.XGBClassifier(n_estimators=3, enable_categorical=True, n_jobs=1).fit(frame, Y)
        of_xgboost.save_model(tmp_path / path)
        want = of_xgboost.predict_proba(frame)
    _, model = opened(tmp_path, path)
    assert [(s.name, s.datatype) for s in model.inputs[1:]] == [("colour", "BYTES"), ("size", "INT64")]
    assert json.loads(model.properties["categories"]) == {"colour": ["blue", "green", "red"], "size": [5, 6]}
    assert model.example == {"colour": ["blue"], "size": [5]}
    columns = {
        "a": X[:, 0].astype(np.float64),
        "colour": np.array([c.encode() for c in colours], object),
        "size": sizes,
    }
    assert model.predict(columns, ("predict",))["predict"].tolist() == want.tolist()
    codes = np.c_[columns["a"], frame["colour"].cat.codes, frame["size"].cat.codes]
    assert model.predict({"x": codes}, ("predict",))["predict"].tolist() == want.tolist()
    for wrong in (3.0, 0.5, -1.0):
        with pytest.raises(WrongInput, match=r"column 'colour' of the matrix, row 0, is no code of its 3 categories"):
            model.predict({"x": np.array([[0.0, wrong, 0.0]])}, ("predict",))
    with pytest.raises(WrongInput, match="input 'size': element 1 is none of its categories: 5, 6"):
        model.predict({n: a[:2] for n, a in columns.items()} | {"size": np.array([5, 7])}, ("predict",))
