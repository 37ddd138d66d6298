from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec, WrongInput
from adapters.onnx.adapter import load
from adapters.onnx.file import looks_like_onnx
from adapters.onnx.session import plain

from .kits import check_case, expected, files_in, unpack

SERVED = [
    "base", "digits-external", "dtypes", "everything", "init-onnx", "init-two", "iris-bare", "iris-liar", "iris-onnx",
    "zipmap",
]  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
def test_golden_kit_answers_right(name: str, tmp_path: Path) -> None:
    chosen, model, warnings = unpack(name, tmp_path).load()
    assert chosen == "onnx"
    assert model.platform == "onnx_onnxv1"
    assert len(warnings) == (name == "iris-liar")
    for case in expected(name)["cases"]:
        check_case(model, case)


def test_zipmap_becomes_a_tensor_with_labels(tmp_path: Path) -> None:
    _, model, _ = unpack("zipmap", tmp_path).load()
    right = expected("zipmap")
    (case,) = right["cases"]
    x = np.array(case["request"]["inputs"][0]["data"], np.float32).reshape(-1, 4)
    made = model.predict({"X": x}, ("output_probability",))["output_probability"]
    assert model.outputs[1] == TensorSpec("output_probability", "FP32", (-1, 3))
    assert model.labels == ("setosa", "versicolor", "virginica")
    assert json.loads(model.properties["labels_output_probability"]) == list(model.labels)
    np.testing.assert_allclose(made, right["probabilities"], atol=1e-4)
    assert made.dtype == np.float32


def test_kit_says_labels_and_default_outputs(tmp_path: Path) -> None:
    kit = unpack("iris-onnx", tmp_path)
    _, model, _ = kit.load(outputs=("probabilities",))
    assert model.labels == ("setosa", "versicolor", "virginica")
    assert model.default_outputs == ("probabilities",)
    with pytest.raises(
        LoadFailed, match=r"model.parameters.serving.outputs names 'nope'; .* gives label, probabilities"
    ):
        kit.load(outputs=("nope",))


def test_batch_is_claimed_when_every_first_axis_is_free(tmp_path: Path) -> None:
    assert unpack("iris-onnx", tmp_path).load()[1].batch


# -- models made here


def build(
    root: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    *,
    initializers: list[Any] | None = None,
    domains: tuple[str, ...] = (),
    functions: list[Any] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers or [])
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions or [])
    path = root / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, kind: int = TensorProto.FLOAT, shape: Any = ("n",)) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def opened(root: Path, **options: Any) -> Model:
    return load(files_in(root, "m.onnx"), Options(**options))


def identity(root: Path, kind: int = TensorProto.FLOAT, shape: Any = ("n",)) -> None:
    build(root, [helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, shape)], [value("y", kind, shape)])


@pytest.mark.parametrize(
    ("shape", "seen", "batch"),
    [(("n", 4), (-1, 4), True), ((2, None), (2, -1), False), ((), (), False), ((None,), (-1,), True)],
    ids=["symbolic", "fixed first axis", "scalar", "unnamed"],
)
def test_shapes_come_from_the_file(shape: Any, seen: Any, batch: bool, tmp_path: Path) -> None:
    identity(tmp_path, shape=shape)
    model = opened(tmp_path)
    assert model.inputs == (TensorSpec("x", "FP32", seen),)
    assert model.outputs == (TensorSpec("y", "FP32", seen),)
    assert model.batch is batch
    for sampled in (TensorSpec("x", "FP32", (-1, 9)), TensorSpec("x", "INT64", (-1,))):
        assert opened(tmp_path, sampled=(sampled,)).inputs == model.inputs


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.COMPLEX64, "complex64"),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn"),
    ],
    ids=["bfloat16", "complex64", "float8"],
)
def test_types_without_a_datatype_are_refused_by_name(kind: int, named: str, tmp_path: Path) -> None:
    identity(tmp_path, kind)
    with pytest.raises(LoadFailed, match=named):
        opened(tmp_path)


def test_input_without_a_shape_needs_the_kit_to_say_it(tmp_path: Path) -> None:
    identity(tmp_path, shape=None)
    with pytest.raises(
        LoadFailed,
        match=r"input 'x' of m\.onnx has no shape in the file; say it in a Kitfile beside it: model.parameters.serving.inputs",
    ):
        opened(tmp_path)
    assert opened(tmp_path, sampled=(TensorSpec("any", "FP32", (-1, 3)),)).inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    model = opened(tmp_path, inputs=(TensorSpec("x", "FP32", (-1, 2)),), sampled=(TensorSpec("x", "FP32", (-1, 3)),))
    assert model.inputs[0].shape == (-1, 2)
    assert model.predict({"x": np.ones((3, 2), np.float32)}, ("y",))["y"].shape == (3, 2)


def test_text_must_be_utf8(tmp_path: Path) -> None:
    identity(tmp_path, TensorProto.STRING)
    model = opened(tmp_path)
    good = np.array(["grün".encode(), b""], dtype=object)
    assert model.predict({"x": good}, ("y",))["y"].tolist() == ["grün".encode(), b""]
    with pytest.raises(WrongInput, match=r"input 'x' of m\.onnx: element 1 is not UTF-8"):
        model.predict({"x": np.array([b"a", b"\xff"], dtype=object)}, ("y",))


@pytest.mark.parametrize(("a", "b"), [(2, 3), (1, 3)])
def test_inputs_share_the_dimensions_that_the_file_names(a: int, b: int, tmp_path: Path) -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    build(tmp_path, [node], [value("a", shape=("n", 3)), value("b", shape=("n", 3))], [value("y", shape=("n", 3))])
    model = opened(tmp_path)
    rows = {"a": np.ones((a, 3), np.float32), "b": np.ones((b, 3), np.float32)}
    with pytest.raises(WrongInput, match=rf"^inputs differ in their dimension 'n': a: {a}, b: {b}$"):
        model.predict(rows, ("y",))
    assert model.predict(rows | {"a": rows["b"]}, ("y",))["y"].tolist() == [[2.0] * 3] * b


@pytest.mark.parametrize("equation", ["ij,jk/>\0", "ij,jk>ik", "ij,jk->i1", "ij.", "....", "i...j..."])
def test_an_equation_that_is_none_is_refused_before_it_is_read_for_ever(equation: str, tmp_path: Path) -> None:
    build(tmp_path, [helper.make_node("Einsum", ["x", "x"], ["y"], equation=equation)], [value("x")], [value("y")])
    with pytest.raises(LoadFailed, match="an Einsum has the equation"):
        opened(tmp_path)


@pytest.mark.parametrize("operator", ["Sum", "Mean", "Max", "Min"])
def test_an_input_without_a_name_is_refused_before_it_is_read(operator: str, tmp_path: Path) -> None:
    build(tmp_path, [helper.make_node(operator, ["x", ""], ["y"])], [value("x")], [value("y")])
    with pytest.raises(LoadFailed, match=f"one of the inputs of a node {operator} has no name"):
        opened(tmp_path)


def test_an_index_that_is_not_there_is_the_clients_mistake(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.eye(3, dtype=np.float32), "table")
    node = helper.make_node("Gather", ["table", "i"], ["y"])
    build(tmp_path, [node], [value("i", TensorProto.INT64)], [value("y", shape=("n", 3))], initializers=[table])
    model = opened(tmp_path)
    with pytest.raises(WrongInput, match="indices element out of data bounds, idx=7"):
        model.predict({"i": np.array([7])}, ("y",))


def test_what_an_operator_refuses_of_values_or_sizes_is_the_clients_mistake(tmp_path: Path) -> None:
    fours = numpy_helper.from_array(np.array([-1, 4], np.int64), "fours")
    node = helper.make_node("Reshape", ["x", "fours"], ["y"])
    build(tmp_path, [node], [value("x", shape=("n",))], [value("y", shape=("m", 4))], initializers=[fours])
    model = opened(tmp_path)
    assert model.predict({"x": np.zeros(8, np.float32)}, ("y",))["y"].shape == (2, 4)
    with pytest.raises(WrongInput, match="cannot be reshaped to the requested shape"):
        model.predict({"x": np.zeros(3, np.float32)}, ("y",))


def test_the_example_of_an_encoder_is_a_category_that_it_knows(tmp_path: Path) -> None:
    node = helper.make_node("OneHotEncoder", ["c"], ["y"], domain="ai.onnx.ml", cats_strings=["bern", "oslo"], zeros=0)
    build(tmp_path, [node], [value("c", TensorProto.STRING, ("n", 1))], [value("y", shape=("n", 1, 2))])
    model = opened(tmp_path)
    assert model.example == {"c": ["bern"]}
    for text, wanted in ((b"bern", [1.0, 0.0]), (b"oslo", [0.0, 1.0])):
        assert model.predict({"c": np.array([[text]], object)}, ("y",))["y"].tolist() == [[wanted]]
    with pytest.raises(WrongInput, match="Unknown Category"):
        model.predict({"c": np.array([[b"rome"]], object)}, ("y",))


def test_external_data_beside_a_file_that_is_served_alone_asks_for_the_folder(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.eye(3, dtype=np.float32), "table")
    node = helper.make_node("MatMul", ["x", "table"], ["y"])
    build(tmp_path, [node], [value("x", shape=("n", 3))], [value("y", shape=("n", 3))], initializers=[table])
    onnx.save(
        onnx.load(tmp_path / "m.onnx"),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    opened(tmp_path)
    alone = replace(files_in(tmp_path, "m.onnx"), files=("m.onnx",))
    with pytest.raises(LoadFailed, match=r"keeps data in 'm.data', and is served alone: name the folder that has both"):
        load(alone, Options())


def test_initialiser_that_is_also_an_input_is_optional(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.array([10.0], np.float32), "scale")
    build(
        tmp_path,
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        [value("x"), value("scale", shape=(1,))],
        [value("y")],
        initializers=[scale],
    )
    model = opened(tmp_path)
    assert model.inputs == (TensorSpec("x", "FP32", (-1,)), TensorSpec("scale", "FP32", (1,), optional=True))
    x = np.array([1.0, 2.0], np.float32)
    assert model.predict({"x": x}, ("y",))["y"].tolist() == [10.0, 20.0]
    assert model.predict({"x": x, "scale": np.array([2.0], np.float32)}, ("y",))["y"].tolist() == [2.0, 4.0]


def test_a_sequence_that_is_no_tensor_this_time_is_told(tmp_path: Path) -> None:
    split = helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=0)
    out = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    sizes = [numpy_helper.from_array(np.array([1, 3]), "sizes")]
    build(tmp_path, [split], [value("x", shape=("n", 3))], [out], initializers=sizes)
    with pytest.raises(WrongInput, match=r"output 's' .* of different shapes this time, which no one tensor can hold"):
        opened(tmp_path).predict({"x": np.zeros((4, 3), np.float32)}, ("s",))


def test_sequence_of_tensors_is_stacked(tmp_path: Path) -> None:
    split = helper.make_node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0)
    out = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, (2,))
    build(tmp_path, [split], [value("x", shape=("n", 2))], [out])
    model = opened(tmp_path)
    assert model.outputs == (TensorSpec("s", "FP32", (-1, 2)),)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert model.predict({"x": x}, ("s",))["s"].tolist() == x.tolist()


def custom_node(op: str = "Leak") -> Any:
    return helper.make_node(op, ["x"], ["y"], domain="com.acme")


def test_custom_domain_is_refused_by_name(tmp_path: Path) -> None:
    build(tmp_path, [custom_node()], [value("x")], [value("y")], domains=("com.acme",))
    with pytest.raises(Refused, match=r"operator Leak of the domain 'com\.acme'"):
        opened(tmp_path)


def test_custom_domain_in_a_subgraph_is_refused(tmp_path: Path) -> None:
    branch = helper.make_graph([custom_node()], "b", [], [value("y")])
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    build(tmp_path, [node], [value("x"), value("c", TensorProto.BOOL, ())], [value("z")], domains=("com.acme",))
    with pytest.raises(Refused, match=r"com\.acme"):
        opened(tmp_path)


def test_functions_of_the_file_itself_are_served(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17)]
    twice = helper.make_function(
        "com.acme", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], imports
    )
    build(tmp_path, [custom_node("Twice")], [value("x")], [value("y")], domains=("com.acme",), functions=[twice])
    assert opened(tmp_path).predict({"x": np.array([3.0], np.float32)}, ("y",))["y"].tolist() == [6.0]


# -- external data


def external(root: Path, location: str, offset: int = 0, length: int = 8) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    build(root, [node], [value("x", shape=(2,))], [value("y", shape=(2,))], initializers=[tensor])


def test_external_data_of_the_kit_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([1.0, 2.0], np.float32).tobytes())
    external(tmp_path, "w.bin")
    assert opened(tmp_path).predict({"x": np.zeros(2, np.float32)}, ("y",))["y"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "a/../../w.bin", "a/../w.bin", "*/_ORT_MEM_ADDR_/*", "a\\w.bin"],
    ids=["parent", "absolute", "hidden parent", "not clean", "memory address", "backslash"],
)
def test_external_data_elsewhere_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    external(tmp_path, location)
    with pytest.raises(Refused, match=r"m\.onnx keeps data in"):
        opened(tmp_path)


def test_external_data_that_is_missing_names_what_is_there(tmp_path: Path) -> None:
    external(tmp_path, "w.bin")
    with pytest.raises(LoadFailed, match=r"'w.bin', which is not in the kit: m\.onnx"):
        opened(tmp_path)


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard", "symbolic"])
def test_external_data_through_a_link_is_refused(link: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(8))
    root = tmp_path / "kit"
    root.mkdir()
    link(secret, root / "w.bin")
    external(root, "w.bin")
    with pytest.raises(Refused, match=r"w\.bin, external data of m\.onnx, is a link"):
        opened(root)


def test_external_data_that_is_too_short_says_so(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(4))
    external(tmp_path, "w.bin")
    with pytest.raises(LoadFailed, match=r"wants 8 bytes of 'w\.bin', which has 4"):
        opened(tmp_path)


# -- files that are wrong


def test_corrupt_kit_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        LoadFailed, match=r"^m\.onnx is not a whole ONNX model: field 7 at byte 36 says 559 bytes, 364 are"
    ):
        unpack("corrupt-onnx", tmp_path).load()


@pytest.mark.parametrize("cut", [0, 1, 30, 200, 500])
def test_truncated_file_fails_in_one_line(cut: int, tmp_path: Path) -> None:
    kit = unpack("iris-onnx", tmp_path)
    path = tmp_path / kit.files.path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadFailed) as caught:
        kit.load(adapter="onnx")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.slow
def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    kit = unpack("iris-onnx", tmp_path)
    path = tmp_path / kit.files.path
    good = path.read_bytes()
    for at in range(0, len(good), 3):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        line = ""
        try:
            kit.load(adapter="onnx", outputs=(), labels=None)
        except (LoadFailed, Refused) as error:
            line = str(error)
        assert "\n" not in line
        assert str(tmp_path) not in line


def test_newer_ir_version_says_which_is_understood(tmp_path: Path) -> None:
    identity(tmp_path)
    model = onnx.load(tmp_path / "m.onnx")
    model.ir_version = 99
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadFailed, match=r"cannot be loaded by ONNX Runtime .*Unsupported model IR version: 99"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            (
                "[ONNXRuntimeError] : 1 : FAIL : Load model from /tmp/kits/ab/m.onnx failed:"
                "/src/core/graph/model.cc:181 onnxruntime::Model::Model(const std::map<int, a>&) "
                "Unsupported model IR version: 99"
            ),
            "Unsupported model IR version: 99",
        ),
        (
            (
                "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/initializer.cc:51 "
                "onnxruntime::Init::Init(const path&) [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1730 "
                "ValidateEmbeddedTensorProtoDataSizeAndShape Initializer 'w': raw_data size (4 bytes) does not match\n"
            ),
            "Initializer 'w': raw_data size (4 bytes) does not match",
        ),
        (
            "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /a b/m.onnx failed:This is an invalid model.",
            "This is an invalid model.",
        ),
        ("", "RuntimeError"),
    ],
    ids=["position", "nested", "no position", "empty"],
)
def test_plain_leaves_the_reason_without_paths_and_positions(text: str, reason: str) -> None:
    assert plain(RuntimeError(text)) == reason


# -- options


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"threads": 2},
            "model.parameters.serving.options.threads is not an option of the onnx adapter; it knows allow_spinning, device",
        ),
        ({"intra_op_threads": -1}, "must be a whole number"),
        ({"intra_op_threads": True}, "must be a whole number"),
        ({"optimization": "most"}, "must be one of all, basic, disabled, extended"),
        (
            {"device": "cuda"},
            "the device or provider 'cuda' was asked for; this ONNX Runtime has .*CPUExecutionProvider",
        ),
        ({"providers": ["TensorrtExecutionProvider"]}, "'TensorrtExecutionProvider' was asked for"),
    ],
    ids=["unknown", "negative", "bool", "level", "device", "provider"],
)
def test_options_that_cannot_be_are_refused(own: Any, message: str, tmp_path: Path) -> None:
    identity(tmp_path)
    with pytest.raises(LoadFailed, match=message):
        opened(tmp_path, own=own)


def test_options_that_can_be_are_taken(tmp_path: Path) -> None:
    identity(tmp_path)
    own = {
        "intra_op_threads": 1,
        "inter_op_threads": 1,
        "allow_spinning": True,
        "optimization": "basic",
        "device": "CPU",
    }
    assert opened(tmp_path, own=own).properties["providers"] == "CPUExecutionProvider"


def endless(root: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [value("i", TensorProto.INT64, ()), value("c", TensorProto.BOOL, ()), value("v", shape=(1,))],
        [value("c_out", TensorProto.BOOL, ()), value("v_out", shape=(1,))],
    )
    true = numpy_helper.from_array(np.array(True), "t")
    build(
        root,
        [helper.make_node("Loop", ["", "t", "x"], ["y"], body=body)],
        [value("x", shape=(1,))],
        [value("y", shape=(1,))],
        initializers=[true],
    )


def test_interrupt_ends_an_endless_model_in_its_thread(tmp_path: Path) -> None:
    endless(tmp_path)
    model = opened(tmp_path)
    assert not model.steady
    ended: list[str] = []

    def run() -> None:
        try:
            model.predict({"x": np.zeros(1, np.float32)}, ("y",))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's classes share no other base
            ended.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    assert model.interrupt is not None
    while thread.is_alive() and time.monotonic() < deadline:
        model.interrupt(thread.ident or 0)
        thread.join(0.01)
    assert "terminate" in ended[0]
    model.interrupt(thread.ident or 0)  # nothing runs there any more


# -- by content


def test_content_of_onnx_is_known(tmp_path: Path) -> None:
    identity(tmp_path)
    head = (tmp_path / "m.onnx").read_bytes()
    assert looks_like_onnx(head)
    assert not looks_like_onnx(b"")
    assert not looks_like_onnx(b"\x80\x04\x95" + head)
    assert not looks_like_onnx(b"PK\x03\x04" + head)
    assert not looks_like_onnx(b"\x08\x08")  # an IR version and nothing else


@pytest.mark.slow
def test_onnxruntime_neither_reports_to_its_makers_nor_marks_the_home_folder(tmp_path: Path) -> None:
    script = "from adapters.onnx import adapter as onnx; ort = onnx.onnxruntime(); import sys; ort.InferenceSession(sys.argv[1])"
    files = unpack("iris-bare", tmp_path).files
    model = files.root / files.path
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", script, str(model)]
    done = subprocess.run(command, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=True)
    assert list(home.rglob("*")) == []
    assert done.stderr == ""
