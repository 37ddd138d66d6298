"""XGBoost's UBJ, and what its compiled code never checks in a model: children, features, classes of trees.

UBJ is Universal Binary JSON (https://ubjson.org), the schema is in
https://xgboost.readthedocs.io/en/release_3.2.0/tutorials/saving_model.html. XGBoost writes the model that it has loaded
as UBJ, so one check covers JSON and UBJ files. A wrong child index made `predict` crash in 3.2.0.
"""

import itertools
import json
from typing import Any, Final

import numpy as np

from adapters.base import LoadFailed
from adapters.boosted.rows import check_children, check_features
from adapters.checks import below, need
from adapters.wording import reason

UBJ_BEGINS: Final = (b"{L", b"{l", b"{i", b"{U", b"{I")
NUMBERS: Final = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}


class Ubj:
    """A reader of one UBJ document. Typed arrays become numpy arrays, without a Python object for each number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError(f"{count} bytes are wanted at byte {self._at} of {len(self._data)}")
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def read(self, mark: bytes = b"") -> Any:
        """Returns the next value; `mark` is its first byte, if that has been read."""
        kind = mark or self._take(1)
        if kind == b"{":
            found = {}
            while (mark := self._take(1)) != b"}":
                name = self._take(self.read(mark)).decode()
                found[name] = self.read()
            return found
        if kind == b"[":
            return self._array()
        if kind == b"S":
            return self._take(self.read()).decode()
        if kind in NUMBERS:
            code = NUMBERS[kind]
            return np.frombuffer(self._take(np.dtype(code).itemsize), dtype=code)[0].item()
        return {b"T": True, b"F": False, b"Z": None}[kind]

    def member(self, wanted: str) -> bytes:
        """Returns the bytes of one member of the object that the document is. Raises ValueError if it has none."""
        self._take(1)
        while (mark := self._take(1)) != b"}":
            name = self._take(self.read(mark)).decode()
            start = self._at
            self.read()
            if name == wanted:
                return self._data[start : self._at]
        raise ValueError(f"it has no {wanted}")

    def _array(self) -> Any:
        mark = self._take(1)
        if mark == b"$":
            kind = self._take(1)
            self._take(1)
            code = NUMBERS[kind]
            return np.frombuffer(self._take(self.read() * np.dtype(code).itemsize), dtype=code).astype(code[1:])
        if mark == b"#":
            return [self.read() for _ in range(self.read())]
        found = []
        while mark != b"]":
            found.append(self.read(mark))
            mark = self._take(1)
        return found


def model_in(data: bytes) -> bytes:
    """Returns the model in what XGBoost writes into pickles: `{"Config": …, "Model": …}`. Raises ValueError.
    The configuration, which predicts nothing, is left out."""
    if not data.startswith(UBJ_BEGINS):
        return json.dumps(json.loads(data)["Model"]).encode()
    return Ubj(data).member("Model")


def check_whole(data: bytes, name: str) -> None:
    """Raises LoadFailed unless `data` is one whole document: XGBoost 3.2.0 aborts on some that are cut off."""
    try:
        if data.startswith(UBJ_BEGINS):
            Ubj(data).read()
        else:
            json.loads(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadFailed(f"{name} is not a whole XGBoost model in JSON or UBJ: {reason(error)}") from error


def checked_categories(data: bytes, name: str) -> dict[int, list[Any]]:
    """Returns the categories that the model in `data`, of UBJ, has for its features, in the order of their codes.
    Raises LoadFailed if a tree of it could be walked out of its arrays."""
    try:
        learner = Ubj(data).read()["learner"]
        _check_booster(learner["gradient_booster"], learner["learner_model_param"])
        return _categories(learner["gradient_booster"])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise LoadFailed(f"{name} holds an XGBoost model that is damaged: {reason(error)}") from error


def _check_booster(booster: Any, sizes: Any) -> None:
    booster = booster.get("gbtree", booster)  # DART keeps its trees one level deeper
    if booster.get("name") == "gblinear":
        return
    features = int(sizes["num_feature"])
    groups = max(1, int(sizes["num_class"])) * max(1, int(sizes.get("num_target", 1)))
    model = booster["model"]
    info = np.asarray(model["tree_info"])
    need(len(info) == len(model["trees"]) and below(info, groups), "a tree is for a class that there is not")
    for i, tree in enumerate(model["trees"]):
        left, right, split = (np.asarray(tree[key]) for key in ("left_children", "right_children", "split_indices"))
        count = len(left)
        agree = count == len(right) == len(split) == int(tree["tree_param"]["num_nodes"]) and count
        need(agree, f"tree {i} says other numbers of nodes than it has")
        inner = left != -1
        check_children(np.concatenate([left[inner], right[inner]]), count, i)
        check_features(split[inner], features, i)


def _categories(booster: Any) -> dict[int, list[Any]]:
    """Since 3.1 a model trained on a frame has them: texts joined, with where each begins, or numbers."""
    booster = booster.get("gbtree", booster)
    found = booster.get("model", {}).get("cats", {}).get("enc", ())
    return {i: known for i, encoded in enumerate(found) if (known := _decoded(encoded))}


def _decoded(encoded: Any) -> list[Any]:
    values = np.asarray(encoded["values"])
    if "offsets" not in encoded:
        return list(values.tolist())
    ends, joined = np.asarray(encoded["offsets"], dtype=np.int64).tolist(), values.astype(np.int8).tobytes()
    return [joined[start:end].decode() for start, end in itertools.pairwise(ends)]
