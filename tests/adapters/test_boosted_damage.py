"""Files of boosters whose parts contradict each other: each of these ended the process that read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pytest
import xgboost

from adapters import load
from adapters.base import LoadFailed, Options, Refused
from adapters.boosted import booster, text
from adapters.boosted.cbm import STEP, check_cbm
from adapters.boosted.flat import Table
from adapters.inspection import verdicts

from .kits import files_in

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, :2] > 0).sum(axis=1)


# -- XGBoost


@cache
def xgboost_file(kind: str) -> bytes:
    codes = xgboost.DMatrix(np.c_[X[:, :2], Y], Y, feature_types=["q", "q", "c"], enable_categorical=True)
    data = {"vectors": xgboost.DMatrix(X, np.c_[Y, Y]), "categories": codes}.get(kind, xgboost.DMatrix(X, Y))
    params = {
        "vectors": {"multi_strategy": "multi_output_tree"},
        "dart": {"booster": "dart"},
        "linear": {"booster": "gblinear"},
        "classes": {"objective": "multi:softprob", "num_class": 3},
        "categories": {"max_cat_to_onehot": 1},
    }.get(kind, {})
    return bytes(xgboost.train({"max_depth": 2, "nthread": 1, **params}, data, 2).save_raw("json"))


def put(*path: Any, to: Any) -> Callable[[Any], None]:
    """Sets one value below `learner`; after `tree` in the first tree, after `model` in what holds the trees."""

    def change(learner: Any) -> None:
        booster = learner["gradient_booster"]
        model = booster.get("gbtree", booster)["model"]
        place = {"tree": model.get("trees", [{}])[0], "model": model, "learner": learner}[path[0]]
        for key in path[1:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


XGBOOST: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "parent": ("numbers", put("tree", "parents", 1, to=32767), "another parent"),
    "root": ("numbers", put("tree", "parents", 0, to=0), "another parent"),
    "width": ("numbers", put("tree", "tree_param", "size_leaf_vector", to="22"), "another number of targets"),
    "negative": ("numbers", put("tree", "tree_param", "size_leaf_vector", to="-2"), "size_leaf_vector is '-2'"),
    "numbered": ("numbers", put("tree", "id", to=1), "not numbered in their order"),
    "rounds": ("numbers", put("model", "iteration_indptr", 0, to=1), "rounds do not hold"),
    "one child": ("numbers", put("tree", "right_children", -1, to=1), "has one child"),
    "objective": ("classes", put("learner", "objective", "softmax_multiclass_param", "num_class", to="2"), "another number of classes"),
    "features": ("numbers", put("learner", "learner_model_param", "num_feature", to="0"), "no features"),
    "dart": ("dart", put("learner", "gradient_booster", "weight_drop", to=[1.0]), "other weights than trees"),
    "linear": ("linear", put("model", "weights", to=[1.0]), "number of weights than features"),
    "category": ("categories", put("tree", "categories", 0, to=-1), "other categories"),
    "place": ("categories", put("tree", "categories_segments", 0, to=10**6), "other categories"),
    "node": ("categories", put("tree", "categories_nodes", 0, to=-3), "with categories is none"),
    "asked": ("categories", put("tree", "categories_nodes", 0, to=1), "does not have|is none"),
    "leaf": ("vectors", put("tree", "right_children", -1, to=27), "numbers of leaves"),
    "no leaves": ("vectors", put("tree", "leaf_weights", to=[]), "numbers of leaves"),
    "gains": ("vectors", put("tree", "loss_changes", to=[]), "numbers of nodes"),
}  # fmt: skip


@pytest.mark.parametrize("case", XGBOOST)
def test_an_xgboost_model_that_contradicts_itself_is_refused(case: str) -> None:
    kind, change, words = XGBOOST[case]
    model = json.loads(xgboost_file(kind))
    booster.checked(json.dumps(model).encode(), "m.json")
    change(model["learner"])
    with pytest.raises(LoadFailed, match=words):
        booster.checked(json.dumps(model).encode(), "m.json")


def test_an_xgboost_model_without_a_part_is_refused() -> None:
    for kind, key in (
        ("vectors", "loss_changes"),
        ("vectors", "leaf_weights"),
        ("vectors", "split_type"),
        ("numbers", "split_conditions"),
    ):
        model = json.loads(xgboost_file(kind))
        del model["learner"]["gradient_booster"]["model"]["trees"][0][key]
        with pytest.raises(LoadFailed, match="damaged"):
            booster.checked(json.dumps(model).encode(), "m.json")


def test_a_key_that_stands_twice_is_refused() -> None:
    twice = xgboost_file("numbers").replace(b'"id":0', b'"id":0,"id":1', 1)
    with pytest.raises(LoadFailed, match="'id' stands twice"):
        booster.checked(twice, "m.json")


# -- LightGBM

LIGHTGBM = {
    "weights of leaves": (r"^leaf_weight=\S+ ", "leaf_weight=", "numbers of leaves"),
    "gains of nodes": (r"^split_gain=\S+ ", "split_gain=", "numbers of nodes"),
    "no number": (r"^split_gain=\S+", "split_gain=\x02", "else than numbers"),
    "linear": (r"^shrinkage=", "is_linear=2\nshrinkage=", "is_linear=2|stands twice"),
    "twice": (r"^shrinkage=", "num_leaves=1\nshrinkage=", "stands twice"),
    "a line without a key": (r"^split_gain=", "split_gain ", "other lines than key=value"),
    "an empty line": (r"^shrinkage=", "\nshrinkage=", "other lines than key=value"),
    "more lines": (
        r"^shrinkage=",
        "".join(f"{key}=1\n" for key in "abcdefghij") + "shrinkage=",
        "other lines than key=value",
    ),
    "another end of a line": (r"^shrinkage=", "\rshrinkage=", "other lines than key=value"),
}


@pytest.mark.parametrize("case", LIGHTGBM)
def test_a_lightgbm_model_that_contradicts_itself_is_refused(case: str) -> None:
    pattern, new, words = LIGHTGBM[case]
    quiet = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
    whole = lightgbm.train(quiet, lightgbm.Dataset(X, Y), 1).model_to_string()
    text.checked(whole.encode(), "m.txt")
    changed = re.sub(pattern, new, whole, count=1, flags=re.MULTILINE)
    assert changed != whole
    end = changed.index(text.END)
    sized = re.sub(r"^tree_sizes=.*$", f"tree_sizes={end - changed.index('Tree=0')}", changed, flags=re.MULTILINE)
    with pytest.raises(LoadFailed, match=words):
        text.checked(sized.encode(), "m.txt")


# -- CatBoost


@pytest.fixture(scope="module")
def cbm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    path = tmp_path_factory.mktemp("cbm") / "m.cbm"
    quiet = {"iterations": 5, "depth": 2, "thread_count": 1, "logging_level": "Silent", "allow_writing_files": False}
    mixed = np.c_[X.astype(object), np.array(["red", "green", "blue"], object)[Y]]

    @cache
    def made(kind: str) -> bytes:
        if kind == "categories":
            model = catboost.CatBoostClassifier(**quiet, cat_features=[3]).fit(mixed, Y > 1)
        elif kind == "classes":
            model = catboost.CatBoostClassifier(**quiet).fit(X, Y)
        else:
            model = catboost.CatBoostRegressor(**quiet, grow_policy=kind).fit(X, Y)
        model.save_model(path)
        check_cbm(path.read_bytes(), "m.cbm", texts=False)
        return path.read_bytes()

    return made


def trees_in(data: bytes) -> Table:
    return Table.root(data[8 : 8 + int.from_bytes(data[4:8], "little")]).table(1)


CATBOOST = {
    "split": ("SymmetricTree", 1, "<i4", lambda a: a.__setitem__(0, 10**6), "a border that is not there"),
    "size": ("SymmetricTree", 2, "<i4", lambda a: a.__setitem__(0, 3), "trees and splits"),
    "start": ("SymmetricTree", 3, "<i4", lambda a: a.__setitem__(1, 1), "trees and splits"),
    "step": ("Lossguide", 10, STEP, lambda a: a["left"].__setitem__(0, 999), "outside its tree"),
    "leaf": ("Lossguide", 11, "<u4", lambda a: a.__setitem__(a != 2**32 - 1, 999), "a leaf past the last"),
}


@pytest.mark.parametrize("case", CATBOOST)
def test_a_catboost_model_that_contradicts_itself_is_refused(case: str, cbm: Callable[[str], bytes]) -> None:
    kind, field, dtype, change, words = CATBOOST[case]
    data = cbm(kind)
    before = trees_in(data).array(field, dtype)
    after = before.copy()
    change(after)
    assert data.count(before.tobytes()) == 1
    with pytest.raises(LoadFailed, match=words):
        check_cbm(data.replace(before.tobytes(), after.tobytes()), "m.cbm", texts=False)


SAID = b'"classes_count":0,"class_names":[0,1,2],"class_to_label":[0,1,2]'
CATBOOST_PARTS = {
    "another part": ("categories", b"static_provider_v1", b"static_provider_v2", "it has the parts"),
    "fewer names": ("classes", SAID, SAID.replace(b"0,1", b"0.1", 1), "classes and their names"),
    "no names": ("classes", SAID, SAID.replace(b"[0,1,2]", b'"0,1,2"', 1), "classes and answers"),
    "fewer classes": ("classes", SAID, SAID[:-6] + b"0.1,2]", "classes and answers"),
    "no JSON": ("classes", SAID, SAID.replace(b":", b",", 1), "is not a whole CatBoost model"),
}


@pytest.mark.parametrize("case", CATBOOST_PARTS)
def test_a_catboost_model_whose_parts_are_others_is_refused(case: str, cbm: Callable[[str], bytes]) -> None:
    kind, before, after, words = CATBOOST_PARTS[case]
    data = cbm(kind)
    assert data.count(before) == 1
    with pytest.raises(LoadFailed, match=words):
        check_cbm(data.replace(before, after), "m.cbm", texts=False)


def test_a_catboost_model_that_takes_numbers_for_texts_is_refused(cbm: Callable[[str], bytes]) -> None:
    data, trees = cbm("classes"), trees_in(cbm("classes"))
    entry = 8 + trees._fields + 4
    numbers = data[entry + 2 * 5 : entry + 2 * 5 + 2]
    with pytest.raises(LoadFailed, match="no dictionaries for its features"):  # field 13, features made of texts
        check_cbm(data[: entry + 2 * 13] + numbers + data[entry + 2 * 13 + 2 :], "m.cbm", texts=False)


@pytest.mark.parametrize(
    ("kind", "of_trees", "field", "count", "words"),
    [
        ("SymmetricTree", True, 11, 2, "nodes for trees that have none"),
        ("categories", False, 3, 0, "no tables for its features"),
    ],
)
def test_a_catboost_list_that_is_longer_or_shorter_is_refused(
    kind: str, of_trees: bool, field: int, count: int, words: str, cbm: Callable[[str], bytes]
) -> None:
    data = cbm(kind)
    table = Table.root(data[8 : 8 + int.from_bytes(data[4:8], "little")])
    table = table.table(1) if of_trees else table
    at = 8 + table._target(table._place(field))
    assert data[at : at + 4] != count.to_bytes(4, "little")
    with pytest.raises(LoadFailed, match=words):
        check_cbm(data[:at] + count.to_bytes(4, "little") + data[at + 4 :], "m.cbm", texts=False)


def test_catboost_text_features_need_unsafe(tmp_path: Path) -> None:
    words = [["red apple"], ["green tree"], ["blue sea"]] * 10
    model = catboost.CatBoostClassifier(
        iterations=2, depth=2, thread_count=1, logging_level="Silent", allow_writing_files=False, text_features=[0]
    )
    model.fit(words, [0, 1, 0] * 10).save_model(tmp_path / "m.cbm")
    with pytest.raises(Refused, match="has text features, whose dictionaries CatBoost reads without a check"):
        load(files_in(tmp_path, "m.cbm"), Options(), framework=None, format=None, warn=print)
    (verdict,) = verdicts(files_in(tmp_path, "m.cbm"), Options())
    assert "has text features" in str(verdict.refused)
    _, loaded = load(files_in(tmp_path, "m.cbm"), Options(trust="unsafe"), framework=None, format=None, warn=print)
    rows = np.array([row[0].encode() for row in words], object)
    got = loaded.predict({loaded.inputs[0].name: rows}, ("predict",))
    assert got["predict"].tolist() == model.predict(words).tolist()


def test_a_catboost_table_of_categories_that_contradicts_itself_is_refused(cbm: Callable[[str], bytes]) -> None:
    data = cbm("categories")
    core = 8 + int.from_bytes(data[4:8], "little")
    table = Table.root(data[core + 8 : core + 8 + int.from_bytes(data[core + 4 : core + 8], "little")])
    slots = table.array(1, "u1")
    far = slots.copy()
    far.view([("hash", "<u8"), ("index", "<u4")])["index"] = 10**6
    full = slots.copy()
    full.view([("hash", "<u8"), ("index", "<u4")])["hash"] = 1
    for changed, words in ((far, "statistics past the last"), (full, "no free slot")):
        with pytest.raises(LoadFailed, match=words):
            check_cbm(data.replace(slots.tobytes(), changed.tobytes()), "m.cbm", texts=False)
    with pytest.raises(LoadFailed, match="no table for a feature"):
        check_cbm(data[:core] + bytes(4), "m.cbm", texts=False)
    for end in range(0, len(data), 97):
        with pytest.raises(LoadFailed):
            check_cbm(data[:end], "m.cbm", texts=False)
