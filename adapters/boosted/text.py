"""LightGBM's model text, checked before LightGBM reads it: 4.7.0 aborts or runs for ever on a damaged one.

A header of `key=value` lines, blocks `Tree=N` as long as `tree_sizes` says, `end of trees`, what the writer adds:
https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
"""

import json
import re
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.boosted.rows import check_children, check_features
from adapters.checks import below, need
from adapters.wording import reason

END: Final = "end of trees\n"
MOST_LINES: Final = 22
MOST_PLACES: Final = 100_000
"""Columns times lists of categories, up to which it is searched which list is of which column."""
VERSIONS: Final = ("v2", "v3", "v4")
"""Of the text. LightGBM 4.7 itself does not check it."""
NODES: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
"""What a tree has for each of its inner nodes."""
MORE: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
"""What it may have for each of them."""
LEAVES: Final = ("leaf_value", "leaf_weight", "leaf_count")
KEY: Final = re.compile(r"[a-z_]+")
WHOLE: Final = re.compile(r"[0-9]+")
CONTROL: Final = re.compile(r"[^\n\x20-\x7e\x80-\U0010ffff]")
"""LightGBM ends a line at some of these."""
NUMBERS: Final = re.compile(r"[-+.\deinfa ]*", re.ASCII)
"""What stands behind every `=` of a tree."""


def checked(data: bytes, name: str) -> str:
    """Returns the text up to the end of its trees, if its parts agree. Raises LoadFailed.
    What follows (importances, training parameters) predicts nothing, and LightGBM crashes if it is cut off."""
    try:
        text = data.decode()
        end = _check(text)
    except (ValueError, KeyError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise LoadFailed(f"{name} is not a whole LightGBM model: {reason(error)}") from error
    return text[:end] + END


def categories(text: str, known: Any = None) -> dict[int, list[Any]]:
    """Returns the categories of features by position, in the order of their codes: those of a pandas frame, which stand
    in the text's last line, or are `known`. None where it cannot be told which columns they are of."""
    told = re.search(r"^pandas_categorical:(\[.*\])$", text, re.MULTILINE)
    found = json.loads(told[1]) if told and known is None else known
    if not isinstance(found, list) or not all(isinstance(each, list) for each in found):
        return {}
    said = re.search(r"^\[categorical_feature: ([\d,]+)\]$", text, re.MULTILINE)
    infos = re.search(r"^feature_infos=(.*)$", text, re.MULTILINE)
    ranges = infos[1].split() if infos else []
    at = [int(i) for i in said[1].split(",")] if said else [i for i, info in enumerate(ranges) if info[0] not in "[n"]
    if len(at) < len(found) and len(found) * len(ranges) < MOST_PLACES:
        at = _places(found, ranges, {*at})
    return dict(zip(at, found, strict=True)) if len(at) == len(found) else {}


def _places(found: list[list[Any]], ranges: list[str], marked: set[int]) -> list[int]:
    """Returns the columns of all lists of categories, if there is one way to say it: of ordered categories LightGBM
    marks no column, as their codes are numbers to it. Ranges of all codes come before those of some."""
    for whole in (True, False):
        if ways := _ways(found, ranges, marked, whole):
            return ways[0] if len(ways) == 1 else []
    return []


def _ways(found: list[list[Any]], ranges: list[str], marked: set[int], whole: bool) -> list[list[int]]:
    """Returns the first two ways."""
    ways: list[list[list[int]]] = [*([] for _ in found), [[]]]  # of the lists from there on
    for column in reversed(range(len(ranges))):
        for i in range(len(ways)):
            passed = [] if column in marked else ways[i]
            fits = i < len(found) and (column in marked or _are_codes(ranges[column], len(found[i]), whole))
            taken = [[column, *rest] for rest in ways[i + 1]] if fits else []
            ways[i] = (passed + taken)[:2]
    return ways[0]


def _are_codes(info: str, count: int, whole: bool) -> bool:
    """True if the values in a range, `[0:2]` or `none`, may be codes of so many categories; `whole`: of all of them."""
    if info == "none":  # all of its values are the same
        return count < 2 or not whole
    low, high = map(float, info.strip("[]").split(":"))
    are_codes = low.is_integer() and high.is_integer() and low >= 0 and high < count
    return are_codes and (not whole or (low, high) == (0, count - 1))


def _check(text: str) -> int:
    """Returns where the trees end."""
    first = text.find("\nTree=")
    need(text.startswith("tree\n") and first > 0, "it has no trees")
    header = _header(text[:first])
    told = header.get("version", "none")
    need(told in VERSIONS, f"it is of version {told}, and {', '.join(VERSIONS)} are read")
    features, per_round = _whole(header["max_feature_idx"]) + 1, _whole(header["num_tree_per_iteration"])
    sizes = [_whole(size) for size in header["tree_sizes"].split()]
    need(0 < features < 1 << 31 and 0 < per_round < 1 << 20, "its sizes make no sense")
    need(_whole(header["num_class"]) == per_round and not len(sizes) % per_round, "its classes and trees do not agree")
    for part in header.get("objective", "").split():
        name, *values = filter(None, part.split(":"))  # as LightGBM does, which takes the last number of several
        agree = name != "num_class" or values == [str(per_round)]
        need(agree, "its objective is for another number of classes")
    need(len(header["feature_names"].split()) == features, "it names another number of features than it has")
    at = first + 1
    for i, size in enumerate(sizes):
        block = text[at : at + size]
        need(block.startswith(f"Tree={i}\n") and len(block) == size, f"tree {i} is not where tree_sizes says")
        _check_tree(_pairs(block), features, i)
        _check_lines(block, i)
        at += size
    need(text.startswith(END, at), "its trees do not end where tree_sizes says")
    return at


def _header(lines: str) -> dict[str, str]:
    """LightGBM skips any `=` before a key, and of several lines with one key takes the last."""
    header = _pairs(lines)
    need(all(map(KEY.fullmatch, header)) and not CONTROL.search(lines), "its header has other lines than key=value")
    return header


def _whole(text: str) -> int:
    """Returns the number that LightGBM reads, which knows no `1_000`."""
    need(WHOLE.fullmatch(text), f"it says {text[:40]!r} where a whole number should be")
    return int(text)


def _pairs(lines: str) -> dict[str, str]:
    pairs = [line.split("=", 1) for line in lines.split("\n") if "=" in line]
    found = dict(pairs)
    need(len(found) == len(pairs), "a key stands twice in it")
    return found


def _check_lines(block: str, i: int) -> None:
    """LightGBM reads up to an empty line, at most MOST_LINES, and takes what has no `=` as the beginning of a key."""
    need(block.endswith("\n"), f"tree {i} is not where tree_sizes says")
    lines = block.rstrip("\n").split("\n")[1:]
    keys = [line.partition("=")[0] if "=" in line else "" for line in lines]
    need(len(lines) <= MOST_LINES and all(map(KEY.fullmatch, keys)), f"tree {i} has other lines than key=value")


def _check_tree(tree: dict[str, str], features: int, i: int) -> None:
    need(all(map(NUMBERS.fullmatch, tree.values())), f"tree {i} holds something else than numbers")
    leaves = int(tree["num_leaves"])
    need(leaves >= 1 and _count(tree, "leaf_value") == leaves, f"tree {i} says other numbers of leaves than it has")
    if leaves > 1:
        inner = leaves - 1
        agree = all(_count(tree, key) == leaves for key in tree.keys() & set(LEAVES))
        need(agree, f"tree {i} says other numbers of leaves than it has")
        agree = all(_count(tree, key) == inner for key in (*NODES, *(tree.keys() & set(MORE))))
        need(agree, f"tree {i} says other numbers of nodes than it has")
        check_features(_ints(tree, "split_feature"), features, i)
        children = np.concatenate([_ints(tree, "left_child"), _ints(tree, "right_child")])
        need((~children[children < 0] < leaves).all(), f"a node of tree {i} points outside")  # ~n is leaf n
        check_children(children[children >= 0], inner, i)
        _check_categories(tree, i)
    linear = tree.get("is_linear", "0")
    need(linear in ("0", "1"), f"tree {i} says is_linear={linear[:40]!r}")
    if linear == "1":
        _check_linear(tree, features, leaves, i)


def _check_categories(tree: dict[str, str], i: int) -> None:
    categories = int(tree["num_cat"])
    nodes = (_ints(tree, "decision_type") & 1) == 1
    chosen = np.array(tree["threshold"].split(), dtype=float)[nodes]
    need(below(chosen, categories), f"tree {i} asks for categories that it does not have")
    if categories:
        bounds = _ints(tree, "cat_boundaries")
        rising = len(bounds) == categories + 1 and bounds[0] == 0 and (np.diff(bounds) >= 0).all()
        need(rising and _count(tree, "cat_threshold") == bounds[-1], f"tree {i} has other categories than it says")


def _check_linear(tree: dict[str, str], features: int, leaves: int, i: int) -> None:
    counts, used = _ints(tree, "num_features"), _ints(tree, "leaf_features")
    need(len(counts) == leaves == _count(tree, "leaf_const"), f"tree {i} has another number of linear leaves")
    agree = (counts >= 0).all() and counts.sum() == len(used) == _count(tree, "leaf_coeff")
    need(agree, f"tree {i} has other coefficients than it says")
    check_features(used, features, i)


def _count(tree: dict[str, str], key: str) -> int:
    return len(tree.get(key, "").split())


def _ints(tree: dict[str, str], key: str) -> Any:
    return np.array(tree.get(key, "").split(), dtype=np.int64)
