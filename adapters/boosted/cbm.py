"""CatBoost's CBM file, checked before CatBoost reads it: 1.2.10 does not compare places in it with the ends of arrays.

`CBM1`, a FlatBuffer with its length before it, then a part for each name in it. The schemas:
https://github.com/catboost/catboost/tree/master/catboost/libs/model/flatbuffers.
"""

import json
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.boosted.flat import Table
from adapters.checks import below, need
from adapters.trust import reach_refused
from adapters.values import Array
from adapters.wording import reason

DEEPEST: Final = 30
BIN: Final = np.dtype([("feature", "<u2"), ("mask", "u1"), ("split", "u1")])
STEP: Final = np.dtype([("left", "<u2"), ("right", "<u2")])
BUCKET: Final = np.dtype({"names": ["hash", "index"], "formats": ["<u8", "<u4"], "itemsize": 12})
BORDER: Final = np.dtype([("index", "<i4"), ("border", "<f4")])
VALUE: Final = np.dtype([("index", "<i4"), ("value", "<i4")])
EMPTY: Final = 2**64 - 1
COUNTS_CLASSES: Final = (0, 1)
MEANS: Final = (2, 3)
"""Kinds of statistics (ECtrType): borders and buckets; means of the target. The others are counters."""
CLASSES: Final = (b"class_params", b"multiclass_params")
"""Where it says its classes, as JSON."""
TABLES: Final = b"static_provider_v1"
TEXTS: Final = b"text_process_v2\0"
"""Parts: tables of joined categories; dictionaries of text features, which are not looked at."""
PER_BIN: Final = 254
"""Borders that one byte of a row counts."""


def check_cbm(data: bytes, name: str, *, texts: bool) -> None:
    """Raises LoadFailed if CatBoost would read or write past the arrays of a model, and Refused for text features
    unless `texts`."""
    try:
        need(data[:4] == b"CBM1" and len(data) >= 8, "it does not begin as one")
        size = int.from_bytes(data[4:8], "little")
        need(size <= len(data) - 8, "it is cut off")
        core = Table.root(data[8 : 8 + size])
        trees = core.table(1)
        if trees.tables(18):
            raise LoadFailed("CatBoost models with embedding features are not served: export the model to ONNX")
        _check_trees(trees)
        for entry in core.tables(2):
            if entry.text(0) in CLASSES:
                _check_classes(json.loads(entry.text(1)), trees.number(0))
        if (parts := core.texts(3)) and TEXTS in parts and not texts:
            raise reach_refused(name, "has text features, whose dictionaries CatBoost reads without a check")
        _check_parts(trees, parts, data[8 + size :])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise LoadFailed(f"{name} is not a whole CatBoost model: {reason(error)}") from error


def _check_parts(trees: Table, names: list[bytes], data: bytes) -> None:
    need(names in ([], [TABLES], [TEXTS], [TABLES, TEXTS]), f"it has the parts {names!r:.80}")
    need(TABLES in names or not trees.tables(7), "it has no tables for its features")
    need(TEXTS in names or not (trees.tables(12) or trees.tables(13)), "it has no dictionaries for its features")
    if TABLES in names:
        _check_tables(trees, data)


def _check_classes(told: dict[str, Any], width: int) -> None:
    """Each number of an answer is that of a class, by its place among all classes; one number means two classes."""
    places, names = np.asarray(told["class_to_label"]), told.get("class_names", [])
    count = len(names) or told.get("classes_count") or None
    need(isinstance(names, list) and places.shape == (max(width, 2),), "its classes and answers do not agree")
    need(count is None or below(places, count), "its classes and their names do not agree")


def _check_trees(trees: Table) -> None:
    width = trees.number(0)
    splits, sizes, starts = (trees.array(i, "<i4").astype(np.int64) for i in (1, 2, 3))
    bins, buckets = _check_features(trees)
    need(below(splits, bins), "a tree asks for a border that is not there")
    repacked = trees.array(17, BIN)
    need(len(repacked) in (0, len(splits)) and below(repacked["feature"], max(buckets, 1)), "its splits do not agree")
    need((sizes >= 0).all() and sizes.sum() == len(splits), "its trees and splits do not agree")
    need((starts == np.cumsum(sizes) - sizes).all() and len(starts) == len(sizes), "its trees and splits do not agree")
    values = len(trees.array(8, "<f8"))
    need(width > 0, "its answers have no width")
    if len(steps := trees.array(10, STEP)):
        _check_steps(steps, trees.array(11, "<u4"), starts, sizes, values, width)
    else:
        leaves = int((1 << sizes).sum()) if (sizes <= DEEPEST).all() else -1
        need(values == leaves * width, "its trees and leaves do not agree")
        need(not len(trees.array(11, "<u4")), "it has nodes for trees that have none")
        need(len(trees.array(9, "<f8")) in (0, leaves), "its weights and leaves do not agree")
    need(len(trees.array(16, "<f8")) in (0, width), "its bias has another width than its answers")


def _check_steps(steps: Array, leaves: Array, starts: Array, sizes: Array, values: int, width: int) -> None:
    """A node says how far its children are; where it says 0, its own leaf is the answer."""
    need(len(steps) == len(leaves) == sizes.sum() and (sizes > 0).all(), "its trees and nodes do not agree")
    ends = np.repeat(starts + sizes, sizes) - np.arange(len(steps))
    inside = (steps["left"] < ends).all() and (steps["right"] < ends).all()
    need(inside, "a node points outside its tree")
    last = (steps["left"] == 0) | (steps["right"] == 0)
    need((leaves[last].astype(np.int64) + width <= values).all(), "a node names a leaf past the last")


def _check_features(trees: Table) -> tuple[int, int]:
    """Returns how many borders trees may ask for, and how many bytes of a row count them."""
    numbers, categories = trees.tables(5), trees.tables(4)
    texts, embeddings = trees.tables(12), trees.tables(18)
    together = len(numbers) + len(categories) + len(texts) + len(embeddings)
    places: list[int] = []
    for kind, index in ((numbers, 1), (categories, 0), (texts, 0), (embeddings, 0)):
        need([one.number(index, otherwise=-1) for one in kind] == [*range(len(kind))], "its features are not in order")
        places += [one.number(index + 1, otherwise=-1) for one in kind]
    need(sorted(places) == [*range(together)], "two features have the same place")
    counts = [len(one.array(3, "<f4")) for one in numbers]
    for one in trees.tables(6):
        need(0 <= one.number(0, otherwise=-1) < len(categories), "it asks for a category that is not there")
        counts.append(len(one.array(1, "<i4")))
    for one in trees.tables(7):
        _check_combination(_base(one), len(numbers), len(categories))
        counts.append(len(one.array(1, "<f4")))
    counts += [len(one.array(3, "<f4")) for one in trees.tables(13)]
    return sum(counts), sum(-(-count // PER_BIN) for count in counts)


def _base(feature: Table) -> Table:
    return feature.table(0).table(0)


def _check_combination(base: Table, numbers: int, categories: int) -> None:
    joined, borders, values = _combination(base)
    need(below(joined, categories), "it joins a category that is not there")
    need(below(borders["index"], numbers), "it joins a feature that is not there")
    need(below(values["index"], categories), "it joins a category that is not there")


def _combination(base: Table) -> tuple[Array, Array, Array]:
    found = base.table(0)
    return found.array(0, "<i4"), found.array(1, BORDER), found.array(2, VALUE)


def _key(base: Table) -> tuple[object, ...]:
    """Returns what a feature and the table of its statistics have in common."""
    return (base.number(1, "<b"), base.number(2), *(part.tobytes() for part in _combination(base)))


def _check_tables(trees: Table, data: bytes) -> None:
    """A hash table leads from joined categories to their place among the statistics of the targets."""
    classes: dict[tuple[object, ...], int] = {}
    at = 4
    for _ in range(int.from_bytes(data[:4], "little")):
        size = int.from_bytes(data[at : at + 4], "little")
        need(0 < size <= len(data) - at - 4, "its tables are cut off")
        table = Table.root(data[at + 4 : at + 4 + size])
        base = table.table(0)
        classes[_key(base)] = _checked_table(table, base.number(1, "<b"))
        at += 4 + size
    for feature in trees.tables(7):
        held = classes.get(_key(_base(feature)))
        need(held is not None, "it has no table for a feature")
        border = feature.table(0).number(1)
        need(held == 0 or 0 <= border < (held or 0), "it asks a table for a class that is not there")


def _checked_table(table: Table, kind: int) -> int:
    """Returns how many classes of the target a table counts; 0 if it does not count them."""
    classes = table.number(4) if kind in COUNTS_CLASSES else 0
    need(kind in range(6) and (kind not in COUNTS_CLASSES or 0 < classes < 1 << 20), "a table is of an unknown kind")
    size = 4 * classes or (8 if kind in MEANS else 4)
    slots = table.array(1, "u1")
    need(len(slots) % BUCKET.itemsize == 0 and len(slots), "a table has no slots")
    buckets = slots.view(BUCKET)
    used = buckets["hash"] != EMPTY
    need(len(buckets) & (len(buckets) - 1) == 0 and not used.all(), "a table has no free slot")
    need(below(buckets["index"][used], len(table.array(2, "u1")) // size), "a slot names statistics past the last")
    return classes
