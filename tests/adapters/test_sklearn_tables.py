"""Tables: what a model that was fitted on a DataFrame takes, and what an older version saved."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import NMF
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - the next import needs it
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import hamming_loss, make_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, RepeatedStratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import RadiusNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec, WrongInput
from adapters.inspection import verdicts
from adapters.pickles.unpickler import load_pickle
from adapters.sklearn.adapter import load
from adapters.values import to_protocol

from .kits import files_in

SAVED = Path(__file__).parent / "saved"
"""What scikit-learn 1.5.2, LightGBM 3.3.5, XGBoost 1.7.6 and numpy 1.26 saved, and their own answers; an Index of
pandas 3.1 with pyarrow."""
RNG = np.random.default_rng(0)
PEOPLE = pd.DataFrame({
    "age": RNG.normal(40, 9, 60), "fare": RNG.normal(30, 5, 60), "sex": RNG.choice(["f", "m"], 60),
    "note": RNG.choice(["p", "q"], 60),
})  # fmt: skip
OLD = PEOPLE.age > 40
ONE_HOT = OneHotEncoder(handle_unknown="ignore")


def served(estimator: Any, root: Path, **options: Any) -> Model:
    joblib.dump(estimator, root / "m.joblib")
    return load(files_in(root, "m.joblib"), Options(**options))


def arrays(rows: pd.DataFrame) -> dict[str, Any]:
    return {name: to_protocol(np.asarray(rows[name])) for name in rows}


def check(estimator: Any, rows: pd.DataFrame, model: Model) -> None:
    for spec in model.outputs:
        want = to_protocol(np.asarray(getattr(estimator, spec.name)(rows)))
        got = model.predict(arrays(rows), (spec.name,))[spec.name]
        assert (got.dtype, got.shape, got.tolist()) == (want.dtype, want.shape, want.tolist()), spec.name
        assert len(spec.shape) == want.ndim


@pytest.mark.parametrize(
    "columns",
    [slice("age", "fare"), PEOPLE.columns[:2], pd.Index(["age", "fare"], dtype=object), pd.RangeIndex(2)],
    ids=str,
)
def test_columns_are_picked_as_people_pick_them(columns: Any, tmp_path: Path) -> None:
    chosen = [("n", StandardScaler(), columns), ("c", ONE_HOT, ["sex"])]
    estimator = make_pipeline(ColumnTransformer(chosen), LogisticRegression()).fit(PEOPLE, OLD)
    model = served(estimator, tmp_path)
    assert [(s.name, s.optional, s.ignored) for s in model.inputs] == [
        ("age", False, False), ("fare", False, False), ("sex", False, False), ("note", True, True),
    ]  # fmt: skip
    assert [s.datatype for s in model.inputs[:3]] == ["FP64", "FP64", "BYTES"]
    check(estimator, PEOPLE, model)
    without = arrays(PEOPLE.drop(columns="note"))
    assert (
        model.predict(without, ("predict_proba",))["predict_proba"].tolist() == estimator.predict_proba(PEOPLE).tolist()
    )


TEXTS = make_column_transformer((ONE_HOT, ["sex"]), (StandardScaler(), ["age"]))
SEXES = np.where(OLD, "old", PEOPLE.sex)


@pytest.mark.parametrize(
    "estimator",
    [
        MultiOutputClassifier(make_pipeline(TEXTS, LogisticRegression())),
        OneVsRestClassifier(make_pipeline(TEXTS, LogisticRegression())),
        Pipeline([("none", "passthrough"), ("columns", TEXTS), ("last", LogisticRegression())]),
    ],
    ids=["targets", "one against the rest", "passthrough"],
)
def test_columns_are_known_wherever_they_are_picked(estimator: Any, tmp_path: Path) -> None:
    estimator.fit(PEOPLE, np.c_[SEXES, PEOPLE.sex] if isinstance(estimator, MultiOutputClassifier) else SEXES)
    model = served(estimator, tmp_path)
    assert [(s.datatype, s.ignored) for s in model.inputs] == [
        ("FP64", False), ("FP64", True), ("BYTES", False), ("FP64", True),
    ]  # fmt: skip
    got = model.predict(arrays(PEOPLE), ("predict",))["predict"]
    assert got.tolist() == to_protocol(estimator.predict(PEOPLE)).tolist()


@pytest.mark.parametrize(
    "first",
    [("scale", "passthrough"), ("union", FeatureUnion([("none", "drop"), ("scale", StandardScaler())]))],
    ids=lambda first: first[0],
)
def test_names_are_kept_behind_a_first_step_that_is_none(first: Any, tmp_path: Path) -> None:
    numbers = PEOPLE[["age", "fare"]]
    estimator = Pipeline([first, ("last", LogisticRegression())]).fit(numbers, OLD)
    model = served(estimator, tmp_path)
    assert [spec.name for spec in model.inputs] == ["age", "fare"]
    check(estimator, numbers, model)


def test_missing_texts_are_missing_values(tmp_path: Path) -> None:
    for missing in (np.nan, None):
        port = pd.Series(["S", "C", missing, "S", "S", "C"], dtype=object)
        frame = pd.DataFrame({"age": [20.0, 30, np.nan, 50, 60, 70], "port": port})
        texts = make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=missing), OneHotEncoder())
        encoders = [
            ("age", SimpleImputer(), ["age"]),
            ("port", texts if missing is not None else OneHotEncoder(), ["port"]),
        ]
        estimator = make_pipeline(ColumnTransformer(encoders), LogisticRegression()).fit(frame, [0, 0, 1, 1, 1, 0])
        model = served(estimator, tmp_path)
        assert [spec.nullable for spec in model.inputs] == [False, True]
        given = {"age": np.array([np.nan]), "port": np.array([None], object)}
        got = model.predict(given, ("predict_proba",))["predict_proba"]
        assert got.tolist() == estimator.predict_proba(frame[2:3]).tolist()


def test_dates_are_texts_of_iso_8601(tmp_path: Path) -> None:
    days = pd.Series(pd.to_datetime(["2026-01-01T00:00", "2026-02-01T10:30", "2026-01-01T00:00", "2026-03-01T00:00"]))
    frame = pd.DataFrame({"day": days, "n": [1.0, 2, 3, 4]})
    encoder = make_column_transformer((OneHotEncoder(), ["day"]), remainder="passthrough")
    estimator = make_pipeline(encoder, LinearRegression()).fit(frame, [1, 2, 3, 4])
    model = served(estimator, tmp_path)
    assert model.inputs[0].datatype == "BYTES"
    assert datetime.fromisoformat(str(model.example["day"][0])) == datetime(2026, 1, 1)
    given = {"day": np.array([b"2026-02-01T10:30:00", b"2026-01-01"], object), "n": np.array([2.0, 3.0])}
    assert model.predict(given, ("predict",))["predict"].tolist() == estimator.predict(frame[1:3]).tolist()
    with pytest.raises(WrongInput, match="input 'day': element 0 is no date of ISO 8601"):
        model.predict({**given, "day": np.array([b"1/2/26", b"2026-01-01"], object)}, ("predict",))


def test_numbers_are_taken_as_columns_or_as_a_matrix(tmp_path: Path) -> None:
    numbers = PEOPLE[["age", "fare"]]
    for width in (2, 70):
        frame = pd.DataFrame({f"c{i}": numbers["age"] + i for i in range(width)})
        estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, OLD)
        model = served(estimator, tmp_path)
        matrix, columns = (model.also, model.inputs) if width == 2 else (model.inputs, model.also)
        assert [spec.shape for spec in matrix] == [(-1, width)]
        assert [spec.name for spec in columns] == list(frame) == json.loads(model.properties["columns"])
        want = estimator.predict_proba(frame).tolist()
        for given in (arrays(frame), {"x": frame.to_numpy()}):
            assert model.predict(given, ("predict_proba",))["predict_proba"].tolist() == want


def test_texts_are_taken_as_columns_or_as_a_matrix(tmp_path: Path) -> None:
    frame = PEOPLE[["sex", "note"]].astype(object)
    frame.loc[3, "note"] = np.nan
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, OLD)
    want = estimator.predict_proba(frame).tolist()
    texts = [[None if value != value else value.encode() for value in row] for row in frame.to_numpy().tolist()]
    for name, rows in (("named", frame), ("matrix", frame.to_numpy())):
        model = served(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, OLD), tmp_path)
        assert [spec.nullable for spec in (*model.inputs, *model.also)] == ([True] * 3 if name == "named" else [False])
        matrix = np.array(texts, object)
        whole = {"x": matrix} if name == "named" else {"x": np.delete(matrix, 3, axis=0)}
        wanted = want if name == "named" else [row for i, row in enumerate(want) if i != 3]
        assert model.predict(whole, ("predict_proba",))["predict_proba"].tolist() == wanted
        assert model.example == ({"sex": ["f"], "note": ["p"]} if name == "named" else {"x": ["f", "p"]})


def test_columns_that_the_kit_names_for_a_matrix(tmp_path: Path) -> None:
    rows = np.array([["a", 1.0], ["b", 2.0], ["a", 3.0]], object)
    estimator = make_pipeline(
        make_column_transformer((OneHotEncoder(), [0]), remainder="passthrough"), LinearRegression()
    )
    inputs = (TensorSpec("kind", "BYTES", (-1,)), TensorSpec("n", "FP64", (-1,)))
    model = served(estimator.fit(rows, [1, 2, 3]), tmp_path, inputs=inputs)
    given = {"kind": np.array([b"a", b"b"], object), "n": np.array([1.0, 2.0])}
    assert model.predict(given, ("predict",))["predict"].tolist() == estimator.predict(rows[:2]).tolist()


def test_more_than_64_columns_of_mixed_kinds_keep_their_names(tmp_path: Path) -> None:
    frame = pd.DataFrame({f"c{i}": RNG.normal(size=60) for i in range(70)}).assign(sex=PEOPLE.sex)
    numbers = [name for name in frame if name != "sex"]
    encoder = make_column_transformer((StandardScaler(), numbers), (ONE_HOT, ["sex"]))
    estimator = make_pipeline(encoder, LogisticRegression()).fit(frame, OLD)
    model = served(estimator, tmp_path)
    assert [spec.name for spec in model.inputs] == list(frame)
    check(estimator, frame, model)


def test_categorical_histogram_boosting_takes_texts(tmp_path: Path) -> None:
    frame = PEOPLE[["age"]].assign(sex=pd.Categorical(PEOPLE.sex))
    estimator = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(frame, OLD ^ (PEOPLE.sex == "f"))
    model = served(estimator, tmp_path)
    assert [spec.datatype for spec in model.inputs] == ["FP64", "BYTES"]
    check(estimator, frame, model)
    codes = np.c_[PEOPLE.age, frame.sex.cat.codes]
    by_code = HistGradientBoostingClassifier(max_iter=5, categorical_features=[1]).fit(codes, OLD)
    model = served(by_code, tmp_path)
    assert model.predict({"x": codes}, ("predict",))["predict"].tolist() == by_code.predict(codes).tolist()


CITIES = pd.DataFrame({"city": RNG.choice(["x", "y", "z"], 60)})
LEARNT = make_column_transformer((OneHotEncoder(sparse_output=False), ["city"]))
TARGETS = np.c_[RNG.integers(0, 2, 60), RNG.integers(0, 3, 60)]


@pytest.mark.parametrize(
    "last",
    [LogisticRegression(), IsolationForest(n_estimators=3), KMeans(2, n_init=1), LinearRegression()],
    ids=lambda last: type(last).__name__,
)
def test_outputs_are_those_of_a_row_that_was_learnt(last: Any, tmp_path: Path) -> None:
    targets = TARGETS.astype(float) if isinstance(last, LinearRegression) else OLD
    estimator = make_pipeline(LEARNT, last).fit(CITIES, targets)
    model = served(estimator, tmp_path)
    assert model.example == {"city": ["x"]}
    check(estimator, CITIES, model)


def test_several_targets_behind_an_encoder(tmp_path: Path) -> None:
    estimator = make_pipeline(LEARNT, MultiOutputClassifier(LogisticRegression())).fit(CITIES, TARGETS)
    model = served(estimator, tmp_path)
    shapes = {spec.name: spec.shape for spec in model.outputs}
    assert shapes == {"predict": (-1, 2), "predict_proba_0": (-1, 2), "predict_proba_1": (-1, 3)}
    assert model.predict(arrays(CITIES), ("predict",))["predict"].tolist() == estimator.predict(CITIES).tolist()


X = np.abs(RNG.normal(size=(60, 3))) + 0.1
PLAIN = {
    "imputer": lambda: make_pipeline(IterativeImputer(max_iter=2), LogisticRegression()),
    "search": lambda: RandomizedSearchCV(
        LogisticRegression(),
        {"C": scipy.stats.loguniform(1e-2, 1e2), "max_iter": scipy.stats.randint(50, 99)},
        n_iter=2, cv=2, random_state=0,
    ),
    "grid": lambda: GridSearchCV(
        make_pipeline(MinMaxScaler(clip=True), NMF(2, max_iter=500, tol=1e-2), LogisticRegression()),
        {"minmaxscaler__feature_range": [(0, 1), (0, 2)], "logisticregression__class_weight": [None, {0: 1, 1: 2}]}, cv=2,
    ),
    "repeated splits": lambda: GridSearchCV(
        LogisticRegression(), {"C": [1, 2]}, cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=1, random_state=0),
        scoring=make_scorer(hamming_loss, greater_is_better=False),
    ),
    "early stopping": lambda: HistGradientBoostingClassifier(max_iter=3, early_stopping=True, scoring="roc_auc"),
    "partial": lambda: make_pipeline(SelectKBest(partial(mutual_info_classif, random_state=0), k=2), LogisticRegression()),
    **{
        f.__name__: lambda f=f: make_pipeline(FunctionTransformer(f), LogisticRegression())
        for f in (np.log, np.nan_to_num, np.tanh, np.round, np.sqrt)
    },
    **{
        f"partial of {f.func.__name__}": lambda f=f: make_pipeline(FunctionTransformer(f), LogisticRegression())
        for f in (partial(np.clip, a_min=0, a_max=1), partial(np.round, decimals=1))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_harmless_names_are_served_at_restricted(name: str, tmp_path: Path) -> None:
    estimator = PLAIN[name]().fit(X, X[:, 0] > 1)
    model = served(estimator, tmp_path)
    for method in ("predict", "predict_proba"):
        assert model.predict({"x": X}, (method,))[method].tolist() == getattr(estimator, method)(X).tolist()


def test_a_partial_of_anything_else_is_refused(tmp_path: Path) -> None:
    for inner in (partial(print, sep=""), partial(np.clip, out=np.zeros(3)), partial(mutual_info_classif, X)):
        with pytest.raises((LoadFailed, Refused)):
            served(make_pipeline(FunctionTransformer(inner), LogisticRegression()), tmp_path)


def test_a_model_that_takes_no_made_up_row_warns_until_a_sample_shows_one(tmp_path: Path) -> None:
    rows = X + 100
    estimator = RadiusNeighborsClassifier(radius=1.0).fit(rows, OLD)  # refuses rows without a neighbour
    unknown = served(estimator, tmp_path)
    assert unknown.outputs == ()
    said, _, why = unknown.properties["outputs"].partition(": ")
    assert said == "unknown until the first answer"
    assert why.startswith("no row that could be made up is one of this model's (No neighbors found")
    assert why.endswith("; give the kit a sample")
    assert unknown.learn
    with pytest.raises(WrongInput, match="No neighbors found"):
        unknown.learn({"x": X})
    for model in (unknown.learn({"x": rows[:1]}), served(estimator, tmp_path, sample={"any": rows[:1]})):
        assert {"warning", "outputs"}.isdisjoint(model.properties)
        assert [(s.name, s.datatype, s.shape) for s in model.outputs] == [
            ("predict", "BOOL", (-1,)), ("predict_proba", "FP64", (-1, 2)),
        ]  # fmt: skip
        assert model.predict({"x": rows}, ("predict",))["predict"].tolist() == estimator.predict(rows).tolist()


@pytest.mark.slow  # the import of skops takes four seconds
@pytest.mark.parametrize("name", ["search", "grid", "partial"])
def test_harmless_names_are_served_from_skops_files(name: str, tmp_path: Path) -> None:
    estimator = PLAIN[name]()
    if name == "search":  # skops 0.16 cannot write what draws whole numbers
        del estimator.param_distributions["max_iter"]
    import_module("skops.io").dump(estimator.fit(X, X[:, 0] > 1), tmp_path / "m.skops")
    model = load(files_in(tmp_path, "m.skops"), Options())
    assert model.predict({"x": X}, ("predict",))["predict"].tolist() == estimator.predict(X).tolist()


@pytest.mark.slow
def test_skops_gets_no_partial_that_the_unpickler_refuses(tmp_path: Path) -> None:
    for inner, trust in (
        (partial(print, sep=""), "restricted"), (partial(mutual_info_classif, X), "restricted"),
        (partial(mutual_info_classif, random_state=0), "data"),
    ):  # fmt: skip
        import_module("skops.io").dump(SelectKBest(inner), tmp_path / "m.skops")
        with pytest.raises((LoadFailed, Refused)):
            load(files_in(tmp_path, "m.skops"), Options(trust=trust))


def test_a_pickled_table_is_called_one(tmp_path: Path) -> None:
    for table in (PEOPLE, PEOPLE.note):
        with pytest.raises(
            LoadFailed, match=r"m.joblib holds a pandas\.\S+, which is data and no model: save the fitted"
        ):
            served(table, tmp_path)
        (verdict,) = verdicts(files_in(tmp_path, "m.joblib"), Options())
        assert "which is data and no model" in (verdict.refused or "")


def test_what_cannot_predict_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="a Pipeline that cannot predict"):
        served(make_pipeline(StandardScaler(), LogisticRegression()), tmp_path)


def test_columns_that_nothing_tells_are_said_in_a_kitfile(tmp_path: Path) -> None:
    frame = PEOPLE[["age", "sex"]]
    scaled, coded = make_column_transformer((StandardScaler(), ["age"]), remainder="passthrough"), OneHotEncoder()
    for step in (scaled, coded := make_column_transformer((coded, ["sex"]))):
        step.set_params(verbose_feature_names_out=False)
    estimator = make_pipeline(scaled.set_output(transform="pandas"), coded, LogisticRegression()).fit(frame, OLD)
    with pytest.raises(LoadFailed, match="say the columns in a Kitfile beside it"):
        served(estimator, tmp_path)
    said = TensorSpec("age", "FP64", (-1,)), TensorSpec("sex", "BYTES", (-1,))
    model = served(estimator, tmp_path, inputs=said)
    assert model.learn is not None
    check(estimator, frame, model.learn(arrays(frame)))


def test_a_version_whose_models_predict_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, X[:, 0] > 1)
    del old[0]._fill_dtype  # which scikit-learn 1.2 did not have
    with monkeypatch.context() as patched:
        patched.setattr("sklearn.base.__version__", "1.2.2")
        joblib.dump(old, tmp_path / "m.joblib")
    said = r"a Pipeline that cannot predict: .*_fill_dtype.*; the model was saved by scikit-learn 1\.2\.2 and is served by .*save it again"
    with pytest.raises(LoadFailed, match=said):
        load(files_in(tmp_path, "m.joblib"), Options())


LOAD = """
import sys
from pathlib import Path
from adapters.base import ModelFiles, Options
from adapters.sklearn.adapter import ADAPTER
ADAPTER.prepare()
for name in ("numbers", "tables"):
    ADAPTER.load(ModelFiles(Path(sys.argv[1]), f"{name}.joblib"), Options())
    print("pandas" in sys.modules)
import pandas
"""


@pytest.mark.slow
def test_pandas_is_imported_for_tables_alone(tmp_path: Path) -> None:
    scaled = make_column_transformer((StandardScaler(), ["age"]))
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, OLD), tmp_path / "numbers.joblib")
    joblib.dump(make_pipeline(scaled, LogisticRegression()).fit(PEOPLE, OLD), tmp_path / "tables.joblib")
    done = subprocess.run([sys.executable, "-c", LOAD, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("name", json.loads((SAVED / "expected.json").read_text())["out"])
def test_older_versions_pickles_answer_as_they_did(name: str) -> None:
    expected = json.loads((SAVED / "expected.json").read_text())
    model = load(files_in(SAVED, f"{name}.joblib"), Options())
    rows = np.array(expected["X"])
    named: dict[str, Any] = dict(zip("abc", rows.T, strict=True))
    named["k"] = np.array([text.encode() for text in expected["k"]], object)
    got = model.predict(named if len(model.inputs) > 1 else {"x": rows}, ("predict_proba",))["predict_proba"]
    assert got.tolist() == expected["out"][name]


def test_an_index_of_arrow_texts_is_a_list() -> None:
    assert load_pickle(files_in(SAVED, "arrow5.pkl"), trust="restricted")[0] == ["age", "näme"]
