"""One gate for pickle, joblib and skops: what a model may hold, and which parameters reach outside it."""

from __future__ import annotations

import json
import operator
import pickle
import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from adapters.base import Options, Refused
from adapters.inspection import verdicts
from adapters.sklearn.adapter import load

from .kits import files_in

X = np.arange(8.0).reshape(4, 2)
Y = np.array([0, 1, 0, 1])


def dumped(estimator: Any, root: Path, form: str) -> str:
    name = f"m.{form}"
    if form == "pickle":
        (root / name).write_bytes(pickle.dumps(estimator))
    elif form == "joblib":
        joblib.dump(estimator, root / name)
    else:
        pytest.importorskip("skops.io").dump(estimator, root / name)
    return name


SKOPS = pytest.param("skops", marks=pytest.mark.slow)
FORMS = pytest.mark.parametrize("form", ["pickle", "joblib", SKOPS])


def pipeline(memory: str) -> Any:
    made = Pipeline([("scale", StandardScaler())]).fit(X)
    return made.set_params(memory=memory)


def labelled(classes: Any) -> Any:
    made = DummyClassifier().fit(X, Y)
    made.classes_ = np.empty(2, dtype=object)
    made.classes_[:] = classes
    return made


def endless() -> Any:
    value: Any = ("ha",)
    for _ in range(60):
        value = (value, value)
    return labelled([value, value])


def replacing(estimator: Any, method: str) -> Any:
    """Returns a fitted estimator one of whose methods is a function of the file's choice."""
    made = estimator.fit(X, Y)
    setattr(made, method, np.abs)
    return made


REACHING = {
    "whose method _check_test_data it replaces": replacing(KMeans(2, n_init=1), "_check_test_data"),
    "whose method _validate_X_predict it replaces": replacing(DecisionTreeClassifier(), "_validate_X_predict"),
    "whose method score_samples it replaces": replacing(KernelDensity(), "score_samples"),
    "opens files that a client names": CountVectorizer(input="filename"),
    r"input='file'": HashingVectorizer(input="file"),
    "writes files": pipeline("/tmp/cache"),
    r"kw_args\['out'\]": FunctionTransformer(np.log, kw_args={"out": X}),
    r"the argument where|functools\.partial": FunctionTransformer(partial(np.exp, where=False)),
    r"the argument out|functools\.partial": FunctionTransformer(partial(np.clip, out=None)),
    r"kw_args\['dtype'\]": FunctionTransformer(np.log, kw_args={"dtype": "O"}),
    r"kw_args\['initial'\]": FunctionTransformer(np.log, kw_args={"initial": "/etc/passwd"}),
    r"numpy\.ndarray": FunctionTransformer(np.ndarray),
    r"numpy\.memmap": FunctionTransformer(np.memmap),
    r"numpy\.float64": StandardScaler(copy=np.float64),
    "holds an array of lists": endless(),
}


@FORMS
@pytest.mark.parametrize("said", REACHING)
def test_what_reaches_outside_is_refused_by_name(said: str, form: str, tmp_path: Path) -> None:
    if form == "skops" and "list" in said:
        pytest.skip("skops writes such an array as a tree without an end")
    name = dumped(REACHING[said], tmp_path, form)
    for trust in ("restricted", "data") if form == "skops" else ("restricted",):
        files = files_in(tmp_path, name)
        with pytest.raises(Refused, match=said):
            load(files, Options(trust=trust))
        (verdict,) = verdicts(files, Options(trust=trust))
        assert re.search(said, verdict.refused or "")


@FORMS
@pytest.mark.parametrize(
    "estimator",
    [
        FunctionTransformer(np.log1p),
        FunctionTransformer(np.sum, kw_args={"axis": 1, "keepdims": True}),
        OneHotEncoder(dtype=np.float32).fit(X),
        CountVectorizer().fit(["a word", "and more"]),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_what_computes_only_is_loaded(estimator: Any, form: str, tmp_path: Path) -> None:
    files = files_in(tmp_path, dumped(estimator, tmp_path, form))
    assert load(files, Options()).outputs
    assert [verdict.refused for verdict in verdicts(files, Options())] == [None]


def test_a_part_that_would_print_is_silenced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(2, random_state=0).fit(X, Y).set_params(verbose=2)
    model = load(files_in(tmp_path, dumped(forest, tmp_path, "joblib")), Options())
    assert model.predict({model.inputs[0].name: X}, ("predict",))["predict"].tolist() == forest.predict(X).tolist()
    assert capfd.readouterr().out.count("Parallel") <= 1  # the line above, of the forest itself


CALLING = {
    "json.loads": partial(json.loads, cls=None),
    "operator.methodcaller": operator.methodcaller("tofile", "/tmp/x"),
    "numpy.memmap": {"__loader__": "ConstructorFromReduceNode", "__class__": "memmap", "__module__": "numpy"},
    "os.system": {"__loader__": "FunctionNode", "__class__": "system", "__module__": "os"},
    "numpy.fromfile": {"__loader__": "FunctionNode", "__class__": "fromfile", "__module__": "numpy"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLING)
def test_skops_calls_nothing_that_a_file_names(name: str, tmp_path: Path) -> None:
    skops_io = pytest.importorskip("skops.io")
    held = CALLING[name]
    if isinstance(held, dict):
        skops_io.dump(KNeighborsClassifier(1).fit(X, Y), tmp_path / "plain.skops")
        content = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []}
        with zipfile.ZipFile(tmp_path / "plain.skops") as plain, zipfile.ZipFile(tmp_path / "m.skops", "w") as made:
            for member in plain.namelist():
                data = plain.read(member)
                if member == "schema.json":
                    schema = json.loads(data)
                    schema["content"]["content"]["weights"] = held | {"content": content}
                    data = json.dumps(schema).encode()
                made.writestr(member, data)
    else:
        skops_io.dump(FunctionTransformer(held), tmp_path / "m.skops")
    for trust in ("data", "restricted"):
        with pytest.raises(Refused, match=name):
            load(files_in(tmp_path, "m.skops"), Options(trust=trust))


def test_an_operator_can_allow_a_function(tmp_path: Path) -> None:
    name = dumped(FunctionTransformer(np.flip), tmp_path, "pickle")
    with pytest.raises(Refused, match=r"--allow-global numpy\.flip"):
        load(files_in(tmp_path, name), Options())
    assert load(files_in(tmp_path, name), Options(allow_globals=("numpy.flip",))).outputs
