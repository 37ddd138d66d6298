from __future__ import annotations

import functools
import json
import pickle
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances
from threadpoolctl import threadpool_limits

from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec, WrongInput
from adapters.sklearn.adapter import load
from adapters.values import to_protocol
from tests.campaign import Campaign

from .kits import check_case, expected, files_in, unpack

DIABETES = pytest.param("diabetes-skops", marks=pytest.mark.slow)  # the import of skops takes four seconds
X, Y = make_classification(60, 8, n_informative=5, n_classes=3, random_state=0)
X = np.abs(X)


@pytest.mark.parametrize("name", ["wine-sklearn", "titanic-sklearn", "spam-sklearn", DIABETES])
def test_golden_kit_answers_right(name: str, tmp_path: Path) -> None:
    chosen, model, warned = unpack(name, tmp_path).load()
    assert (chosen, model.platform, warned) == ("sklearn", "sklearn", [])
    for case in expected(name)["cases"]:
        check_case(model, case)


def test_wine_of_the_oldest_era_answers_when_asked_for_outputs(tmp_path: Path) -> None:
    _, model, _ = unpack("wine-sklearn", tmp_path).load(outputs=())
    assert model.default_outputs == ("predict",)
    for case in expected("wine-sklearn")["cases"]:
        check_case(
            model,
            case | {"request": case["request"] | {"outputs": [{"name": n} for n in ("predict", "predict_proba")]}},
        )


def served(estimator: Any, root: Path, **options: Any) -> Model:
    joblib.dump(estimator, root / "m.joblib")
    return load(files_in(root, "m.joblib"), Options(**options))


def texts(*values: str) -> Any:
    made = np.empty(len(values), dtype=object)
    made[:] = [v.encode() for v in values]
    return made


# -- families


def fitted(name: str, cls: Any) -> Any:
    """The first instance that scikit-learn's own tests would make and that can be fitted here."""
    shapes = ((X, Y), (X, np.c_[Y, Y]), ([" ".join(map(str, row)) for row in X], Y), (Y,), (X[:, 0], Y))
    for estimator in _construct_instances(cls):
        for arguments in shapes:
            try:
                return estimator.fit(*arguments)
            except (ValueError, TypeError, AttributeError, IndexError):
                continue
    return None


@functools.cache
def families() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: cls for name, cls in all_estimators() if not name.startswith("Frozen")}


METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")
DUMPS = {
    "joblib": lambda e, p: joblib.dump(e, p),
    "pickle": lambda e, p: p.write_bytes(pickle.dumps(e)),
    "skops": lambda e, p: import_module("skops.io").dump(e, p),
}
DRAWN = {
    ("BernoulliRBM", "score_samples"),
    ("DummyClassifier", "predict"),
    ("DummyClassifier", "predict_proba"),
    ("RadiusNeighborsRegressor", "predict"),
}
"""Answers that scikit-learn itself draws anew each time, or in a type that depends on the values."""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small are fitted faster by one thread than by several that wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("letters", ["ABC", "DEF", "GHIJK", "LMN", "OPQR", "STUVWXYZ"])
def test_served_answers_equal_those_in_process(letters: str, tmp_path: Path, campaign: Campaign) -> None:
    """Each estimator in one form, by turns, and in all of them in CI."""
    tested, turns, many = Counter[str](), cycle(DUMPS), campaign(1, len(DUMPS), len(DUMPS))
    for name, cls in families().items():
        if name[0] not in letters or not any(hasattr(cls, method) for method in METHODS):
            continue
        if (estimator := fitted(name, cls)) is None or not any(hasattr(estimator, method) for method in METHODS):
            continue
        for form in islice(turns, many):
            path = tmp_path / f"m.{form}"
            try:
                DUMPS[form](estimator, path)
            except TypeError:  # skops: no way to save a type
                assert form == "skops"
                continue
            tested[form] += compare(name, estimator, load(files_in(tmp_path, path.name), Options()))
    assert min(tested[form] for form in DUMPS) >= (5 if many > 1 else 3)


def compare(name: str, estimator: Any, model: Model) -> int:
    (spec,) = model.inputs
    if spec.datatype == "BYTES":
        rows: Any = [" ".join(map(str, row)) for row in X[:7]]
        given = texts(*rows)
    else:
        rows = X[:7] if len(spec.shape) == 2 else (Y[:7] if "Label" in name else X[:7, 0])
        given = rows = rows.astype({"FP64": np.float64, "INT64": np.int64}[spec.datatype])
        given.flags.writeable = False  # as views of a request's body are
    outputs = {o.name: o for o in model.outputs}
    for method in METHODS:
        if method not in outputs or (name, method) in DRAWN:
            continue
        try:
            want = getattr(estimator, method)(rows)
        except (ValueError, TypeError, AttributeError):  # this data is not for that method
            continue
        want = to_protocol(np.asarray(want.toarray() if hasattr(want, "toarray") else want))
        got = model.predict({spec.name: given}, (method,))[method]
        assert got.dtype == want.dtype, (name, method)
        assert got.shape == want.shape, (name, method)
        assert got.tobytes() == want.tobytes() if got.dtype != object else got.tolist() == want.tolist(), (name, method)
        assert len(outputs[method].shape) == got.ndim, (name, method)
    return 1


# -- inputs

PEOPLE = pd.DataFrame({"age": [25.0, 63.0, 6.0, 40.0], "sex": ["f", "m", "f", "m"], "rooms": [1, 2, 3, 1]})
ALIVE = np.array(["yes", "no", "yes", "no"])


def people_pipeline() -> Any:
    return make_pipeline(
        ColumnTransformer(
            [
                ("n", StandardScaler(), ["age"]),
                (
                    "c",
                    make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
                    ["sex"],
                ),
                ("o", OrdinalEncoder(), ["rooms"]),
            ]
        ),
        LogisticRegression(),
    )


def test_columns_of_a_frame_become_inputs_of_their_kinds(tmp_path: Path) -> None:
    fitted = people_pipeline().fit(PEOPLE, ALIVE)
    model = served(fitted, tmp_path)
    assert [(s.name, s.datatype, s.shape) for s in model.inputs] == [
        ("age", "FP64", (-1,)), ("sex", "BYTES", (-1,)), ("rooms", "INT64", (-1,)),
    ]  # fmt: skip
    given = {"sex": texts("m", "f"), "rooms": np.array([2, 1]), "age": np.array([30.0, 50.0])}
    frame = pd.DataFrame({"age": [30.0, 50.0], "sex": ["m", "f"], "rooms": [2, 1]})
    got = model.predict(given, ("predict", "predict_proba"))
    assert got["predict"].tolist() == [label.encode() for label in fitted.predict(frame)]
    assert got["predict_proba"].tobytes() == fitted.predict_proba(frame).tobytes()
    assert model.labels == ("no", "yes")


def test_columns_of_unequal_lengths_are_the_clients_mistake(tmp_path: Path) -> None:
    model = served(people_pipeline().fit(PEOPLE, ALIVE), tmp_path)
    given = {"sex": texts("m"), "rooms": np.array([2, 1]), "age": np.array([30.0, 50.0])}
    with pytest.raises(WrongInput, match="different numbers of rows: sex: 1, rooms: 2, age: 2"):
        model.predict(given, ("predict",))


def test_frame_of_numbers_needs_no_pandas_to_predict(tmp_path: Path) -> None:
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, Y)
    model = served(fitted, tmp_path)
    assert [s.name for s in model.inputs] == ["a", "b", "c"]
    got = model.predict({"c": X[:5, 2], "a": X[:5, 0], "b": X[:5, 1]}, ("predict_proba",))["predict_proba"]
    assert got.tobytes() == fitted.predict_proba(frame[:5]).tobytes()
    whole = served(fitted, tmp_path, inputs=(TensorSpec("m", "FP64", (-1, 3)),))
    assert whole.predict({"m": X[:5, :3].copy()}, ("predict_proba",))["predict_proba"].tobytes() == got.tobytes()


def test_wide_frame_is_one_matrix(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.tile(X, 10), columns=[f"c{i}" for i in range(80)])
    model = served(LogisticRegression().fit(frame, Y), tmp_path)
    assert model.inputs == (TensorSpec("x", "FP64", (-1, 80)),)


def test_what_only_the_model_can_find_wrong_is_the_clients_mistake(tmp_path: Path) -> None:
    model = served(OneHotEncoder().fit(np.array([["X"], ["Y"]], dtype=object)), tmp_path)
    with pytest.raises(WrongInput, match=r"^Found unknown categories .*Z.* in column 0 during transform$"):
        model.predict({spec.name: texts("Z").reshape(-1, 1) for spec in model.inputs}, model.default_outputs)
    fitted = served(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y), tmp_path)
    with pytest.raises(WrongInput, match="contains NaN"):
        fitted.predict({fitted.inputs[0].name: np.full((2, 8), np.nan)}, fitted.default_outputs)


@pytest.mark.slow
def test_column_selector_and_search_are_looked_through(tmp_path: Path) -> None:
    prepare = ColumnTransformer(
        [("n", StandardScaler(), make_column_selector(dtype_include=np.number)), ("c", OneHotEncoder(), ["sex"])]
    )
    search = GridSearchCV(
        Pipeline([("p", prepare), ("m", LogisticRegression())]), {"m__C": [1.0]}, cv=2, scoring="f1_macro"
    )
    model = served(search.fit(PEOPLE, ALIVE), tmp_path)
    assert [s.datatype for s in model.inputs] == ["FP64", "BYTES", "FP64"]


def test_text_goes_to_vectorisers_in_unions_and_searches(tmp_path: Path) -> None:
    docs = ["win a prize", "status report", "win win", "report of a project"] * 2
    union = FeatureUnion([("w", CountVectorizer()), ("c", CountVectorizer(analyzer="char"))])
    search = GridSearchCV(make_pipeline(union, LogisticRegression()), {"logisticregression__C": [1.0]}, cv=2)
    model = served(search.fit(docs, [1, 0, 1, 0] * 2), tmp_path)
    assert model.inputs == (TensorSpec("text", "BYTES", (-1,)),)
    assert model.predict({"text": texts("win", "report")}, ("predict",))["predict"].tolist() == [1, 0]


@pytest.mark.parametrize("pattern", [r"(?u)\b\w\w+\b", r"(\w)x|y"])
def test_a_long_text_has_the_words_that_scikit_learn_finds(pattern: str, tmp_path: Path) -> None:
    estimator = CountVectorizer(vocabulary=["ax", "a", ""], token_pattern=pattern)
    given = ["ax y ab", "ax y ab " * 20_000]
    made = served(estimator, tmp_path).predict({"text": texts(*given)}, ("transform",))["transform"]
    assert made.tolist() == estimator.transform(given).toarray().tolist()
    assert made.any(axis=1).all()


def test_a_method_of_texts_may_be_the_tokenizer_and_no_other(tmp_path: Path) -> None:
    lines = ["red wine", "white wine"]
    estimator = CountVectorizer(tokenizer=str.split, preprocessor=str.lower, token_pattern=None).fit(lines)
    model = served(estimator, tmp_path)
    got = model.predict({"text": texts("Red red")}, ("transform",))["transform"]
    assert got.tolist() == estimator.transform(["Red red"]).toarray().tolist()
    for other in (str.format, str.zfill, str.encode):
        with pytest.raises(LoadFailed, match=f"getattr is called for a text's '{other.__name__}'"):
            served(estimator.set_params(tokenizer=other), tmp_path)
    with pytest.raises(Refused, match="which is no function of numpy's"):
        served(FunctionTransformer(str.lower), tmp_path)


def test_dictionaries_come_as_json(tmp_path: Path) -> None:
    model = served(
        make_pipeline(DictVectorizer(), LinearRegression()).fit([{"a": 1.0}, {"b": 2.0}], [1.0, 2.0]), tmp_path
    )
    assert model.inputs == (TensorSpec("features", "BYTES", (-1,)),)
    got = model.predict({"features": texts(json.dumps({"a": 1.0}))}, ("predict",))["predict"]
    assert got.shape == (1,)
    assert model.predict({"features": texts('{"a": "x", "b": ["y", "z"]}')}, ("predict",))["predict"].shape == (1,)
    for text in ("[1]", '{"a": [1]}', '{"a": {"b": 1}}'):
        with pytest.raises(WrongInput, match="element 0 must be a JSON object of numbers, texts, lists of texts"):
            model.predict({"features": texts(text)}, ("predict",))
    for text in ("{", '{"a": ' + "[" * 100_000):
        with pytest.raises(WrongInput, match="element 0 is not JSON"):
            model.predict({"features": texts(text)}, ("predict",))


def test_matrix_of_texts_is_bytes(tmp_path: Path) -> None:
    rows = np.array([["a", "x"], ["b", "y"], ["a", "y"]], dtype=object)
    model = served(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, [0, 1, 0]), tmp_path)
    assert model.inputs == (TensorSpec("x", "BYTES", (-1, 2)),)
    assert model.predict({"x": texts("b", "y").reshape(1, 2)}, ("predict",))["predict"].tolist() == [1]


def test_inputs_of_the_kit_win_and_must_fit(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(X, Y)
    model = served(fitted, tmp_path, inputs=(TensorSpec("rows", "FP32", (-1, 8)),))
    assert model.inputs == (TensorSpec("rows", "FP32", (-1, 8)),)
    with pytest.raises(LoadFailed, match="differ in 'agee'"):
        served(
            people_pipeline().fit(PEOPLE, ALIVE),
            tmp_path,
            inputs=tuple(TensorSpec(n, "FP64", (-1,)) for n in ("agee", "sex", "rooms")),
        )


NAMED = pd.DataFrame(X[:, :2], columns=["a", "b"])


@pytest.mark.parametrize(
    ("estimator", "sampled", "inputs"),
    [
        pytest.param(LogisticRegression().fit(X, Y), (TensorSpec("rows", "FP32", (-1, 8)),),
                     [("x", "FP32", (-1, 8))], id="another datatype"),
        pytest.param(LogisticRegression().fit(X, Y), (TensorSpec("rows", "FP32", (-1, 9)),),
                     [("x", "FP64", (-1, 8))], id="another width"),
        pytest.param(LogisticRegression().fit(NAMED, Y), (TensorSpec("a", "FP32", (-1,)),),
                     [("a", "FP32", (-1,)), ("b", "FP64", (-1,))], id="a column"),
        pytest.param(LogisticRegression().fit(NAMED, Y), (TensorSpec("rows", "INT64", (-1, 2)),),
                     [("x", "INT64", (-1, 2))], id="a matrix for a frame"),
        pytest.param(OneHotEncoder().fit([["a"], ["b"]]), (TensorSpec("x", "FP64", (-1, 1)),),
                     [("x", "BYTES", (-1, 1))], id="categories"),
        pytest.param(CountVectorizer().fit(["a bc"]), (TensorSpec("x", "FP64", (-1, 1)),),
                     [("text", "BYTES", (-1,))], id="texts"),
    ],
)  # fmt: skip
def test_samples_say_only_what_no_fitted_part_says(estimator: Any, sampled: Any, inputs: Any, tmp_path: Path) -> None:
    assert [(s.name, s.datatype, s.shape) for s in served(estimator, tmp_path, sampled=sampled).inputs] == inputs


# -- outputs


def test_probabilities_of_several_targets_are_outputs_of_their_own(tmp_path: Path) -> None:
    fitted = MultiOutputClassifier(LogisticRegression()).fit(X, np.c_[Y, Y > 0])
    model = served(fitted, tmp_path)
    assert [(o.name, o.shape) for o in model.outputs] == [
        ("predict", (-1, 2)), ("predict_proba_0", (-1, 3)), ("predict_proba_1", (-1, 2)),
    ]  # fmt: skip
    want = fitted.predict_proba(X[:2])
    got = model.predict({"x": X[:2]}, ("predict_proba_1", "predict_proba_0"))
    assert [got[f"predict_proba_{i}"].tolist() for i in (0, 1)] == [w.tolist() for w in want]


def test_sparse_and_transform_only_models(tmp_path: Path) -> None:
    model = served(OneHotEncoder(handle_unknown="ignore").fit(np.array([[0], [1], [2]])), tmp_path)
    assert model.default_outputs == ("transform",)
    assert model.inputs == (TensorSpec("x", "INT64", (-1, 1)),)
    assert model.predict({"x": np.array([[1]])}, ("transform",))["transform"].tolist() == [[0.0, 1.0, 0.0]]


def test_label_encoder_takes_labels(tmp_path: Path) -> None:
    model = served(LabelEncoder().fit(["a", "b"]), tmp_path)
    assert model.inputs == (TensorSpec("x", "BYTES", (-1,)),)
    assert model.predict({"x": texts("b", "a")}, ("transform",))["transform"].tolist() == [1, 0]


def test_model_without_a_method_for_rows_says_so(tmp_path: Path) -> None:
    from sklearn.cluster import DBSCAN

    with pytest.raises(LoadFailed, match=r"m\.joblib holds a DBSCAN, which has none of predict"):
        served(DBSCAN().fit(X), tmp_path)
    with pytest.raises(
        LoadFailed, match=r"holds a dict, which has none of predict.*apply; save the fitted estimator itself$"
    ):
        served({"model": 1}, tmp_path)


def test_a_model_beside_other_things_in_a_file_is_named(tmp_path: Path) -> None:
    scaler, model = StandardScaler().fit(X), LogisticRegression().fit(X, Y)
    for made, key, more in (
        ({"columns": ["a"], "scaler": scaler, "model": model}, "'model'", ", of several make a Pipeline"),
        ((model, ["a"]), "0", ""),
    ):
        joblib.dump(made, tmp_path / "m.joblib")
        with pytest.raises(LoadFailed) as error:
            load(files_in(tmp_path, "m.joblib"), Options())
        save = f"joblib.dump(joblib.load('m.joblib')[{key}], 'model.joblib')"
        assert f"a LogisticRegression as {key}: save the model alone{more}: {save}" in str(error.value)


def test_forest_runs_in_one_thread_unless_told(tmp_path: Path) -> None:
    fitted = RandomForestClassifier(5, n_jobs=-1, random_state=0).fit(X, Y)
    for own, want in (({}, 1), ({"n_jobs": 2}, 2)):
        joblib.dump(fitted, tmp_path / "m.joblib")
        from adapters.sklearn import file as sklearn_file
        from adapters.sklearn import model as sklearn_model

        estimator, version = sklearn_file.load_estimator(files_in(tmp_path, "m.joblib"), Options(own=own))
        sklearn_model.as_model(estimator, version, files_in(tmp_path, "m.joblib"), Options(own=own))
        assert estimator.n_jobs == want


# -- versions and trust


def old_version(estimator: Any) -> bytes:
    return pickle.dumps(estimator, 4).replace(
        b"_sklearn_version\x94\x8c\x051.9.1", b"_sklearn_version\x94\x8c\x051.3.0"
    )


def test_another_version_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(old_version(LogisticRegression().fit(X, Y)))
    from .kits import Unpacked

    for trust in ("restricted", "unsafe"):
        _, model, warned = Unpacked(files_in(tmp_path, "m.pkl"), {}, {}).load(trust=trust)
        assert model.properties["sklearn_version_saved"] == "1.3.0"
        assert warned == [model.properties["warning"]]
        assert warned[0].startswith("the model was saved by scikit-learn 1.3.0 and is served by 1.9.1")


CUSTOM = "from sklearn.base import BaseEstimator\nclass Mine(BaseEstimator):\n    def predict(self, x):\n        return x[:, 0]\n"


def custom_kit(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (root / "src").mkdir()
    (root / "src" / "mine_model.py").write_text(CUSTOM)
    (root / "m.pkl").write_bytes(b"\x80\x02cmine_model\nMine\n)\x81}X\x0e\x00\x00\x00n_features_in_K\x02sb.")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return files_in(root, "m.pkl", code=("src",))


def test_own_classes_need_a_word_of_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = custom_kit(tmp_path, monkeypatch)
    with pytest.raises(Refused, match=r"wants mine_model\.Mine, which"):
        load(files, Options())
    model = load(files, Options(trust="unsafe"))
    assert model.predict({"x": np.array([[3.0, 4.0]])}, ("predict",))["predict"].tolist() == [3.0]
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.slow
def test_data_level_takes_skops_and_no_pickle(tmp_path: Path) -> None:
    fitted = RandomForestClassifier(3, random_state=0).fit(X, Y)
    DUMPS["skops"](fitted, tmp_path / "m.skops")
    assert load(files_in(tmp_path, "m.skops"), Options(trust="data")).outputs
    joblib.dump(fitted, tmp_path / "m.joblib")
    with pytest.raises(
        Refused, match=r"m\.joblib is a pickle, which --trust data does not load.*use --trust restricted"
    ):
        load(files_in(tmp_path, "m.joblib"), Options(trust="data"))


@pytest.mark.slow
def test_skops_of_other_types_is_refused_by_name(tmp_path: Path) -> None:
    from sklearn.preprocessing import FunctionTransformer

    DUMPS["skops"](FunctionTransformer(func=json.dumps), tmp_path / "m.skops")
    with pytest.raises(Refused, match=r"json\.dumps"):
        load(files_in(tmp_path, "m.skops"), Options())


@pytest.mark.parametrize("name", ["wine-sklearn", "titanic-sklearn", DIABETES])
def test_kit_is_not_importable_below_unsafe(name: str, tmp_path: Path) -> None:
    before = [*sys.path]
    unpack(name, tmp_path).load()
    assert sys.path == before


def test_signed_loads_what_unsafe_loads(tmp_path: Path) -> None:
    unpack("wine-sklearn", tmp_path).load(trust="signed")


@pytest.mark.slow
@pytest.mark.parametrize("cut", [10, 200, 3000])
def test_truncated_skops_fails_in_one_line(cut: int, tmp_path: Path) -> None:
    kit = unpack("diabetes-skops", tmp_path)
    path = tmp_path / kit.files.path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadFailed, match=r"diabetes\.skops") as caught:
        kit.load(adapter="sklearn")
    assert "\n" not in str(caught.value)
