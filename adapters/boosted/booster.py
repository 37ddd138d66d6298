"""What XGBoost's compiled code takes from a model without checking it: sizes, places, children, features, classes.

The schema: https://xgboost.readthedocs.io/en/release_3.2.0/tutorials/saving_model.html. What reads it:
https://github.com/dmlc/xgboost/blob/v3.2.0/src/tree/tree_model.cc and src/gbm/gbtree_model.cc.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.boosted.rows import check_children, check_features
from adapters.boosted.ubj import document
from adapters.checks import below, need
from adapters.values import Array
from adapters.wording import reason

NODES: Final = ("split_conditions", "default_left", "sum_hessian", "loss_changes")
"""What a tree has for each of its nodes, beside what is looked at."""
CATEGORIES: Final = frozenset({
    "split_type", "categories", "categories_nodes", "categories_segments", "categories_sizes",
})  # fmt: skip
CATEGORIES_END: Final = 1 << 24
"""Of the numbers of categories: XGBoost's own, as floats count no further. A tree has a bit for each."""


def checked(data: bytes, name: str) -> dict[int, list[Any]]:
    """Returns the categories that the model in `data`, JSON or UBJ, has for its features, in the order of their codes.
    Raises LoadFailed if it is not whole, or if XGBoost would read or write past its arrays."""
    try:
        found = document(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadFailed(f"{name} is not a whole XGBoost model in JSON or UBJ: {reason(error)}") from error
    try:
        learner = found["learner"]
        booster = learner["gradient_booster"]
        trees = booster.get("gbtree", booster)  # DART keeps its trees one level deeper
        _check_booster(booster, trees, learner)
        return _categories(trees)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise LoadFailed(f"{name} holds an XGBoost model that is damaged: {reason(error)}") from error


def _check_booster(booster: Any, trees: Any, learner: Any) -> None:
    sizes = learner["learner_model_param"]
    features, classes = _count(sizes, "num_feature"), _count(sizes, "num_class")
    groups = max(1, classes) * max(1, _count(sizes, "num_target", 1))
    need(features > 0, "it has no features")
    chosen = learner["objective"].get("softmax_multiclass_param", {})
    need(_count(chosen, "num_class", classes) == classes, "its objective is for another number of classes")
    if trees.get("name") == "gblinear":
        weights = trees["model"]["weights"]
        need(len(weights) == (features + 1) * groups, "it has another number of weights than features")
        return
    model = trees["model"]
    count = len(model["trees"])
    info = np.asarray(model["tree_info"])
    need(len(info) == count and below(info, groups), "a tree is for a class that does not exist")
    need([tree["id"] for tree in model["trees"]] == [*range(count)], "its trees are not numbered in their order")
    need("weight_drop" not in booster or len(booster["weight_drop"]) == count, "it has other weights than trees")
    if "iteration_indptr" in model:  # since 2.1
        rounds = _whole(model, "iteration_indptr")
        ends = len(rounds) > 0 and rounds[0] == 0 and rounds[-1] == count and (np.diff(rounds) >= 0).all()
        need(ends, "its rounds do not hold its trees")
    for i, tree in enumerate(model["trees"]):
        _check_tree(tree, features, groups, i)


def _check_tree(tree: Mapping[str, Any], features: int, groups: int, i: int) -> None:
    left, right, split = (_whole(tree, key) for key in ("left_children", "right_children", "split_indices"))
    count, width = len(left), _count(tree["tree_param"], "size_leaf_vector", 1)
    agree = count == len(right) == len(split) == _count(tree["tree_param"], "num_nodes") and count
    need(agree, f"tree {i} says other numbers of nodes than it has")
    need(all(len(tree[key]) == count for key in NODES), f"tree {i} says other numbers of nodes than it has")
    inner = left != -1
    check_children(np.concatenate([left[inner], right[inner]]), count, i)
    check_features(split[inner], features, i)
    _check_parents(_whole(tree, "parents"), left, right, inner, i)
    if width > 1:
        _check_vectors(tree, width, groups, inner, right, i)
    else:
        need((right[~inner] == -1).all(), f"a node of tree {i} has one child")
    if width > 1 or not CATEGORIES.isdisjoint(tree):  # since 1.5
        _check_categories(tree, inner, i)


def _check_parents(parents: Array, left: Array, right: Array, inner: Array, i: int) -> None:
    need(len(parents) == len(left), f"tree {i} says other numbers of nodes than it has")
    above = np.flatnonzero(inner)
    right_ones = (parents[left[inner]] == above).all() and (parents[right[inner]] == above).all()
    need(right_ones and parents[0] in (-1, 2**31 - 1), f"a node of tree {i} has another parent than the one above it")


def _check_vectors(tree: Mapping[str, Any], width: int, groups: int, inner: Array, right: Array, i: int) -> None:
    """A leaf has an answer for each target; since 3.2, those of all leaves stand apart, in the order of `right`."""
    need(width == groups, f"the leaves of tree {i} are for another number of targets")
    count = len(inner)
    if "leaf_weights" not in tree:
        need((right[~inner] == -1).all() and len(tree["base_weights"]) == count * width, f"tree {i} has no leaves")
    else:
        leaves = np.sort(right[~inner])
        whole = (leaves == np.arange(len(leaves))).all() and len(tree["leaf_weights"]) == len(leaves) * width
        need(whole, f"tree {i} says other numbers of leaves than it has")
    need(len(tree["base_weights"]) in (count, count * width), f"tree {i} says other numbers of weights than it has")


def _check_categories(tree: Mapping[str, Any], inner: Array, i: int) -> None:
    nodes, begins, sizes, known = (
        _whole(tree, key) for key in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    need(len(nodes) == len(begins) == len(sizes), f"tree {i} has other categories than it says")
    need(below(nodes, len(inner)) and (np.diff(nodes) > 0).all(), f"a node of tree {i} with categories is none")
    ends = np.cumsum(sizes)
    whole = (sizes > 0).all() and (begins == ends - sizes).all() and len(known) == (ends[-1] if len(ends) else 0)
    need(whole and below(known, CATEGORIES_END), f"tree {i} has other categories than it says")
    types = _whole(tree, "split_type")
    need(len(types) == len(inner) and below(types, 2), f"tree {i} says other numbers of nodes than it has")
    chosen = np.flatnonzero(inner & (types == 1))
    need(np.isin(chosen, nodes).all(), f"a node of tree {i} asks for categories that it does not have")


def _whole(tree: Mapping[str, Any], key: str) -> Array:
    return np.asarray(tree[key], dtype=np.int64).reshape(-1)


def _count(sizes: Mapping[str, str], key: str, otherwise: int = 0) -> int:
    """Returns a number that is written as a text."""
    text = sizes.get(key, str(otherwise))
    need(text.isascii() and text.isdigit() and int(text) < 1 << 31, f"its {key} is {text[:40]!r}")
    return int(text)


def _categories(trees: Mapping[str, Any]) -> dict[int, list[Any]]:
    """Since 3.1 a model trained on a frame has them: texts joined, with where each begins, or numbers."""
    found = trees.get("model", {}).get("cats", {}).get("enc", ())
    return {i: known for i, encoded in enumerate(found) if (known := _decoded(encoded))}


def _decoded(encoded: Any) -> list[Any]:
    values = np.asarray(encoded["values"])
    if "offsets" not in encoded:
        return list(values.tolist())
    ends, joined = np.asarray(encoded["offsets"], dtype=np.int64).tolist(), values.astype(np.int8).tobytes()
    return [joined[start:end].decode() for start, end in itertools.pairwise(ends)]
