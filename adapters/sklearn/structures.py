"""Checks of what scikit-learn's compiled code uses without checking: indices, sizes, child nodes.

A tree with a child index past its end makes `predict` read foreign memory. Every model that was not loaded at `unsafe`
has to pass, whatever its file format; then it is consistent, which does not make it correct.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.checks import below, need
from adapters.sklearn.decision_trees import TREES, first_answers
from adapters.sklearn.walk import walk
from adapters.wording import reason

MOST_FEATURES: Final = 1 << 24
HIGHEST_DEGREE: Final = 64
"""Of as many features there are more products than can be counted."""


def check_structures(model: Any, name: str) -> None:
    """Raises LoadFailed if an object in `model` would make compiled code read or write past its arrays."""
    things = list(walk(model))
    for checks in (CHECKS, LATER):
        for thing in things:
            kinds = [f"{base.__module__}.{base.__qualname__}" for base in type(thing).__mro__]
            try:
                for check in [checks[kind] for kind in kinds if kind in checks]:
                    check(thing)
            except (ValueError, TypeError, AttributeError, LookupError) as error:
                raise LoadFailed(f"{name} holds a {type(thing).__name__} that is damaged: {reason(error)}") from error


def _estimator(found: Any) -> None:
    """A row of so many columns is made for the dry run."""
    width = vars(found).get("n_features_in_", 0)
    need(isinstance(width, int | np.integer) and 0 <= width < MOST_FEATURES, f"it is for {str(width)[:40]} features")


def _space_tree(found: Any) -> None:
    data, order, nodes, bounds, _leaf_size, levels, count, *_, metric, weight = found.__getstate__()
    data, order, nodes, bounds = (np.asarray(part) for part in (data, order, nodes, bounds))
    samples, features = data.shape
    need(order.shape == (samples,) and below(order, samples), "its order names samples past the last")
    need(count == len(nodes) == 2**levels - 1 and 0 < levels < 48, "its levels and nodes do not agree")
    sides = 2 if type(found).__name__.startswith("KDTree") else 1
    need(bounds.shape == (sides, count, features), "its bounds and nodes do not agree")
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    need(((starts >= 0) & (starts <= ends) & (ends <= samples)).all(), "a node names samples past the last")
    need((nodes["is_leaf"][count // 2 :] != 0).all(), "a node of the last level has children")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    left, right = 2 * inner + 1, 2 * inner + 2
    parted = (starts[left] == starts[inner]) & (ends[left] == starts[right]) & (ends[right] == ends[inner])
    need(parted.all(), "the children of a node do not part its samples")
    need(weight is None or len(np.asarray(weight)) in (0, samples), "its weights do not agree with its samples")
    _distance(metric, features)


def _distance(metric: Any, features: int) -> None:
    state, kind, fits = metric.__getstate__(), type(metric).__name__, True
    if kind.startswith("SEuclidean"):
        fits = np.shape(state[1]) == (features,)
    elif kind.startswith("Mahalanobis"):
        fits = np.shape(state[2]) == (features, features)
    elif kind.startswith("Minkowski"):
        fits = np.size(state[1]) in (0, features)
    elif kind.startswith("Haversine"):
        fits = features == 2
    need(fits, "its metric is for another number of features")


def _support_vectors(found: Any) -> None:
    """libsvm takes lengths from one array and reads the others with them."""
    if not hasattr(found, "support_"):
        return
    parts = vars(found)
    own = found._impl == type(found)._impl and "_sparse_kernels" not in parts  # noqa: SLF001 - it has no public name
    need(own, "it is of another kind")
    counts, coefficients = parts["_n_support"], parts["_dual_coef_"]
    vectors, classes = len(found.support_), len(counts)
    pairs = classes * (classes - 1) // 2
    need(classes >= 2 and (counts >= 0).all(), "it counts its support vectors for too few classes")
    need(coefficients.shape == (classes - 1, vectors), "its coefficients and support vectors do not agree")
    given = callable(found.kernel) or found.kernel == "precomputed"
    if found._sparse:  # noqa: SLF001
        need(len(coefficients.data) == (classes - 1) * vectors, "it leaves out coefficients")
        need(not given, "it takes the values of a kernel from a sparse matrix")
        by_row = type(found.support_vectors_).__name__ in ("csr_matrix", "csr_array")
        need(by_row, "its support vectors are no rows of a sparse matrix")
    need(len(parts["_intercept_"]) >= pairs, "it has too few intercepts")
    counted = (pairs,) if parts.get("_effective_probability", False) else (0, pairs)
    need(all(len(parts[p]) in counted for p in ("_probA", "_probB")), "its probabilities do not agree")
    if type(found).__name__ in ("SVC", "NuSVC"):
        need(int(counts.sum()) == vectors, "it counts more support vectors than it has")
    if given:
        need(below(found.support_, found.shape_fit_[0]), "its support vectors are samples past the last")
    else:
        need(found.support_vectors_.shape == (vectors, found.n_features_in_), "its support vectors have another shape")
        need(found.shape_fit_[1] == found.n_features_in_, "it was fitted on another number of features")


def _kernel_values(found: Any) -> None:
    """libsvm looks for the value of a support vector in a row at the place of the sample that it was."""
    if hasattr(found, "support_") and callable(found.kernel):
        count, width = np.shape(vars(found)["_BaseLibSVM__Xfit"])
        made = [np.shape(found._compute_kernel(np.zeros((rows, width)))) for rows in (2, 3)]  # noqa: SLF001
        fits = count == found.shape_fit_[0] and made == [(2, count), (3, count)]
        need(fits, "its kernel gives another number of values than it has samples")


def _centers(found: Any) -> None:
    """k-means multiplies with the width of its input."""
    if hasattr(found, "cluster_centers_"):
        width = (found.n_features_in_,)
        need(found.cluster_centers_.shape[1:] == width, "its centers have another number of features")
        inner = [t for t in walk(getattr(found, "_bisecting_tree", None)) if type(t).__name__ == "_BisectingTree"]
        need(all(t.center.shape in (width, (1, *width)) for t in inner), "a center has another number of features")


def _spline(found: Any) -> None:
    knots, degree = np.asarray(found.t), int(found.k)
    ok = (
        knots.ndim == 1
        and 0 <= degree < 32
        and len(knots) >= 2 * degree + 2
        and len(found.c) >= len(knots) - degree - 1
    )
    need(ok and np.isfinite(knots).all() and (np.diff(knots) >= 0).all(), "its knots and coefficients do not agree")


def _sparse(found: Any) -> None:
    need("_format" not in vars(found), "it says that it is of another format")
    if found.format == "coo":
        need(found.nnz == len(found.data), "its coordinates and values do not agree")
        found._check()  # noqa: SLF001 - it has no public name
    else:
        found.check_format(full_check=True)


def _one_hot(found: Any) -> None:
    """Columns of its answer are counted, and written to without another look."""
    state = vars(found)
    if "_n_features_outs" not in state:
        return
    columns = found._compute_n_features_outs()  # noqa: SLF001 - it has no public name
    need(list(found._n_features_outs) == columns, "it has another number of columns")  # noqa: SLF001
    none = [None] * len(columns)
    dropped = state.get("_drop_idx_after_grouping")
    dropped = none if dropped is None else dropped
    joins = state.get("_infrequent_enabled", False)
    mappings, rare = (
        state[name] if joins else none for name in ("_default_to_infrequent_mappings", "_infrequent_indices")
    )
    for known, most, place, mapping, joined in zip(found.categories_, columns, dropped, mappings, rare, strict=True):
        need(_are_in_order(known), "its categories are not in order")
        need((joined is None) == (mapping is None), "it joins categories without saying where")
        need(joined is None or below(joined, len(known)), "it joins categories that it does not have")
        all_ = most + (place is not None)
        need(place is None or 0 <= place < all_, "it drops categories that it does not have")
        fits = len(known) <= all_ if mapping is None else below(mapping, all_)
        need(most >= 0 and fits, "it has categories past its last column")


def _are_in_order(known: Any) -> bool:
    """True if each value is found at its own place: a number is looked up as in a sorted list with NaN at its end, a
    text in a table."""
    if known.ndim != 1 or known.dtype.kind in "OUS":
        return bool(known.ndim == 1)
    numbers = known[: len(known) - int(np.isnan(known).sum())]
    return bool((numbers[1:] > numbers[:-1]).all() and not np.isnan(numbers).any())


def _target_encoder(found: Any) -> None:
    """A column of its answer for which it has no encoding is memory that nobody has written."""
    if hasattr(found, "encodings_"):
        each = len(found.classes_) if found.target_type_ == "multiclass" else 1
        wanted = int(found.n_features_in_) * each
        need(len(found.encodings_) == wanted, "it has another number of encodings than columns")


def _polynomial(found: Any) -> None:
    """It writes as many columns as there are products, whatever number it says; the others are nobody's memory."""
    state = vars(found)
    if "_n_out_full" not in state:
        return
    width, least, most = int(found.n_features_in_), state["_min_degree"], state["_max_degree"]
    # a shorter integer would start again from 0
    degrees = all(isinstance(degree, int | np.int64) for degree in (least, most)) and 0 <= least <= most
    need(degrees and min(width, most) <= HIGHEST_DEGREE, "its degrees are none")
    only, bias = bool(found.interaction_only), bool(found.include_bias)
    count = partial(found._num_combinations, width, interaction_only=only, include_bias=bias)  # noqa: SLF001
    wanted = (count(0, int(most)), count(int(least), int(most)))
    need((state["_n_out_full"], found.n_output_features_) == wanted, "it has another number of columns")


def _hasher(found: Any) -> None:
    """A hash is divided by the number of columns."""
    need(isinstance(found.n_features, int) and 0 < found.n_features < 1 << 31, "it has no columns")


def _birch(found: Any) -> None:
    if hasattr(found, "subcluster_centers_"):
        norms = np.shape(vars(found)["_subcluster_norms"])
        need(norms == found.subcluster_centers_.shape[:1], "its centers and their norms do not agree")


def _vocabulary(found: Any) -> None:
    known = vars(found).get("vocabulary_", {})
    need(sorted(known.values()) == [*range(len(known))], "its words are not numbered")


def _neighbours(found: Any) -> None:
    """Distances are computed over the columns of a client's row, and answers counted at the places that labels name."""
    state = vars(found)
    samples = state.get("_fit_X")
    if samples is None:
        return
    width = found.n_features_in_
    need(found.n_samples_fit_ == samples.shape[0], "it has another number of samples")
    need(samples.shape[1:] == (width,), "its samples have another number of features")
    metrics = [state.get(name) or {} for name in ("metric_params", "effective_metric_params_")]
    fits = all({width}.issuperset(np.shape(value)) for params in metrics for value in params.values())
    need(fits, "its metric is for another number of features")
    answers = state.get("_y")
    need(answers is None or len(answers) == samples.shape[0], "it has another number of answers than samples")
    if "classes_" in state:
        labels = answers.reshape(len(answers), -1).T
        classes = found.classes_ if found.outputs_2d_ else [found.classes_]
        need(all(below(*one) for one in zip(labels, map(len, classes), strict=True)), "it has answers of no class")


def _random(found: Any) -> None:
    """The next number is taken from a place in a buffer that numpy does not compare with its size."""
    bits = getattr(found, "_bit_generator", None) or getattr(found, "bit_generator", found)
    state = bits.state
    place, most = state.get("buffer_pos", 0), 4
    if "pos" in state["state"]:  # MT19937
        place, most = state["state"]["pos"], 624
    need(0 <= place <= most, "its next number is outside of its buffer")


CHECKS: Final[dict[str, Callable[[Any], None]]] = {
    **TREES,
    "sklearn.base.BaseEstimator": _estimator,
    "sklearn.neighbors._kd_tree.BinaryTree64": _space_tree,
    "sklearn.neighbors._kd_tree.BinaryTree32": _space_tree,
    "sklearn.neighbors._ball_tree.BinaryTree64": _space_tree,
    "sklearn.neighbors._ball_tree.BinaryTree32": _space_tree,
    "sklearn.svm._base.BaseLibSVM": _support_vectors,
    "sklearn.cluster._kmeans._BaseKMeans": _centers,
    "sklearn.neighbors._base.NeighborsBase": _neighbours,
    "sklearn.cluster._birch.Birch": _birch,
    "sklearn.preprocessing._encoders.OneHotEncoder": _one_hot,
    "sklearn.preprocessing._target_encoder.TargetEncoder": _target_encoder,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": _polynomial,
    "sklearn.feature_extraction._hash.FeatureHasher": _hasher,
    "sklearn.feature_extraction.text.HashingVectorizer": _hasher,
    "sklearn.feature_extraction.text.CountVectorizer": _vocabulary,
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _vocabulary,
    "numpy.random.mtrand.RandomState": _random,
    "numpy.random._generator.Generator": _random,
    "numpy.random.bit_generator.BitGenerator": _random,
    "scipy.interpolate._bsplines.BSpline": _spline,
    "scipy.sparse._base._spbase": _sparse,
}
LATER: Final[dict[str, Callable[[Any], None]]] = {
    "sklearn.ensemble._gb.BaseGradientBoosting": first_answers,
    "sklearn.svm._base.BaseLibSVM": _kernel_values,
}
"""What is asked of a model once all its parts have been checked."""
