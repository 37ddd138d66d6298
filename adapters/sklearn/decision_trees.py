"""Checks of trees and of what is made of them: each child comes after its parent, and all features are there."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from adapters.checks import below, need


def _tree(found: Any) -> None:
    count = found.node_count
    need(0 < count <= found.capacity, f"it says {count} nodes and has {found.capacity}")
    left, right = found.children_left, found.children_right
    inner = left != -1
    need(((right != -1) == inner).all(), "a node has one child")
    _check_children(inner, left, right)
    used = found.feature[inner]
    need(below(used, found.n_features), f"a node asks for a feature past its {found.n_features}")
    numbers = not np.isnan(found.threshold[inner]).any() and np.isfinite(found.value).all()
    need(numbers, "it holds values that are no numbers")


def _check_children(inner: Any, *sides: Any) -> None:
    """Children come after their parent, so that no walk is endless, and inside the arrays."""
    count = len(inner)
    for side in sides:
        wrong = inner & ((side <= np.arange(count)) | (side >= count))
        at = int(np.argmax(wrong))
        need(not wrong.any(), f"node {at} of {count} points to node {side[at]}")


def _tree_estimator(found: Any) -> None:
    if hasattr(found, "tree_"):
        need(_kind(found.tree_) == "sklearn.tree._tree.Tree", "its tree is none")
        need(found.tree_.n_features == found.n_features_in_, "its tree is for another number of features")


def _kind(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _need_trees(members: Any) -> None:
    """Of these alone it is checked that their trees are for as many features as they say."""
    trees = all(_kind(member).startswith("sklearn.tree._classes.") for member in members)
    need(trees, "it has members that are no trees")


def _forest(found: Any) -> None:
    """Forests and gradient boosting call their trees without checking the number of columns again."""
    members = np.ravel(np.asarray(getattr(found, "estimators_", ()), dtype=object)).tolist()
    _need_trees(members)
    agree = all(member.n_features_in_ == found.n_features_in_ for member in members)
    need(agree, "a tree in it is for another number of features")


def _gradient_boosting(found: Any) -> None:
    """One tree for each class and stage; answers of further trees would be written past the end of the result."""
    if hasattr(found, "estimators_"):
        _forest(found)
        loss = vars(found)["_loss"]
        wanted = loss.n_classes if loss.is_multiclass else 1
        classes = getattr(found, "n_classes_", 1)
        agree = found.estimators_.shape[1:] == (wanted,) and found.n_trees_per_iteration_ == wanted
        need(agree, "it has another number of trees a stage")
        need(not loss.is_multiclass or classes == wanted, "it has another number of classes")


def first_answers(found: Any) -> None:
    """The trees of all classes add to the answers of its first model, whatever their shape is."""
    if hasattr(found, "estimators_"):
        width, each = found.n_features_in_, found.n_trees_per_iteration_
        for count in (2, 3):
            shape = found._raw_predict_init(np.zeros((count, width), np.float32)).shape  # noqa: SLF001 - it has no public name
            need(shape == (count, each), "its first model gives another number of answers")


def _isolation_forest(found: Any) -> None:
    if hasattr(found, "estimators_"):
        _need_trees(found.estimators_)
        pairs = zip(found.estimators_, found.estimators_features_, strict=True)
        need(all(e.n_features_in_ == len(f) <= found.n_features_in_ for e, f in pairs), "a tree has other features")


def _hist_predictor(found: Any) -> None:
    nodes = found.nodes
    inner = nodes["is_leaf"] == 0
    need(len(nodes) > 0, "it has no nodes")
    _check_children(inner, nodes["left"], nodes["right"])
    categorical = inner & (nodes["is_categorical"] != 0)
    for bits in (found.raw_left_cat_bitsets, found.binned_left_cat_bitsets):
        sets = bits.ndim == 2 and bits.dtype == np.uint32 and (bits.shape[1] == 8 or not len(bits))
        need(sets, "its bit sets are none")
        need((nodes["bitset_idx"][categorical] < len(bits)).all(), "a node asks for a bit set past the last")


def _hist_boosting(found: Any) -> None:
    need(not vars(found).get("_in_fit"), "it is still being fitted, and would take rows for numbers of bins")
    for stage in getattr(found, "_predictors", ()):
        for predictor in stage:
            nodes = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            used = nodes["feature_idx"]
            need(below(used, found.n_features_in_), "a node asks for a feature that is not there")
            with_categories = np.flatnonzero(vars(found)["_bin_mapper"].is_categorical_)
            need(np.isin(used[nodes["is_categorical"] != 0], with_categories).all(), "a node asks for categories")
    if vars(found).get("_preprocessor") is not None:
        _hist_columns(vars(found)["_preprocessor"], found.n_features_in_)


def _hist_columns(before: Any, wanted: int) -> None:
    """Its trees take the columns that come out of its preprocessor, whatever their number is."""
    own = _kind(before) == "sklearn.compose._column_transformer.ColumnTransformer"
    need(own, "its preprocessor is of another kind")
    width, places = 0, vars(before)["_transformer_to_input_indices"]
    for name, step, columns in before.transformers_:
        if not isinstance(step, str):  # "drop", of no columns
            need(_keeps_columns(step), "its preprocessor does more than to encode categories")
            chosen = np.asarray(columns)  # of an array; those of a frame are at `places`
            agree = chosen.dtype == bool and chosen.shape == (wanted,) and len(places[name]) == chosen.sum()
            need(agree, "its preprocessor takes other columns")
            width += chosen.sum()
    need(width == wanted, "its preprocessor gives another number of columns")


def _keeps_columns(step: Any) -> bool:
    """True for what histogram boosting encodes categories with, and looks at numbers with: a partial."""
    if _kind(step) == "sklearn.preprocessing._function_transformer.FunctionTransformer":
        function: Any = getattr(step.func, "func", None)
        return (function.__module__, function.__name__) == ("sklearn.utils.validation", "check_array")
    return _kind(step) == "sklearn.preprocessing._encoders.OrdinalEncoder"


TREES: Final[dict[str, Callable[[Any], None]]] = {
    "sklearn.tree._tree.Tree": _tree,
    "sklearn.tree._classes.BaseDecisionTree": _tree_estimator,
    "sklearn.ensemble._forest.BaseForest": _forest,
    "sklearn.ensemble._gb.BaseGradientBoosting": _gradient_boosting,
    "sklearn.ensemble._iforest.IsolationForest": _isolation_forest,
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": _hist_predictor,
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting": _hist_boosting,
}
