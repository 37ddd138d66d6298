from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from adapters.base import AdapterError, LoadFailed, MissingFramework, Options, Refused
from adapters.imports import how_to_install
from adapters.inspection import verdicts
from adapters.pickles import allow_list
from adapters.pickles.head import looks_like_pickle, looks_like_skops
from adapters.pickles.unpickler import load_pickle
from adapters.sklearn.adapter import load
from tests.campaign import Campaign

from .kits import files_in, unpack


def loaded(root: Path, data: bytes, **more: Any) -> Any:
    (root / "m.pkl").write_bytes(data)
    return load_pickle(files_in(root, "m.pkl"), trust="restricted", **more)[0]


class Call:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def test_evil_kit_is_refused_and_runs_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused) as caught:
        unpack("evil-pickle", tmp_path).load()
    message = str(caught.value)
    assert "builtins.print" in message
    assert "\n" not in message
    for way_out in ("--allow-global builtins.print", "--trust unsafe"):
        assert way_out in message
    assert "THIS KIT RAN CODE ON LOAD" not in capfd.readouterr().out + message


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_held_to_the_list(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps({"model": [Call(subprocess.getoutput, "true")]}, protocol)
    with pytest.raises(Refused, match=r"m\.pkl is a pickle that wants subprocess\.getoutput, which"):
        loaded(tmp_path, data)


def test_refusal_names_every_global_at_once(tmp_path: Path) -> None:
    data = pickle.dumps([Call(subprocess.getoutput, "true"), LogisticRegression(), Call(print, "x"), Call(eval, "1")])
    with pytest.raises(Refused, match=r"wants builtins\.eval, builtins\.print, subprocess\.getoutput, which"):
        loaded(tmp_path, data)


def test_a_long_refusal_shows_the_first_names_and_inspection_all(tmp_path: Path) -> None:
    functions = [os.system, os.getpid, os.getcwd, os.listdir, os.remove, os.rmdir, os.getlogin]
    data = pickle.dumps([Call(each) for each in functions])
    with pytest.raises(Refused) as caught:
        loaded(tmp_path, data)
    message = str(caught.value)
    assert "wants posix.getcwd, posix.getlogin, posix.getpid, posix.listdir, posix.remove and 2 more, which" in message
    assert "(`runtime inspect --files` shows them all); if you trust who made it, allow each with" in message
    (tmp_path / "m.pkl").write_bytes(data)
    (found,) = verdicts(files_in(tmp_path, "m.pkl"), Options())
    assert found.refused
    assert all(f"posix.{each.__name__}" in found.refused for each in functions)


def test_packages_that_are_missing_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightgbm
    import xgboost

    data = pickle.dumps([LogisticRegression(), xgboost.XGBClassifier(), lightgbm.LGBMClassifier()])
    for package in ("xgboost", "lightgbm"):
        monkeypatch.delitem(sys.modules, f"{package}.sklearn")
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingFramework) as caught:
        loaded(tmp_path, data)
    said = "this model needs the packages 'xgboost', 'lightgbm', which are not installed"
    assert str(caught.value) == f"{said}: {how_to_install('xgboost', 'lightgbm')}"


def test_code_that_a_file_has_in_it_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(cloudpickle.dumps(FunctionTransformer(lambda x: 2 * x)))
    with pytest.raises(Refused) as error:
        load(files_in(tmp_path, "m.pkl"), Options())
    assert "the code of a function or class of the script that saved it" in str(error.value)
    assert "--trust unsafe" in str(error.value)
    assert "--allow-global" not in str(error.value), "which would not do"
    load(files_in(tmp_path, "m.pkl"), Options(trust="unsafe"))


def test_nested_pickle_of_joblib_is_held_to_the_list(tmp_path: Path) -> None:
    objects = np.array([Call(subprocess.getoutput, "true"), 1], dtype=object)
    joblib.dump({"a": objects}, tmp_path / "m.joblib")
    with pytest.raises(Refused, match=r"subprocess\.getoutput"):
        load_pickle(files_in(tmp_path, "m.joblib"), trust="restricted")


@pytest.mark.parametrize("compress", [0, 3], ids=str)
def test_names_behind_arrays_are_refused_at_once(compress: int, tmp_path: Path) -> None:
    array = np.arange(4.0)
    parts = {"a": array, "b": Call(print), "c": [array, np.array(["x", 1], object)], "d": Call(subprocess.getoutput)}
    joblib.dump(parts, tmp_path / "m.joblib", compress=compress)
    with pytest.raises(Refused, match=r"wants builtins\.print, subprocess\.getoutput, which"):
        load_pickle(files_in(tmp_path, "m.joblib"), trust="restricted")


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_joblib_reads_as_joblib_wrote(compress: Any, tmp_path: Path) -> None:
    strings = np.array(["grün", None, 3, b"x"], dtype=object)
    kept = {
        "f": np.arange(12.0).reshape(3, 4), "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)), "o": strings,
        "big": np.arange(4, dtype=">i4"), "empty": np.empty((0, 3)), "scalar": np.float32(1.5), "zero": np.array(7),
        "record": np.zeros(2, dtype=[("a", "i4"), ("b", "f8", (2,))][:1]), "text": np.array(["a", "bc"]),
    }  # fmt: skip
    joblib.dump(kept, tmp_path / "m.joblib", compress=compress)
    got = load_pickle(files_in(tmp_path, "m.joblib"), trust="restricted")[0]
    want = joblib.load(tmp_path / "m.joblib")
    for name, right in want.items():
        assert got[name].dtype == right.dtype
        assert got[name].shape == right.shape
        assert got[name].tolist() == right.tolist()
    assert looks_like_pickle((tmp_path / "m.joblib").read_bytes()[:4096])


def test_allowed_global_is_exact(tmp_path: Path) -> None:
    data = pickle.dumps(Call(complex, 1.0))
    assert loaded(tmp_path, data) == 1
    data = pickle.dumps(Call(divmod, 7, 2))
    with pytest.raises(Refused):
        loaded(tmp_path, data, allowed=frozenset({"builtins.divmo", "divmod", "builtins"}))
    assert loaded(tmp_path, data, allowed=frozenset({"builtins.divmod"})) == (3, 1)


# Hand-made streams: what pickle.dumps never writes. Names are on the allow-list; their use is not.
ESTIMATOR = b"csklearn.linear_model._logistic\nLogisticRegression\n"
MEAN = b"cnumpy\nmean\n"
HOSTILE = {
    "a value is called": (MEAN + b"(]tR.", "is used as a call"),
    "an estimator is called": (ESTIMATOR + b"(tR.", "is used as a call"),
    "an estimator is made with arguments": (b"\x80\x02" + ESTIMATOR + b"K\x01\x85\x81.", "is made with arguments"),
    "INST calls a class": (b"(K\x01isklearn.linear_model._logistic\nLogisticRegression\n.", "is made with arguments"),
    "OBJ calls a class": (b"(" + ESTIMATOR + b"K\x01o.", "is made with arguments"),
    "state for a class": (b"\x80\x02" + ESTIMATOR + b"}X\x01\x00\x00\x00aK\x01sb.", "state is given to"),
    "state for a function": (b"\x80\x02" + MEAN + b"}X\x01\x00\x00\x00aK\x01sb.", "state is given to"),
    "a dunder attribute": (
        b"\x80\x02" + ESTIMATOR + b")\x81}X\x09\x00\x00\x00__class__K\x01sb.", "attribute is called",
    ),
    "append to an estimator": (b"\x80\x02" + ESTIMATOR + b")\x81K\x01a.", "elements are put into"),
    "extend an estimator": (b"\x80\x02" + ESTIMATOR + b")\x81(K\x01e.", "elements are put into"),
    "items for a class": (b"\x80\x02" + ESTIMATOR + b"K\x01K\x02s.", "elements are put into"),
    "add to an estimator": (b"\x80\x04" + ESTIMATOR + b")\x81(K\x01\x90.", "elements are put into"),
    "a persistent object": (b"Px\n.", "persistent object"),
    "an extension code": (b"\x80\x02\x82\x01.", "extension code"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x08mean.abs\x93.", r"numpy\.mean\.abs"),
    "a huge length": (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.", "bytes are wanted where"),
    "a huge frame": (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f.", "bytes are wanted where"),
    "a huge bytearray": (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.", "bytes are wanted where"),
    "bytes of a number": (b"cbuiltins\nbytes\n(I99999999999\ntR.", "bytes are made of something else"),
    "endless marks": (b"(" * 2000 + b".", "nest deeper than 1000"),
    "a defaultdict that calls": (b"ccollections\ndefaultdict\n(" + MEAN + b"tR.", "would call something else"),
    "a random state that calls": (
        b"cnumpy.random._pickle\n__randomstate_ctor\n(cnumpy\nmean\n" + MEAN + b"tR.", "unknown kind"
    ),
    "an object array in disguise": (
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00f\x85"
        b"}X\x01\x00\x00\x00fcnumpy\ndtype\nX\x01\x00\x00\x00O\x85RK\x00\x86sK\x08K\x01K\x00tb."),
        "fields of objects",
    ),
    "a text that gets fields": (
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00S8\x85R(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00f\x85"
        b"}X\x01\x00\x00\x00fcnumpy\ndtype\nX\x02\x00\x00\x00u1\x85RK\x00\x86sK\x7fK\x01K\x00tb."),
        "a dtype has an unusual state",
    ),
    "a tree of no sizes": (
        b"\x80\x02csklearn.tree._tree\nTree\nK\x04cnumpy\nndarray\nK\x02\x87R.", "is made with|tree is made with"
    ),
    "an array of a negative size": (
        (b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shapeJ\xff\xff\xff\xff\x85"
        b"X\x05\x00\x00\x00orderX\x01\x00\x00\x00CX\x05\x00\x00\x00dtypecnumpy\ndtype\nX\x02\x00\x00\x00f8\x85Rub"
        b"12345678."), "bytes are wanted where",
    ),
    "nothing": (b"", "not a whole pickle"),
    "no pickle": (b"hello world\n", "not a whole pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_stream_ends_in_one_line(name: str, tmp_path: Path) -> None:
    data, words = HOSTILE[name]
    with pytest.raises(AdapterError, match=words) as caught:
        loaded(tmp_path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [np.array, np.ma.MaskedArray])
def test_an_array_of_fewer_objects_than_elements_is_refused(make: Any, tmp_path: Path) -> None:
    data = pickle.dumps(make([None, None, None], dtype=object), 4)
    assert data.count(b"K\x03\x85") == 1
    with pytest.raises(LoadFailed, match="another number of objects than elements"):
        loaded(tmp_path, data.replace(b"K\x03\x85", b"K\x7f\x85"))


def test_a_masked_array_stays_as_it_was(tmp_path: Path) -> None:
    for values in ([1.5, 2.5], ["a", "b"], [None, 1]):
        saved = np.ma.MaskedArray(np.array(values), mask=[True, False])
        read = loaded(tmp_path, pickle.dumps(saved, 4))
        assert (read.data.tolist(), read.mask.tolist(), read.dtype) == (values, [True, False], saved.dtype)


def test_a_state_that_a_dtype_gets_later_changes_no_array_of_it(tmp_path: Path) -> None:
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85Rq\x07"
    made = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85B\x01\x00\x00\x00btR"
    array = made + b"(K\x01K\x01\x85" + dtype + b"\x89B\x08\x00\x00\x0012345678tb"
    field = b"}X\x01\x00\x00\x00fcnumpy\ndtype\nX\x02\x00\x00\x00u1\x85RK\x00\x86s"
    grown = b"h\x07(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00f\x85" + field + b"M\x00\x10K\x01K\x00tb"
    array, dtype = loaded(tmp_path, b"\x80\x03" + array + grown + b"\x86.")
    assert (dtype.itemsize, array.itemsize, array.nbytes) == (4096, 8, 8)


def test_shared_dtypes_keep_their_state(tmp_path: Path) -> None:
    loaded(
        tmp_path,
        b"\x80\x02cnumpy\ndtype\ncnumpy\nfloat64\n\x85R(K\x03X\x01\x00\x00\x00>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
    )
    assert np.dtype(np.float64).isnative
    assert np.dtype("f8").isnative


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kit", ["wine-sklearn", "titanic-sklearn", "spam-sklearn"])
def test_truncated_file_fails_in_one_line(kit: str, part: float, tmp_path: Path) -> None:
    found = unpack(kit, tmp_path)
    path = tmp_path / found.files.path
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(LoadFailed) as caught:
        found.load(adapter="sklearn")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_flipped_bytes_end_in_one_line(tmp_path: Path) -> None:
    found = unpack("titanic-sklearn", tmp_path)
    path = tmp_path / found.files.path
    good = path.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 300)):
        (tmp_path / "m.pkl").write_bytes(good[:at] + bytes([good[at] ^ 0x11]) + good[at + 1 :])
        line = ""
        try:
            load_pickle(files_in(tmp_path, "m.pkl"), trust="restricted")
        except AdapterError as error:
            line = str(error)
        assert "\n" not in line


def test_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.pickles.file.FREE_BYTES", 1 << 20)
    joblib.dump(np.zeros(2_000_000, np.uint8), tmp_path / "m.joblib", compress=9)
    with pytest.raises(LoadFailed, match="grows past 200 times its size"):
        load_pickle(files_in(tmp_path, "m.joblib"), trust="restricted")


def test_skops_is_told_from_other_zips() -> None:
    def zip_head(name: bytes) -> bytes:
        return b"PK\x03\x04" + bytes(22) + len(name).to_bytes(2, "little") + bytes(2) + name

    assert looks_like_skops(zip_head(b"schema.json"))
    assert looks_like_skops(zip_head(b"140230.npy"))
    assert not looks_like_skops(zip_head(b"mlp/data.pkl"))
    assert not looks_like_pickle(zip_head(b"schema.json"))


def test_every_name_of_the_allow_list_stands_below_a_reason_and_once() -> None:
    for table in (allow_list.VALUES, allow_list.CLASSES, allow_list.COMPILED):
        assert all(len(why.split()) > 2 for why in table)
        named = [f"{m}.{n}" for names in table.values() for m, group in names.items() for n in group.split()]
        assert len(named) == len(set(named))
    assert all(len(why.split()) > 2 for why in allow_list.CALLS)


GADGETS = """
import importlib.util, io, json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from adapters.checks import Damaged
from adapters.pickles import pandas
from adapters.pickles.file import Bounded
from adapters.pickles.rules import CALLS, COMPILED, canonical
from adapters.pickles.unpickler import Denied, Strict

SKIPPED = {"antigravity", "this", "idlelib", "turtledemo", "test", "lib2to3", "tkinter", "turtle", "msilib"}

def modules():
    yield from sorted(set(sys.stdlib_module_names) - SKIPPED)
    for top in ("numpy", "scipy", "sklearn", "pandas", "lightgbm", "xgboost", "catboost"):
        yield from packaged(Path(importlib.util.find_spec(top).origin).parent, top)

def packaged(folder, package):
    yield package
    for path in folder.iterdir():
        name = path.name.partition(".")[0]
        if name in {"tests", "conftest", "__main__", "setup", "f2py", "__init__"}:
            continue
        if path.suffix in (".py", ".so"):
            yield f"{package}.{name}"
        elif (path / "__init__.py").exists():
            yield from packaged(path, f"{package}.{name}")

tried, not_refused = 0, []
for module in sorted(set(modules()))[int(sys.argv[1]) :: int(sys.argv[2])]:
    try:
        found = importlib.import_module(module)
    except BaseException:
        continue
    for name, thing in list(vars(found).items()):
        full = ".".join(canonical(module, name))
        ours = full in {*CALLS, *COMPILED, *pandas.CALLS} or "newObj" in name or "__pyx" in name
        if ours or not callable(thing) or not name.isascii():
            continue
        data = b"c" + module.encode() + b"\\n" + name.encode() + b"\\n(tR."
        tried += 1
        try:
            Strict(Bounded(io.BytesIO(data), len(data)), "m.pkl", frozenset()).load()
            not_refused.append(full)
        except Denied as error:
            if str(error) != full:
                not_refused.append(full + ": not named")
        except Damaged as error:
            if "is used as a call" not in str(error):
                not_refused.append(full + ": " + str(error))
print(json.dumps([tried, not_refused]))
"""


@pytest.mark.slow
def test_no_function_of_the_libraries_is_called(tmp_path: Path, campaign: Campaign) -> None:
    """Every 24th module, and all of them in CI."""
    parts = campaign(24, 1, 1)
    script = tmp_path / "gadgets.py"
    script.write_text(GADGETS)
    done = subprocess.run(
        [sys.executable, str(script), str(parts // 2), str(parts)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path.cwd(),
        env={"PYTHONPATH": "."},
    )
    tried, not_refused = json.loads(done.stdout.splitlines()[-1])
    assert not_refused == []
    assert tried > (40_000 if parts == 1 else 1_000)
