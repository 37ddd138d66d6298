"""Wrappers and boosters of LightGBM, XGBoost and CatBoost in pickles, at `restricted`: their own answers, bit for bit."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from adapters import load as load_any
from adapters.base import LoadFailed, Model, Options, Refused, WrongInput
from adapters.sklearn.adapter import load
from adapters.values import to_protocol

from .kits import files_in

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
YES = (X[:, 0] + 0.3 * RNG.normal(size=90) > 0).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
MIXED = FRAME.assign(colour=pd.Categorical(RNG.choice(["red", "green", "blue"], 90)), size=pd.Categorical(YES + 5))


def lgbm(**more: Any) -> Any:
    return lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=3, verbose=-1, n_jobs=1, **more)


def xgb(**more: Any) -> Any:
    return xgboost.XGBClassifier(n_estimators=3, n_jobs=1, **more)


def cat(**more: Any) -> Any:
    return catboost.CatBoostClassifier(iterations=3, verbose=0, thread_count=1, allow_writing_files=False, **more)


def early(**more: Any) -> Any:
    made = xgboost.XGBClassifier(n_estimators=40, early_stopping_rounds=2, eval_metric="logloss", n_jobs=1, **more)
    return made.fit(X[:45], YES[:45], eval_set=[(X[45:], YES[45:])], verbose=0)


ALONE = {
    "LGBMClassifier, texts": lambda: lgbm().fit(X, np.where(YES, "yes", "no")),
    "LGBMClassifier, 3 classes": lambda: lgbm().fit(X, YES + (X[:, 1] > 0)),
    "LGBMRegressor": lambda: lightgbm.LGBMRegressor(n_estimators=3, objective="poisson", verbose=-1, n_jobs=1).fit(
        X, YES
    ),
    "LGBMRanker": lambda: lightgbm.LGBMRanker(n_estimators=3, verbose=-1, n_jobs=1).fit(X, YES, group=[45, 45]),
    "XGBClassifier": lambda: xgb().fit(X, YES),
    "XGBClassifier, stopped early": early,
    "XGBClassifier, callbacks": lambda: xgb(callbacks=[xgboost.callback.EarlyStopping(2, save_best=True)]).fit(
        X, YES, eval_set=[(X, YES)], verbose=0
    ),
    "XGBClassifier, metric": lambda: xgb(eval_metric=log_loss).fit(X, YES, eval_set=[(X, YES)], verbose=0),
    "XGBClassifier, linear": lambda: xgb(booster="gblinear").fit(X, YES),
    "XGBClassifier, 3 classes": lambda: xgb().fit(X, YES + (X[:, 1] > 0)),
    "XGBRegressor": lambda: xgboost.XGBRegressor(n_estimators=3, booster="dart", n_jobs=1).fit(X, X[:, :2]),
    "XGBRFRegressor": lambda: xgboost.XGBRFRegressor(n_estimators=3, n_jobs=1).fit(X, X[:, 0]),
    "XGBRanker": lambda: xgboost.XGBRanker(n_estimators=3, n_jobs=1).fit(X, YES, group=[45, 45]),
    "CatBoostClassifier, texts": lambda: cat().fit(X, np.where(YES, "yes", "no")),
    "CatBoostRegressor": lambda: catboost.CatBoostRegressor(
        iterations=3, verbose=0, allow_writing_files=False, loss_function="Poisson"
    ).fit(X, YES),
}
AROUND = {
    "pipeline": lambda made: make_pipeline(StandardScaler(), made),
    "calibrated": lambda made: CalibratedClassifierCV(made, cv=2),
    "voting": lambda made: VotingClassifier([("a", made), ("b", LogisticRegression())], voting="soft"),
    "stacking": lambda made: StackingClassifier([("a", made)], LogisticRegression(), cv=2),
    "search": lambda made: GridSearchCV(made, {"random_state": [1]}, cv=2),
}


def served(estimator: Any, root: Path, **options: Any) -> Model:
    joblib.dump(estimator, root / "m.joblib")
    return load(files_in(root, "m.joblib"), Options(**options))


def arrays(rows: Any) -> dict[str, Any]:
    if not isinstance(rows, pd.DataFrame):
        return {"x": rows}
    return {name: to_protocol(np.asarray(rows[name])) for name in rows}


def check(estimator: Any, rows: Any, model: Model, left_out: tuple[str, ...] = ()) -> None:
    for spec in model.outputs:
        want = to_protocol(np.asarray(getattr(estimator, spec.name)(rows)))
        got = model.predict(arrays(rows), (spec.name,))[spec.name]
        assert (got.dtype, got.shape, got.tolist()) == (want.dtype, want.shape, want.tolist()), spec.name
    assert {spec.name for spec in model.outputs}.isdisjoint(left_out)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALONE)
def test_wrapper_answers_as_in_process(name: str, tmp_path: Path) -> None:
    estimator = ALONE[name]()
    check(estimator, X, served(estimator, tmp_path), left_out=("apply",) if "linear" in name else ())
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(estimator))
    check(estimator, X, load(files_in(tmp_path, "m.pkl"), Options()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("make", [lgbm, xgb, cat])
def test_wrapper_inside_an_estimator_answers_as_in_process(make: Any, around: str, tmp_path: Path) -> None:
    rows: Any = FRAME if around in ("pipeline", "search") else X
    estimator = AROUND[around](make()).fit(rows, YES)
    model = served(estimator, tmp_path)
    assert [spec.name for spec in model.inputs] == (["a", "b", "c"] if rows is FRAME else ["x"])
    check(estimator, rows, model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [lgbm(), xgb(enable_categorical=True), cat(cat_features=["colour", "size"])])
def test_categories_are_taken_as_they_are(estimator: Any, tmp_path: Path) -> None:
    estimator.fit(MIXED, YES)
    model = served(estimator, tmp_path)
    assert [spec.datatype for spec in model.inputs][:4] == ["FP64", "FP64", "FP64", "BYTES"]
    rows = MIXED if not isinstance(estimator, catboost.CatBoost) else MIXED.astype({"size": str})
    check(estimator, rows, model)
    if isinstance(estimator, catboost.CatBoost):
        return
    assert model.inputs[4].datatype == "INT64"
    assert model.also[0].shape == (-1, 5)
    codes = np.c_[X, MIXED["colour"].cat.codes, MIXED["size"].cat.codes].astype(np.float64)
    by_code = model.predict({"x": codes}, ("predict_proba",))["predict_proba"]
    assert by_code.tolist() == estimator.predict_proba(MIXED).tolist()
    given = {**arrays(MIXED[:1]), "colour": np.array([b"mauve"], object)}
    with pytest.raises(WrongInput, match="input 'colour': element 0 is none of its categories: blue, green, red"):
        model.predict(given, ("predict",))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("made", [lgbm, lambda: xgb(enable_categorical=True)], ids=["lightgbm", "xgboost"])
def test_categories_reach_a_booster_inside_as_a_frame_has_them(made: Any, tmp_path: Path) -> None:
    one_hot = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    rows = MIXED.assign(colour=MIXED.colour.where(RNG.random(90) > 0.1))
    estimator = StackingClassifier([("a", made()), ("b", one_hot)], LogisticRegression(), cv=2).fit(rows, YES)
    model = served(estimator, tmp_path)
    colours = [colour.encode() if isinstance(colour, str) else None for colour in rows.colour]
    got = model.predict({**arrays(rows), "colour": np.array(colours, object)}, ("predict_proba",))
    assert got["predict_proba"].tolist() == estimator.predict_proba(rows).tolist()


@pytest.mark.filterwarnings("ignore")
def test_ordered_categories_are_found_where_one_column_alone_can_have_them(tmp_path: Path) -> None:
    size = pd.Categorical(RNG.choice(["s", "m", "l"], 90), categories=["s", "m", "l"], ordered=True)
    rows = MIXED[["a", "colour"]].assign(size=size, flag=YES, one=pd.Categorical(["x"] * 90))
    estimator = lgbm().fit(rows, YES)  # to LightGBM these are numbers, and it marks no column
    model = served(estimator, tmp_path)
    assert [spec.datatype for spec in model.inputs] == ["FP64", "BYTES", "BYTES", "FP64", "BYTES"]
    check(estimator, rows, model)
    unclear = rows.assign(flag=YES * 2)
    assert [s.datatype for s in served(lgbm().fit(unclear, YES), tmp_path).inputs] == ["FP64"] * 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trust", ["restricted", "unsafe"])
def test_bare_booster_is_served_as_its_file_would_be(trust: str, tmp_path: Path) -> None:
    of_lightgbm, of_xgboost = lgbm().fit(MIXED, YES).booster_, early().get_booster()
    model = served(of_lightgbm, tmp_path, trust=trust)
    assert model.predict(arrays(MIXED), ("predict",))["predict"].tolist() == of_lightgbm.predict(MIXED).tolist()
    model = served(of_xgboost, tmp_path, trust=trust)
    best = (0, of_xgboost.best_iteration + 1)
    want = of_xgboost.inplace_predict(X, iteration_range=best)
    assert model.predict({"x": X}, ("predict",))["predict"].tolist() == want.tolist()


def test_damaged_models_inside_are_refused(tmp_path: Path) -> None:
    pickled = pickle.dumps(lgbm().fit(X, YES))
    for old, new in ((b"left_child=", b"left_child=9 "), (b"num_leaves=", b"num_leaves=7")):
        (tmp_path / "m.pkl").write_bytes(pickled.replace(old, new, 1)[:-1] + b".")
        with pytest.raises(LoadFailed):
            load(files_in(tmp_path, "m.pkl"), Options())
    raw = pickle.dumps(xgb().fit(X, YES))
    at = raw.index(b"split_indices")
    (tmp_path / "m.pkl").write_bytes(raw[:at] + raw[at:].replace(b"\0\0\0\0\0\0\0", b"\0\0\0\x77\0\0\0", 1))
    with pytest.raises(LoadFailed):
        load(files_in(tmp_path, "m.pkl"), Options())
    whole = pickle.dumps(cat().fit(X, YES))
    (tmp_path / "m.pkl").write_bytes(whole.replace(b"CBM1", b"CBM2"))
    with pytest.raises(LoadFailed):
        load(files_in(tmp_path, "m.pkl"), Options())


def test_only_plain_data_beside_the_model(tmp_path: Path) -> None:
    for estimator, name in ((lgbm(), "_le"), (xgb(), "objective"), (cat(), "_init_params")):
        estimator.fit(X, YES)
        vars(estimator)[name] = LogisticRegression() if name != "_init_params" else {"verbose": LogisticRegression()}
        with pytest.raises(LoadFailed, match="more than data"):
            served(estimator, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made",
    [
        lambda: lgbm().fit(X, YES),
        lambda: xgb().fit(X, YES),
        lambda: cat().fit(X, YES),
        lambda: lgbm().fit(X, YES).booster_,
        lambda: xgb().fit(X, YES).get_booster(),
    ],
)
def test_the_conversion_that_is_printed_works(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = made()
    with pytest.raises(Refused, match="use --trust restricted") as caught:
        served(estimator, tmp_path, trust="data")
    code = re.search(r'convert it \(python -c "(.*?)"\)', str(caught.value))
    assert code is not None
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    (saved,) = (path.name for path in tmp_path.iterdir() if path.name.startswith("model."))
    _, model = load_any(files_in(tmp_path, saved), Options(trust="data"), framework=None, format=None, warn=print)
    assert model.inputs[0].shape == (-1, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [lgbm, xgb, cat])
def test_no_conversion_is_printed_for_a_wrapper_inside_an_estimator(make: Any, tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), make()).fit(X, YES)
    with pytest.raises(Refused, match="does not load: a pickle can run code; use --trust restricted, or run it all"):
        served(estimator, tmp_path, trust="data")


@pytest.mark.slow
@pytest.mark.parametrize("make", [lgbm, xgb])
def test_a_wrapper_in_a_skops_file_is_checked_as_in_a_pickle(make: Any, tmp_path: Path) -> None:
    import skops.io  # two seconds: it brings torch where that is installed

    made = make_pipeline(StandardScaler(), make()).fit(X, YES)
    skops.io.dump(made, tmp_path / "m.skops")
    model = load_any(files_in(tmp_path, "m.skops"), Options(), framework=None, format=None, warn=print)[1]
    check(made, X, model)
    with pytest.raises(Refused, match="that wants"):
        load_any(files_in(tmp_path, "m.skops"), Options(trust="data"), framework=None, format=None, warn=print)


@pytest.mark.slow
def test_a_damaged_model_in_a_skops_file_is_refused(tmp_path: Path) -> None:
    import skops.io

    skops.io.dump(lgbm().fit(X, YES), tmp_path / "whole.skops")
    with zipfile.ZipFile(tmp_path / "whole.skops") as old, zipfile.ZipFile(tmp_path / "m.skops", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            is_schema = name == "schema.json"
            new.writestr(name, re.sub(rb"left_child=-?\d+", b"left_child=99999", data) if is_schema else data)
    with pytest.raises(LoadFailed, match="a node of tree 0 points outside"):
        load_any(files_in(tmp_path, "m.skops"), Options(), framework=None, format=None, warn=print)
