"""ONNX graphs with operators that index memory by what a file says, and how their messages are mutated."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from tests.adapters.mutation.mutators import FLOATS, number, raw


def graphs() -> dict[str, bytes]:
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx

    from tests.adapters.mutation.formats import X, estimators

    def one(
        operator: str, inputs: dict[str, Any], *more: str, rank: int = 2, domain: str = "", **attributes: Any
    ) -> bytes:
        node = helper.make_node(operator, ["x", *inputs, *more], ["y"], domain=domain, **attributes)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, *[5] * (rank - 1)])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in inputs.items()]
        graph = helper.make_graph([node], "g", [x], [y], weights)
        domains = [
            helper.make_opsetid("", 17),
            helper.make_opsetid("ai.onnx.ml", 3),
            helper.make_opsetid("com.microsoft", 1),
        ]
        return helper.make_model(graph, ir_version=8, opset_imports=domains).SerializeToString()

    f32, i64 = np.float32, np.int64
    found = {
        "Gather": one("Gather", {"i": i64([0, 1])}, axis=1),
        "GatherND": one("GatherND", {"i": i64([[0, 1]])}),
        "GatherElements": one("GatherElements", {"i": i64([[0, 1, 2, 3, 4]])}),
        "ScatterND": one("ScatterND", {"i": i64([[0]]), "u": np.ones((1, 5), f32)}),
        "ScatterElements": one("ScatterElements", {"i": i64([[1, 0]]), "u": np.ones((1, 2), f32)}, axis=1),
        "Slice": one("Slice", {"s": i64([0]), "e": i64([3]), "a": i64([1]), "t": i64([1])}),
        "Pad": one("Pad", {"p": i64([0, 1, 0, 1])}, mode="reflect"),
        "Tile": one("Tile", {"r": i64([1, 2])}),
        "Expand": one("Expand", {"s": i64([1, 5])}),
        "Reshape": one("Reshape", {"s": i64([-1, 5])}),
        "Conv": one("Conv", {"w": np.ones((2, 5, 3), f32)}, rank=3, pads=[1, 1], group=1, strides=[1], dilations=[1]),
        "ConvTranspose": one("ConvTranspose", {"w": np.ones((5, 2, 3), f32)}, rank=3, strides=[2], pads=[1, 1]),
        "MaxPool": one("MaxPool", {}, rank=3, kernel_shape=[2], strides=[1], pads=[0, 0]),
        "LSTM": one("LSTM", {"w": np.ones((1, 8, 5), f32), "r": np.ones((1, 8, 2), f32)}, rank=3, hidden_size=2),
        "GRU": one("GRU", {"w": np.ones((1, 6, 5), f32), "r": np.ones((1, 6, 2), f32)}, rank=3, hidden_size=2),
        "Transpose": one("Transpose", {}, perm=[1, 0]),
        "MatMul": one("MatMul", {"w": np.ones((5, 2), f32)}),
        "Gemm": one("Gemm", {"w": np.ones((5, 2), f32), "c": np.ones(2, f32)}, transB=0),
        "BatchNormalization": one("BatchNormalization", {k: np.ones(5, f32) for k in "sbmv"}),
        "Einsum": one("Einsum", {"w": np.ones((5, 2), f32)}, equation="ij,jk->ik"),
        "CumSum": one("CumSum", {"a": i64(1)}),
        "RoiAlign": one("RoiAlign", {"r": f32([[0, 0, 2, 2]]), "b": i64([0])}, rank=4, output_height=2, output_width=2),
        "ArrayFeatureExtractor": one("ArrayFeatureExtractor", {"i": i64([1, 2])}, domain="ai.onnx.ml"),
        "Scaler": one("Scaler", {}, domain="ai.onnx.ml", offset=[0.0] * 5, scale=[1.0] * 5),
        "Normalizer": one("Normalizer", {}, domain="ai.onnx.ml", norm="L1"),
        "Imputer": one("Imputer", {}, domain="ai.onnx.ml", imputed_value_floats=[0.0] * 5, replaced_value_float=1.0),
        "LinearRegressor": one(
            "LinearRegressor", {}, domain="ai.onnx.ml", coefficients=[1.0] * 5, intercepts=[1.0], targets=1
        ),
        "LayerNormalization": one("LayerNormalization", {"s": np.ones(5, f32)}, axis=-1),
        "SkipLayerNormalization": one(
            "SkipLayerNormalization",
            {"s": np.ones((1, 1, 5), f32), "g": np.ones(5, f32)},
            rank=3,
            domain="com.microsoft",
        ),
        "Split": one("Split", {"s": i64([2, 3])}, axis=1),
        "Attention": one(
            "Attention",
            {"w": np.ones((5, 15), f32), "b": np.ones(15, f32)},
            rank=3,
            domain="com.microsoft",
            num_heads=5,
        ),
        "CropAndResize": one(
            "CropAndResize",
            {"r": f32([[0, 0, 1, 1]]), "b": np.int32([0]), "c": np.int32([2, 2])},
            rank=4,
            domain="com.microsoft",
        ),
        "GridSample": one("GridSample", {"g": np.zeros((1, 2, 2, 2), f32)}, rank=4),
        "Compress": one("Compress", {"c": np.array([True, False, True])}, axis=1),
    }
    found["Loop"] = loop()
    found["Sum"] = one("Sum", {"w": np.ones((1, 5), f32), "v": np.ones((1, 5), f32)})
    found["Concat"] = one("Concat", {"w": np.ones((1, 5), f32)}, axis=0)
    converted = (
        "DecisionTree",
        "RandomForest",
        "GradientBoostingClassifier",
        "SVC-30",
        "SVR",
        "OneClass",
        "KNeighborsClassifier-19",
    )
    for name, kind in estimators().items():
        if name.startswith(converted):
            options = {id(kind): {"zipmap": False}} if hasattr(kind, "predict_proba") else None
            made = to_onnx(kind, X[:1].astype(f32), target_opset={"": 17, "ai.onnx.ml": 3}, options=options)
            found[name] = made.SerializeToString()
    return found


def loop() -> bytes:
    """Adds to rows, three times, and collects what it has each time."""
    from onnx import TensorProto, helper, numpy_helper

    def of(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["go"]),
            helper.make_node("Add", ["v", "one"], ["more"]),
            helper.make_node("Gather", ["more", "i"], ["row"], axis=1),
        ],
        "body",
        [of("i", [], TensorProto.INT64), of("c", [], TensorProto.BOOL), of("v", [None, 5])],
        [of("go", [], TensorProto.BOOL), of("more", [None, 5]), of("row", [None])],
        [numpy_helper.from_array(np.ones(5, np.float32), "one")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "true", "x"], ["y", "rows"], body=body)],
        "g",
        [of("x", [None, 5])],
        [of("y", [None, 5]), of("rows", [None, None])],
        [numpy_helper.from_array(np.int64(3), "times"), numpy_helper.from_array(np.array(True), "true")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


def message(data: bytes, rng: Random) -> bytes:
    """Changes fields of the messages in a model."""
    import onnx

    model = onnx.load_from_string(data)
    places = [(at, field) for at in _messages(model) for field, _ in at.ListFields()]
    places = [(at, field) for at, field in places if field.name not in ("ir_version", "opset_import", "graph")]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, field = rng.choice(places)
        value = getattr(at, field.name)
        if hasattr(value, "extend"):
            _change_list(at, field, value, rng)
        elif field.message_type is None:
            setattr(at, field.name, _changed(value, rng, field))
    return model.SerializeToString()


def _messages(root: Any) -> Any:
    yield root
    for field, value in root.ListFields():
        if field.message_type is not None:
            for inner in value if not hasattr(value, "ListFields") else [value]:
                yield from _messages(inner)


def _change_list(at: Any, field: Any, value: Any, rng: Random) -> None:
    if not len(value):
        return
    i = rng.randrange(len(value))
    which = rng.randrange(6)
    if which == 0:
        del value[i:]
    elif which == 1 and field.message_type is None:
        value.extend(list(value[:i]) or [value[0]])
    elif which == 2 and field.message_type is not None:
        value[i].CopyFrom(value[rng.randrange(len(value))])
    elif field.message_type is None:
        try:
            value[i] = _changed(value[i], rng, field)
        except (ValueError, TypeError):
            del value[i]


def _changed(old: Any, rng: Random, field: Any) -> Any:
    if isinstance(old, bool | int):
        bits = 31 if field.cpp_type in (1, 8) else 63
        if field.cpp_type == 8:
            return (
                rng.randrange(0, 18)
                if field.enum_type is None
                else rng.choice([v.number for v in field.enum_type.values])
            )
        value = number(rng, old)
        return value if -(2**bits) <= value < 2**bits else -1
    if isinstance(old, float):
        return rng.choice(FLOATS)
    if isinstance(old, bytes):
        return raw(old, rng)
    return rng.choice((old[:-1], "x", "y", "", "i", "s", "w"))
