"""The formats: files that are whole, and how each is mutated."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.base import TensorSpec
from tests.adapters.mutation import mutators
from tests.adapters.mutation.mutators import Mutator

X = np.abs(np.random.default_rng(0).normal(size=(60, 5)))
Y = (X[:, 0] + 2 * X[:, 1]).round().astype(int) % 3


class Format(NamedTuple):
    """Whole files of one format, by name, and how they are mutated."""

    framework: str
    path: str
    files: Callable[[], dict[str, bytes]]
    mutators: tuple[Mutator, ...]
    trust: str = "data"
    inputs: tuple[TensorSpec, ...] = ()


@cache
def estimators() -> dict[str, Any]:
    """One fitted estimator for each kind of array that compiled code of scikit-learn and scipy reads."""
    from scipy import sparse
    from sklearn import (
        calibration,
        cluster,
        compose,
        decomposition,
        ensemble,
        feature_extraction,
        gaussian_process,
        impute,
        isotonic,
        kernel_approximation,
        linear_model,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
    )  # fmt: skip
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - it makes IterativeImputer importable

    grown = {"max_depth": 3, "random_state": 0}
    kinds = [
        tree.DecisionTreeClassifier(**grown), tree.DecisionTreeRegressor(**grown),
        tree.ExtraTreeClassifier(**grown), tree.DecisionTreeRegressor(**grown, monotonic_cst=[1, 0, 0, 0, 0]),
        ensemble.RandomForestClassifier(2, **grown), ensemble.ExtraTreesRegressor(2, **grown),
        ensemble.GradientBoostingClassifier(n_estimators=2, **grown),
        ensemble.GradientBoostingRegressor(n_estimators=2, loss="quantile", init=linear_model.LinearRegression(), **grown),
        ensemble.HistGradientBoostingClassifier(max_iter=2, **grown),
        ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[4], loss="poisson", **grown),
        ensemble.IsolationForest(n_estimators=2, random_state=0), ensemble.AdaBoostClassifier(n_estimators=2),
        ensemble.AdaBoostRegressor(n_estimators=2), ensemble.BaggingClassifier(n_estimators=2, max_features=3),
        ensemble.RandomTreesEmbedding(2, **grown),
        ensemble.VotingClassifier([("a", tree.DecisionTreeClassifier(**grown)), ("b", naive_bayes.GaussianNB())]),
        ensemble.StackingRegressor([("a", tree.DecisionTreeRegressor(**grown)), ("b", svm.SVR())], cv=2),
        neighbors.KNeighborsClassifier(algorithm="kd_tree", leaf_size=5),
        neighbors.KNeighborsRegressor(algorithm="ball_tree", leaf_size=5, weights="distance"),
        neighbors.KNeighborsClassifier(algorithm="brute"), neighbors.RadiusNeighborsClassifier(radius=9.0, outlier_label=0),
        neighbors.LocalOutlierFactor(novelty=True), neighbors.KernelDensity(leaf_size=5), neighbors.NearestCentroid(),
        neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="seuclidean", metric_params={"V": np.ones(5)}),
        neighbors.KNeighborsTransformer(n_neighbors=3), neighbors.RadiusNeighborsTransformer(radius=2.0),
        impute.KNNImputer(), impute.SimpleImputer(), impute.MissingIndicator(features="all"),
        svm.SVC(probability=True, random_state=0), svm.SVR(kernel="poly"), svm.OneClassSVM(), svm.NuSVC(kernel="sigmoid"),
        svm.LinearSVC(), svm.SVC(kernel="linear", decision_function_shape="ovo"),
        cluster.KMeans(3, n_init=1, random_state=0), cluster.MiniBatchKMeans(3, n_init=1), cluster.BisectingKMeans(3),
        cluster.Birch(n_clusters=3), cluster.MeanShift(), cluster.AffinityPropagation(), cluster.FeatureAgglomeration(2),
        linear_model.LogisticRegression(), linear_model.SGDClassifier(loss="log_loss"), linear_model.Ridge(),
        linear_model.PoissonRegressor(), linear_model.HuberRegressor(), linear_model.Perceptron(), linear_model.Lars(),
        calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), cv=2, method="isotonic"),
        decomposition.PCA(2), decomposition.NMF(2, max_iter=20), decomposition.LatentDirichletAllocation(2, max_iter=2),
        decomposition.MiniBatchDictionaryLearning(2, max_iter=2), decomposition.KernelPCA(2, kernel="rbf"),
        decomposition.SparsePCA(2, max_iter=2), decomposition.FastICA(2), decomposition.TruncatedSVD(2),
        gaussian_process.GaussianProcessRegressor(), gaussian_process.GaussianProcessClassifier(),
        naive_bayes.GaussianNB(), naive_bayes.CategoricalNB(), naive_bayes.MultinomialNB(),
        neural_network.MLPClassifier((4,), max_iter=3), neural_network.BernoulliRBM(2, n_iter=2),
        preprocessing.KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), preprocessing.OneHotEncoder(handle_unknown="ignore"),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), preprocessing.PolynomialFeatures(),
        preprocessing.SplineTransformer(sparse_output=True), preprocessing.QuantileTransformer(n_quantiles=10), preprocessing.PowerTransformer(),
        preprocessing.TargetEncoder(cv=2), preprocessing.FunctionTransformer(np.log1p), preprocessing.StandardScaler(),
        kernel_approximation.Nystroem(n_components=5), kernel_approximation.RBFSampler(n_components=5),
        kernel_approximation.PolynomialCountSketch(n_components=8), kernel_approximation.SkewedChi2Sampler(n_components=5),
        compose.ColumnTransformer([("a", preprocessing.OneHotEncoder(handle_unknown="ignore"), [0]), ("b", preprocessing.StandardScaler(), [1, 2])]),
        pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
        neighbors.KNeighborsClassifier(algorithm="brute", metric="manhattan"), cluster.Birch(n_clusters=None),
        neighbors.KNeighborsRegressor(algorithm="brute", metric="mahalanobis", metric_params={"VI": np.eye(5)}),
        preprocessing.OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist"),
        preprocessing.SplineTransformer(extrapolation="continue"),
    ]  # fmt: skip
    found = {f"{type(kind).__name__}-{i}": kind.fit(np.floor(X), Y) for i, kind in enumerate(kinds)}
    texts = ["some words of text", "other words", "text of words again"] * 5
    for vectorizer in (
        feature_extraction.text.TfidfVectorizer(),
        feature_extraction.text.HashingVectorizer(n_features=16),
    ):
        inside = pipeline.make_pipeline(vectorizer, linear_model.LogisticRegression())
        found[type(vectorizer).__name__] = inside.fit(texts, [0, 1, 2] * 5)
    rows = sparse.csr_matrix(np.floor(X))
    found["sparse neighbours"] = neighbors.KNeighborsClassifier(algorithm="brute").fit(rows, Y)
    found["sparse support vectors"] = svm.SVC(kernel="linear").fit(rows, Y)
    found["precomputed kernel"] = svm.SVC(kernel="precomputed").fit(X @ X.T, Y)
    found["sparse coefficients"] = linear_model.SGDClassifier().fit(X, Y).sparsify()
    found["drawing"] = impute.IterativeImputer(sample_posterior=True, random_state=0, max_iter=2).fit(
        np.where(X > 2, np.nan, X)
    )
    found["isotonic"] = isotonic.IsotonicRegression().fit(X[:, 0], Y)
    found["multi-output"] = tree.DecisionTreeClassifier(**grown).fit(X, np.c_[Y, Y % 2])
    return found


def pickles() -> dict[str, bytes]:
    return {name: pickle.dumps(found, protocol=4) for name, found in estimators().items()}


def skops_files() -> dict[str, bytes]:
    import skops.io

    wanted = (
        "Decision",
        "Random",
        "Gradient",
        "Hist",
        "KNeighbors",
        "SVC",
        "KMeans",
        "Isolation",
        "sparse",
        "Spline",
        "Tfidf",
    )
    return {n: skops.io.dumps(found) for n, found in estimators().items() if any(w in n for w in wanted)}


def xgboost_files(kind: str) -> dict[str, bytes]:
    import xgboost

    frame = xgboost.DMatrix(np.c_[X[:, :4], Y], Y, feature_types=["q"] * 4 + ["c"], enable_categorical=True)
    import pandas as pd

    named = pd.DataFrame(
        {"a": X[:, 0], "c": pd.Categorical(np.array(["red", "green", "blue"])[Y]), "s": pd.Categorical(Y)}
    )
    plain, found = xgboost.DMatrix(X, Y), {}
    for name, data, params in (
        ("classes", plain, {"objective": "multi:softprob", "num_class": 3}),
        ("dart", plain, {"booster": "dart", "rate_drop": 0.5}),
        ("linear", plain, {"booster": "gblinear"}),
        ("forest", plain, {"num_parallel_tree": 2, "objective": "binary:logistic", "base_score": 0.5}),
        ("categories", frame, {"max_cat_to_onehot": 1}),
        ("named", xgboost.DMatrix(named, Y, enable_categorical=True), {}),
        ("several", xgboost.DMatrix(X, np.c_[Y, Y]), {"multi_strategy": "multi_output_tree"}),
        ("quantiles", plain, {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8]}),
        ("survival", plain, {"objective": "survival:cox"}),
    ):  # fmt: skip
        if "binary" in str(params):
            data = xgboost.DMatrix(X, Y > 1)
        booster = xgboost.train({"max_depth": 3, "nthread": 1, **params}, data, 3)
        found[name] = bytes(booster.save_raw(kind))
    return found


def lightgbm_files() -> dict[str, bytes]:
    import lightgbm

    quiet = {"verbose": -1, "min_data_in_leaf": 2, "min_data_in_bin": 1, "num_threads": 1, "max_depth": 3}
    whole = np.c_[X[:, :4], Y]
    found = {}
    for name, params, target in (
        ("classes", {"objective": "multiclass", "num_class": 3}, Y),
        ("dart", {"objective": "regression", "boosting": "dart"}, Y),
        ("linear", {"objective": "regression", "linear_tree": True}, X[:, 0]),
        (
            "categories",
            {"objective": "binary", "categorical_feature": [4], "min_data_per_group": 1, "max_cat_to_onehot": 1},
            Y > 1,
        ),
        ("forest", {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, Y > 1),
        ("ranks", {"objective": "cross_entropy"}, Y > 1),
    ):
        data = lightgbm.Dataset(whole, target, params=quiet | params)
        found[name] = lightgbm.train(quiet | params, data, 3).model_to_string().encode()
    return found


def catboost_files() -> dict[str, bytes]:
    """Without text features, which are refused."""
    import catboost

    quiet = {"iterations": 3, "depth": 3, "thread_count": 1, "logging_level": "Silent", "allow_writing_files": False}
    texts = np.array(["red", "green", "blue"], object)[Y]
    mixed = np.empty((len(X), 6), object)
    mixed[:, :5], mixed[:, 5] = X, texts
    found = {}
    with TemporaryDirectory() as folder:
        for name, model, rows, target in (
            ("classes", catboost.CatBoostClassifier(**quiet), X, Y),
            ("numbers", catboost.CatBoostRegressor(**quiet), X, X[:, 0]),
            ("lossguide", catboost.CatBoostRegressor(**quiet, grow_policy="Lossguide"), X, X[:, 0]),
            ("categories", catboost.CatBoostClassifier(**quiet, cat_features=[5], max_ctr_complexity=2), mixed, Y > 1),
            ("onehot", catboost.CatBoostClassifier(**quiet, cat_features=[5], one_hot_max_size=9), mixed, Y > 1),
        ):
            model.fit(rows, target).save_model(f"{folder}/m.cbm")
            found[name] = Path(folder, "m.cbm").read_bytes()
    return found


def networks() -> dict[str, Any]:
    """Modules whose operators take places and sizes from the file: each takes rows of eight numbers."""
    import torch
    from torch import nn
    from torch.nn import functional as fn

    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.line = nn.Embedding(5, 4), nn.Linear(4, 3)
            self.register_buffer("order", torch.tensor([3, 1, 0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = self.table((x > 0).long()).mean(1)
            return self.line(rows) + x.index_select(1, self.order) + x.gather(1, self.order.expand(x.shape[0], 3))

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.cell = (
                nn.Conv1d(1, 4, 3, padding=1),
                nn.BatchNorm1d(4),
                nn.GRU(4, 3, batch_first=True),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            folded = fn.max_pool1d(self.norm(self.conv(x.unsqueeze(1))), 2)
            wider = fn.interpolate(folded, scale_factor=2.0)
            return self.cell(wider.transpose(1, 2))[0].reshape(x.shape[0], -1)

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = nn.Conv2d(1, 2, 2, stride=2), nn.ConvTranspose2d(2, 1, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = self.up(self.conv(fn.pad(x.reshape(x.shape[0], 1, 2, 4), [1, 1, 1, 1], mode="reflect")))
            return torch.topk(seen.flatten(1), 3)[0].cumsum(1)

    return {kind.__name__: kind().eval() for kind in (Looked, Folded, Seen)}


def scripts() -> dict[str, bytes]:
    import torch

    found = {}
    for name, module in networks().items():
        torch.jit.save(torch.jit.trace(module, torch.ones(2, 8)), made := io.BytesIO())
        found[name] = made.getvalue()
    return found


def programs() -> dict[str, bytes]:
    import torch

    found = {}
    for name, module in networks().items():
        free = {"x": {0: torch.export.Dim("n", max=64)}}
        torch.export.save(torch.export.export(module, (torch.ones(2, 8),), dynamic_shapes=free), made := io.BytesIO())
        found[name] = made.getvalue()
    return found


def skops_member(name: str, data: bytes, rng: Random) -> bytes:
    return mutators.json_text(data, rng) if name == "schema.json" else mutators.raw(data, rng)


def torch_member(name: str, data: bytes, rng: Random) -> bytes:
    if name.endswith(".json"):
        return mutators.json_text(data, rng)
    if name.endswith((".py", ".txt")):
        return mutators.tokens(data, rng)
    if name.endswith(".pkl") and rng.random() < 0.8:
        return mutators.opcodes(data, rng)
    return mutators.raw(data, rng)


def onnx_files() -> dict[str, bytes]:
    from tests.adapters.mutation.graphs import graphs

    return graphs()


def onnx_message(data: bytes, rng: Random) -> bytes:
    from tests.adapters.mutation.graphs import message

    return message(data, rng)


FORMATS: Final = {
    "pickle": Format(
        "sklearn.ensemble", "m.pkl", pickles, (mutators.opcodes, mutators.objects) * 2 + (mutators.raw,), "restricted"
    ),
    "skops": Format("skops.io", "m.skops", skops_files, (mutators.member(skops_member),)),
    "onnx": Format("onnxruntime", "m.onnx", onnx_files, (onnx_message,) * 4 + (mutators.raw,)),
    "xgboost-json": Format("xgboost", "m.json", lambda: xgboost_files("json"), (mutators.json_text,)),
    "xgboost-ubj": Format("xgboost", "m.ubj", lambda: xgboost_files("ubj"), (mutators.raw,)),
    "lightgbm": Format("lightgbm", "m.txt", lightgbm_files, (mutators.tokens,) * 3 + (mutators.raw,)),
    "catboost": Format("catboost", "m.cbm", catboost_files, (mutators.raw,)),
    "pt2": Format("torch._export.serde.serialize", "m.pt2", programs, (mutators.member(torch_member),), "restricted"),
    "torchscript": Format(
        "torch", "m.pt", scripts, (mutators.member(torch_member),), "restricted", (TensorSpec("x", "FP32", (-1, 8)),)
    ),
}
