from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn.cluster import Birch, BisectingKMeans, KMeans
from sklearn.datasets import make_classification
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer, RadiusNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, SplineTransformer, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from adapters.base import LoadFailed, Options
from adapters.checks import Damaged
from adapters.pickles.parts import check_state
from adapters.sklearn.adapter import load

from .kits import files_in

X, Y = make_classification(60, 8, n_informative=5, n_classes=3, random_state=0)


def tree_with(**changes: Any) -> Callable[[Any], None]:
    """Rewrites the nodes of a decision tree: field -> (node, value)."""

    def change(model: Any) -> None:
        tree = model.tree_ if hasattr(model, "tree_") else np.ravel(model.estimators_)[0].tree_
        state = tree.__getstate__()
        for field, (node, value) in changes.items():
            state["nodes"][field][node] = value
        tree.__setstate__(state)

    return change


def space(place: int, at: int, value: int, field: str | None = None) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tree = model._tree
        state = list(tree.__getstate__())
        array = np.array(state[place])
        if field is None:
            array[at] = value
        else:
            array[field][at] = value
        state[place] = array
        tree.__setstate__(tuple(state))

    return change


def put(name: str, value: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, value(getattr(model, name)))


def hist(field: str, node: int, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model._predictors[0][0].nodes[field][node] = value

    return change


def drawing(bits: Any, key: str, place: int) -> Callable[[Any], None]:
    """Gives a model a random state whose next number is at another place."""
    state = bits.state
    (state if key in state else state["state"])[key] = place
    bits.state = state
    kind = np.random.RandomState if key == "pos" else np.random.Generator
    return lambda model: setattr(model, "random_state_", kind(bits))


def tree_state(place: int, value: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Rewrites one part of the state of a neighbour tree."""

    def change(model: Any) -> None:
        state = list(model._tree.__getstate__())
        state[place] = value(state[place])
        model._tree.__setstate__(tuple(state))

    return change


def no_tree(model: Any) -> None:
    """A member that answers as it likes, and has a tree of more features than the model."""
    model.estimators_ = np.asarray(model.estimators_, object)
    wide = DecisionTreeClassifier().fit(np.c_[X, X], Y)
    member = DummyRegressor().fit(X, Y)
    member.tree_ = wide.tree_
    model.estimators_.flat[0] = member


def as_keys(model: Any) -> None:
    """Members that are looked at one after the other, and one of them damaged."""
    tree_with(left_child=(0, 10**6))(model)
    model.estimators_ = dict.fromkeys(model.estimators_)


def behind_a_method(model: Any) -> None:
    """A function that is the method of another, damaged model."""
    other = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    hist("left", 0, 10**6)(other)
    model.weights = other._raw_predict


def numbers_to(*values: float) -> Callable[[Any], None]:
    """Gives an encoder of one column these categories."""

    def change(model: Any) -> None:
        model.fit(np.arange(float(len(values)))[:, None])
        model.categories_ = [np.array(values)]

    return change


def joined(indices: list[int], mapping: Any) -> Callable[[Any], None]:
    """Gives an encoder of one column these rare categories, and the places they are joined at."""

    def change(model: Any) -> None:
        model.fit(np.array([["a"], ["b"], ["c"]] * 20 + [["q"]], object))
        model._infrequent_indices = [np.array(indices)]
        model._default_to_infrequent_mappings = [mapping]

    return change


def few_values(model: Any) -> None:
    """Its kernel gives 8 values, and not one for each of the 60 samples that it was fitted on."""
    model.__init__(kernel="precomputed")
    model.fit(X @ X.T, Y)
    model.kernel = np.maximum
    model._BaseLibSVM__Xfit = X[:1]


def vectors_by_column(model: Any) -> None:
    model.fit(scipy.sparse.csr_matrix(X), Y)
    model.support_vectors_ = model.support_vectors_.tocsc()


def other_format(model: Any) -> None:
    """Samples by column, which are read by row where the format is asked for."""
    samples = model.fit(scipy.sparse.csr_matrix(X), Y)._fit_X.tocsc()
    samples._format = "csr"
    model._fit_X = samples


def sparse_kernel(model: Any) -> None:
    model.__init__(kernel="linear")
    model.fit(scipy.sparse.csr_matrix(X), Y)
    model.kernel = "precomputed"


def narrow(model: Any) -> None:
    model.estimators_[0] = DecisionTreeClassifier().fit(np.c_[X, X], Y)


def far_words(model: Any) -> None:
    model.extra_ = CountVectorizer().fit(["some words"])
    model.extra_.vocabulary_["some"] = 10**6


def wide_indices(model: Any) -> None:
    model.extra_ = scipy.sparse.csr_matrix(np.eye(3))
    model.extra_.indices[:] = 99


def far_coordinates(model: Any) -> None:
    model.extra_ = scipy.sparse.coo_matrix(np.eye(3))
    model.extra_.coords = (np.array([0, 1, 10**9]),) * 2


def rare(model: Any) -> None:
    """The first column's category is one of those that are joined, and stands past the last column."""
    model.fit(np.array([["a"], ["b"], ["c"]] * 20 + [["q"]], object))
    model._default_to_infrequent_mappings[0][0] = 10**9


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], None], str]] = {
    "child past the end": (
        lambda: DecisionTreeClassifier(),
        tree_with(left_child=(0, 10**6)),
        "points to node 1000000",
    ),
    "child before its parent": (
        lambda: DecisionTreeClassifier(),
        tree_with(right_child=(2, 0)),
        "points to node 0|one child",
    ),
    "one child": (lambda: DecisionTreeClassifier(), tree_with(right_child=(0, -1)), "a node has one child"),
    "feature past the last": (lambda: DecisionTreeClassifier(), tree_with(feature=(0, 10**6)), "a feature past its 8"),
    "negative feature": (lambda: DecisionTreeClassifier(), tree_with(feature=(0, -5)), "a feature past its 8"),
    "threshold that is no number": (lambda: DecisionTreeClassifier(), tree_with(threshold=(0, np.nan)), "no numbers"),
    "tree in a forest": (lambda: RandomForestClassifier(2), tree_with(left_child=(0, 10**6)), "points to node"),
    "wider tree in a forest": (lambda: RandomForestClassifier(2), narrow, "another number of features"),
    "isolation forest": (lambda: IsolationForest(n_estimators=2), put("n_features_in_", lambda n: n - 1), "features"),
    "boosting stages": (
        lambda: GradientBoostingClassifier(n_estimators=2),
        put("estimators_", lambda e: np.c_[e, e]),
        "number of trees a stage",
    ),
    "hist child": (
        lambda: HistGradientBoostingClassifier(max_iter=2),
        hist("left", 0, 10**6),
        "points to node 1000000",
    ),
    "hist feature": (lambda: HistGradientBoostingClassifier(max_iter=2), hist("feature_idx", 0, 10**6), "not there"),
    "hist categories": (
        lambda: HistGradientBoostingClassifier(max_iter=2),
        hist("is_categorical", 0, 1),
        "categories|bit set",
    ),
    "neighbour order": (lambda: KNeighborsClassifier(algorithm="kd_tree"), space(1, 0, 10**6), "samples past the last"),
    "neighbour node": (
        lambda: KNeighborsClassifier(algorithm="ball_tree", leaf_size=5),
        space(2, 1, 10**6, "idx_end"),
        "samples past the last",
    ),
    "neighbour leaf": (
        lambda: KNeighborsClassifier(algorithm="kd_tree", leaf_size=5),
        space(2, -1, 0, "is_leaf"),
        "last level has children",
    ),
    "support vectors counted": (
        lambda: SVC(),
        put("_n_support", lambda n: n * 1000),
        "more support vectors than it has",
    ),
    "support vector coefficients": (lambda: SVC(), put("_dual_coef_", lambda c: c[:, :1].copy()), "do not agree"),
    "probabilities promised": (
        lambda: SVC(),
        put("_effective_probability", lambda _: True),
        "probabilities do not agree",
    ),
    "support vectors cut": (lambda: SVC(), put("support_vectors_", lambda v: v[:1].copy()), "another shape"),
    "centers": (lambda: KMeans(3, n_init=1), put("cluster_centers_", lambda c: c[:, :2].copy()), "number of features"),
    "first answers": (
        lambda: GradientBoostingClassifier(n_estimators=2),
        lambda m: setattr(m.init_, "class_prior_", np.float64(0.5)),
        "another number of answers",
    ),
    "bisecting centers": (
        lambda: BisectingKMeans(3),
        lambda m: setattr(m._bisecting_tree, "center", np.zeros(1)),
        "number of features",
    ),
    "features": (lambda: TfidfTransformer(), put("n_features_in_", lambda n: 2**32), "for 4294967296 features"),
    "spline": (lambda: SplineTransformer(), lambda m: setattr(m.bsplines_[0], "c", np.zeros((1, 1))), "do not agree"),
    "sparse": (lambda: TfidfTransformer(), wide_indices, "indices|index"),
    "columns": (lambda: OneHotEncoder(), put("_n_features_outs", lambda n: [*n[:-1], 1]), "another number of columns"),
    "dropped": (
        lambda: OneHotEncoder(drop="first"),
        put("_drop_idx_after_grouping", lambda drop: drop - 5),
        "categories that it does not have",
    ),
    "words": (lambda: TfidfTransformer(), far_words, "its words are not numbered"),
    "samples": (lambda: KNeighborsTransformer(), put("n_samples_fit_", lambda n: n - 50), "another number of samples"),
    "answers": (lambda: KNeighborsClassifier(), put("_y", lambda y: y[:3]), "another number of answers"),
    "narrow samples": (
        lambda: KNeighborsClassifier(algorithm="brute"),
        put("_fit_X", lambda x: x[:, :1].copy()),
        "samples have another number of features",
    ),
    "far labels": (
        lambda: RadiusNeighborsClassifier(1e9, algorithm="brute", metric="manhattan"),
        put("_y", lambda y: y + 10**9),
        "answers of no class",
    ),
    "metric of a few features": (
        lambda: KNeighborsTransformer(algorithm="brute", metric="mahalanobis", metric_params={"VI": np.eye(8)}),
        put("effective_metric_params_", lambda _: {"VI": np.eye(1)}),
        "metric is for another number of features",
    ),
    "norms of centers": (lambda: Birch(), put("_subcluster_norms", lambda n: n[:1]), "norms do not agree"),
    "few knots": (
        lambda: SplineTransformer(extrapolation="continue"),
        lambda m: [setattr(m.bsplines_[0], "t", np.zeros(7)), setattr(m.bsplines_[0], "c", np.zeros((3, 7)))],
        "do not agree",
    ),
    "far coordinates": (lambda: TfidfTransformer(), far_coordinates, "exceeds matrix dimension"),
    "rare categories": (
        lambda: OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist"),
        rare,
        "categories past its last column",
    ),
    "a hash of no columns": (
        lambda: TfidfTransformer(),
        lambda m: setattr(m, "extra_", HashingVectorizer(n_features=0)),
        "it has no columns",
    ),
    "vectors past the samples": (
        lambda: SVC(),
        lambda m: m.__init__(kernel="precomputed") or m.fit(X @ X.T, Y).support_.__iadd__(10**9),
        "samples past the last",
    ),
    "coefficients left out": (
        lambda: SVC(),
        lambda m: setattr(
            m.fit(scipy.sparse.csr_matrix(X), Y), "_dual_coef_", scipy.sparse.csr_matrix(m._dual_coef_.shape)
        ),
        "leaves out coefficients",
    ),
    "another kind of vectors": (lambda: SVC(), lambda m: setattr(m, "_impl", "epsilon_svr"), "of another kind"),
    "bounds of a box": (
        lambda: KNeighborsClassifier(algorithm="kd_tree"),
        tree_state(3, lambda bounds: bounds[:1].copy()),
        "bounds and nodes do not agree",
    ),
    "bounds of a ball": (
        lambda: KNeighborsClassifier(algorithm="ball_tree"),
        tree_state(3, lambda bounds: bounds[:0].copy()),
        "bounds and nodes do not agree",
    ),
    "samples in two nodes": (
        lambda: KNeighborsClassifier(algorithm="kd_tree", leaf_size=5),
        space(2, -1, 0, "idx_start"),
        "do not part its samples",
    ),
    "metric of two features": (
        lambda: KNeighborsClassifier(algorithm="ball_tree"),
        tree_state(11, lambda _: DistanceMetric.get_metric("haversine")),
        "metric is for another number of features",
    ),
    "metric of one weight": (
        lambda: KNeighborsClassifier(algorithm="ball_tree"),
        tree_state(11, lambda _: DistanceMetric.get_metric("minkowski", p=3, w=np.ones(1))),
        "metric is for another number of features",
    ),
    "vectors past a kernel": (lambda: SVC(), few_values, "another number of values than it has samples"),
    "a kernel of sparse values": (lambda: SVC(), sparse_kernel, "values of a kernel from a sparse matrix"),
    "vectors by column": (lambda: SVC(), vectors_by_column, "no rows of a sparse matrix"),
    "samples of another format": (
        lambda: KNeighborsClassifier(algorithm="brute"),
        other_format,
        "of another format",
    ),
    "other kernels": (lambda: SVC(), lambda m: setattr(m, "_sparse_kernels", ["rbf"]), "of another kind"),
    "hist in fit": (
        lambda: HistGradientBoostingClassifier(max_iter=2),
        lambda m: setattr(m, "_in_fit", True),
        "still being fitted",
    ),
    "hist bit sets of bins": (
        lambda: HistGradientBoostingClassifier(max_iter=2),
        lambda m: setattr(m._predictors[0][0], "binned_left_cat_bitsets", np.zeros((1, 1), np.uint32)),
        "its bit sets are none",
    ),
    "hist columns": (
        lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        lambda m: m._preprocessor.transformers_.pop(1),
        "preprocessor gives another number of columns",
    ),
    "hist columns of a frame": (
        lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        lambda m: m._preprocessor._transformer_to_input_indices["numerical"].pop(),
        "preprocessor takes other columns",
    ),
    "hist preprocessor": (
        lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        lambda m: setattr(m._preprocessor.transformers_[1][1], "func", partial(np.clip, a_min=0)),
        "does more than to encode",
    ),
    "a stage that is no tree": (lambda: GradientBoostingClassifier(n_estimators=2), no_tree, "members that are no"),
    "a forest of no trees": (lambda: RandomForestClassifier(2), no_tree, "members that are no trees"),
    "an isolation of no trees": (lambda: IsolationForest(n_estimators=2), no_tree, "members that are no trees"),
    "trees that are keys": (lambda: IsolationForest(n_estimators=2), as_keys, "points to node 1000000"),
    "a model behind a method": (lambda: KNeighborsClassifier(), behind_a_method, "points to node 1000000"),
    "categories upside down": (lambda: OneHotEncoder(), numbers_to(2, 1), "categories are not in order"),
    "a category twice": (lambda: OneHotEncoder(), numbers_to(1, 1), "categories are not in order"),
    "a missing category between": (lambda: OneHotEncoder(), numbers_to(1, np.nan, 2), "categories are not in order"),
    "joined to nothing": (
        lambda: OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist"),
        joined([10**9], None),
        "joins categories without saying where",
    ),
    "joined from nothing": (
        lambda: OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist"),
        joined([10**9], np.arange(4)),
        "joins categories that it does not have",
    ),
    "columns of no product": (
        lambda: PolynomialFeatures(2),
        put("_n_out_full", lambda n: n + 2000),
        "another number of columns",
    ),
    "products of fewer columns": (
        lambda: PolynomialFeatures(2),
        put("interaction_only", lambda _: True),
        "another number of columns",
    ),
    "columns that it does not say": (
        lambda: PolynomialFeatures(2),
        lambda m: [delattr(m, "n_output_features_"), setattr(m, "_n_out_full", 2000)],
        "n_output_features_",
    ),
    "a degree that starts again from 0": (
        lambda: PolynomialFeatures(2),
        put("_max_degree", np.uint8),
        "its degrees are none",
    ),
    "degrees upside down": (lambda: PolynomialFeatures(2), put("_min_degree", lambda _: 5), "its degrees are none"),
    "columns of no encoding": (lambda: TargetEncoder(), put("encodings_", lambda e: e[:-1]), "number of encodings"),
    "random state": (lambda: KMeans(3, n_init=1), drawing(np.random.MT19937(1), "pos", 2**30), "outside of its buffer"),
    "generator": (lambda: KMeans(3, n_init=1), drawing(np.random.Philox(1), "buffer_pos", -1), "outside of its buffer"),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_structure_never_gets_to_predict(name: str, tmp_path: Path) -> None:
    make, damage, words = CASES[name]
    model = make().fit(np.abs(X), Y)
    joblib.dump(model, tmp_path / "good.joblib")
    assert load(files_in(tmp_path, "good.joblib"), Options()).outputs
    damage(model)
    joblib.dump(model, tmp_path / "m.joblib")
    with pytest.raises(LoadFailed, match=words) as caught:
        load(files_in(tmp_path, "m.joblib"), Options())
    assert str(caught.value).startswith("m.joblib holds a ")


@pytest.mark.slow  # the import of skops takes four seconds
def test_damaged_tree_in_skops_never_gets_to_predict(tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(X, Y)
    tree_with(left_child=(0, 10**6))(model)
    import_module("skops.io").dump(model, tmp_path / "m.skops")
    with pytest.raises(LoadFailed, match="points to node 1000000"):
        load(files_in(tmp_path, "m.skops"), Options(trust="data"))


def test_threads_are_not_those_of_the_file(tmp_path: Path) -> None:
    model = KMeans(3, n_init=1, random_state=0).fit(X)
    model._n_threads = -3  # with which OpenMP ends the process
    joblib.dump(model, tmp_path / "m.joblib")
    loaded = load(files_in(tmp_path, "m.joblib"), Options())
    answers = loaded.predict({loaded.inputs[0].name: X}, ("predict",))["predict"]
    assert answers.tolist() == model.labels_.tolist()


def test_a_state_that_compiled_code_would_read_past_is_refused() -> None:
    metric = DistanceMetric.get_metric("euclidean")
    tree = KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)._tree
    for thing in (metric, tree):
        check_state(type(thing), thing.__getstate__())
        for state in (thing.__getstate__()[:-1], list(thing.__getstate__()), None):
            with pytest.raises(Damaged, match="is not of"):
                check_state(type(thing), state)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["joblib", "skops"])
def test_a_short_state_never_gets_to_compiled_code(form: str, tmp_path: Path) -> None:
    model = KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)
    path = tmp_path / f"m.{form}"
    if form == "skops":
        import_module("skops.io").dump(model, tmp_path / "whole")
        with zipfile.ZipFile(tmp_path / "whole") as whole, zipfile.ZipFile(path, "w") as made:
            for name in whole.namelist():
                made.writestr(name, shortened(whole.read(name)) if name == "schema.json" else whole.read(name))
    else:
        data = pickle.dumps(model, protocol=4)
        # of a tuple of three, in front of BUILD, the last is taken away: POP, TUPLE2
        path.write_bytes(re.sub(rb"\x87(\x94?)b", lambda found: b"0\x86" + found[1] + b"b", data))
        assert path.read_bytes() != data
    with pytest.raises(LoadFailed, match="the state of a EuclideanDistance64 is not of 3 parts"):
        load(files_in(tmp_path, path.name), Options())


def shortened(schema: bytes) -> bytes:
    document = json.loads(schema)
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and node.get("__class__") == "EuclideanDistance64":
            node["content"]["content"].pop()
        stack += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return json.dumps(document).encode()
