"""Model files that are cut off, overwritten, of another version or that lie about their size: one line, a code, no crash."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import load
from adapters.base import LoadFailed, Options
from runtime.exits import exit_code
from tests.adapters.kits import files_in, unpack
from tests.e2e.server import Server
from tests.kit.made import made_kit

pytestmark = pytest.mark.slow

Damage = Callable[[bytes], bytes]
ENDLESS = (1 << 60).to_bytes(8, "little")


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    """The first tenth stays, so that the file still looks like what it was."""
    kept = max(64, len(data) // 10)
    return data[:kept] + b"\xa5" * (len(data) - kept)


def replaced(old: bytes, new: bytes) -> Damage:
    def damage(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return damage


def instead(data: bytes) -> Damage:
    return lambda _: data


def member(name: str, change: Damage) -> Damage:
    """A change to one member of a zip archive."""

    def damage(data: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            names = [info.filename for info in old.infolist()]
            assert any(found.endswith(name) for found in names), names
            for found in names:
                new.writestr(found, change(old.read(found)) if found.endswith(name) else old.read(found))
        return made.getvalue()

    return damage


def other_protocol(schema: bytes) -> bytes:
    return json.dumps({**json.loads(schema), "protocol": 999}).encode()


def huge_tensor(_: bytes) -> bytes:
    """An ONNX model whose initialiser says 2^50 numbers and has none."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 25, 1 << 25], raw_data=b"1234")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def newer_onnx(_: bytes) -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, ir_version=99, opset_imports=[helper.make_opsetid("", 999)]).SerializeToString()


def bomb(_: bytes) -> bytes:
    return zlib.compress(b"\x80\x04" + bytes(66 << 20), 9)


CASES = {
    "onnx cut off": ("iris-onnx", "model/iris.onnx", half, 70),
    "onnx overwritten": ("iris-onnx", "model/iris.onnx", overwritten, 70),
    "onnx of another version": ("iris-onnx", "model/iris.onnx", newer_onnx, 70),
    "onnx huge": ("iris-onnx", "model/iris.onnx", huge_tensor, 70),
    "joblib cut off": ("wine-sklearn", "models/wine.joblib", half, 70),
    "joblib overwritten": ("wine-sklearn", "models/wine.joblib", overwritten, 70),
    "joblib of another version": ("wine-sklearn", "models/wine.joblib", replaced(b"\x80\x04", b"\x80\x09"), 70),
    "joblib huge": ("wine-sklearn", "models/wine.joblib", bomb, 70),
    "pickle cut off": ("titanic-sklearn", "model.pkl", half, 70),
    "pickle huge": ("titanic-sklearn", "model.pkl", instead(b"\x80\x04\x8e" + ENDLESS + b"."), 70),
    "skops cut off": ("diabetes-skops", "diabetes.skops", half, 70),
    "skops overwritten": ("diabetes-skops", "diabetes.skops", overwritten, 70),
    "skops of another version": ("diabetes-skops", "diabetes.skops", member("schema.json", other_protocol), 70),
    "pt2 cut off": ("mlp-pt2", "mlp.pt2", half, 70),
    "pt2 overwritten": ("mlp-pt2", "mlp.pt2", overwritten, 70),
    "pt2 of another version": ("mlp-pt2", "mlp.pt2", member("archive_version", instead(b"999")), 70),
    "torchscript cut off": ("cnn-torchscript", "model/cnn.pt", half, 70),
    "torchscript of another version": ("cnn-torchscript", "model/cnn.pt", member("/version", instead(b"999")), 70),
    "safetensors huge": ("mlp-safetensors", "weights.safetensors", lambda data: ENDLESS + data[8:], 70),
    "xgboost cut off": ("iris-xgboost", "model.ubj", half, 70),
    "xgboost overwritten": ("iris-xgboost", "model.ubj", overwritten, 70),
    "xgboost without its sizes": ("iris-xgboost", "model.ubj", replaced(b"num_feature", b"num_faeture"), 70),
    "xgboost of another version": ("iris-xgboost", "model.ubj", instead(b"binf" + bytes(400)), 70),
    "xgboost huge": ("iris-xgboost", "model.ubj", instead(b"{L" + bytes(7) + b"\x07learner[#L" + struct.pack(">q", 1 << 60)), 70),
    "lightgbm cut off": ("iris-lightgbm", "model.txt", half, 70),
    "lightgbm overwritten": ("iris-lightgbm", "model.txt", overwritten, 70),
    "lightgbm of another version": ("iris-lightgbm", "model.txt", replaced(b"version=v4", b"version=v9"), 70),
    "lightgbm huge": ("iris-lightgbm", "model.txt", replaced(b"num_leaves=", b"num_leaves=99999999"), 70),
    "catboost cut off": ("", "m.cbm", instead(b"CBM1" + (1000).to_bytes(4, "little") + bytes(100)), 70),
    "catboost huge": ("", "m.cbm", instead(b"CBM1\xff\xff\xff\xff" + bytes(64)), 70),
}  # fmt: skip


def damaged(case: str, tmp_path: Path) -> dict[str, bytes]:
    kit, path, damage, _ = CASES[case]
    data = (unpack(kit, tmp_path / "unpacked").files.root / path).read_bytes() if kit else b""
    return {path: damage(data)}


def test_a_damaged_model_ends_a_server_in_one_line_and_a_documented_code(tmp_path: Path) -> None:
    made_kit(tmp_path / "kit", damaged("onnx cut off", tmp_path))
    with Server(f"oci:{tmp_path / 'kit'}:v1", cache=tmp_path / "cache") as server:
        code, reason = server.failure()
        assert server.process.returncode == code
    assert (code, "model/iris.onnx" in reason) == (70, True), reason
    assert "\n" not in reason
    assert "Traceback" not in reason
    assert not [event for event in server.events if event["event"] == "worker.died"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_model_fails_to_load_in_one_line_that_names_it(case: str, tmp_path: Path) -> None:
    _, path, _, code = CASES[case]
    for name, content in damaged(case, tmp_path).items():
        (tmp_path / "kit" / name).parent.mkdir(parents=True)
        (tmp_path / "kit" / name).write_bytes(content)
    with pytest.raises(LoadFailed) as caught:
        load(files_in(tmp_path / "kit", path), Options(confined=True), framework=None, format=None, warn=print)
    assert exit_code(caught.value) == code
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
