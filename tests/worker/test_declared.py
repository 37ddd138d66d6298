from __future__ import annotations

from typing import Any

import pytest

from adapters.base import Options, TensorSpec
from runtime.errors import InvalidKitfile
from runtime.worker.declared import Batching, Declared


def test_everything_a_kit_may_declare_is_read():
    declared = Declared.parse(
        {
            "serving": {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "optional": True}],
                "outputs": ["predict", "predict_proba"],
                "labels": ["a", "b"],
                "batching": {"max_size": 64, "max_delay_ms": 0.5},
                "samples": "./samples.json",
                "options": {"intra_op_threads": 2},
            },
            "learning_rate": 0.1,
        }
    )
    assert declared.options == Options(
        inputs=(TensorSpec("x", "FP32", (-1, 4), optional=True),),
        outputs=("predict", "predict_proba"),
        labels=("a", "b"),
        own={"intra_op_threads": 2},
    )
    assert (declared.batching, declared.samples) == (Batching(64, 0.5), "samples.json")


@pytest.mark.parametrize("parameters", [None, {}, [], "text", 3, {"serving": None}, {"other": {"inputs": 1}}])
def test_parameters_without_serving_declare_nothing(parameters: object):
    assert Declared.parse(parameters) == Declared()


SERVING = "Kitfile: model.parameters.serving"


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        pytest.param(
            {"lables": []},
            f"{SERVING} has an unknown key 'lables'; known are inputs, outputs, labels, batching, samples, options",
            id="unknown key",
        ),
        pytest.param([], f"{SERVING} must be an object, got []", id="serving is a list"),
        pytest.param({"outputs": "predict"}, f"{SERVING}.outputs must be a list, got 'predict'", id="outputs text"),
        pytest.param({"outputs": [1]}, f"{SERVING}.outputs[0] must be a non-empty string, got 1", id="output number"),
        pytest.param({"outputs": ["a", "a"]}, f"{SERVING}.outputs names 'a' twice", id="output twice"),
        pytest.param(
            {"labels": ["l" * 257]},
            f"{SERVING}.labels[0] must be at most 256 characters, got 257",
            id="label long",
        ),
        pytest.param({"labels": [1.5]}, f"{SERVING}.labels[0] must be a string, got 1.5", id="label float"),
        pytest.param({"samples": "/etc/x"}, f"{SERVING}.samples must be a path inside the kit, got '/etc/x'", id="abs"),
        pytest.param(
            {"samples": "a/../../b"}, f"{SERVING}.samples must be a path inside the kit, got 'a/../../b'", id="up"
        ),
        pytest.param({"batching": {}}, f"{SERVING}.batching has no max_size", id="batching without size"),
        pytest.param(
            {"batching": {"max_size": True}},
            f"{SERVING}.batching.max_size must be a whole number of at least 1, got true",
            id="max_size true",
        ),
        pytest.param(
            {"batching": {"max_size": 1, "max_delay_ms": -1}},
            f"{SERVING}.batching.max_delay_ms must be a number of milliseconds from 0 to 60000, got -1",
            id="negative delay",
        ),
        pytest.param({"options": ["x"]}, f"{SERVING}.options must be an object, got ['x']", id="options list"),
        pytest.param({"inputs": [{"name": "x"}]}, f"{SERVING}.inputs[0] has no datatype", id="no datatype"),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "fp32", "shape": []}]},
            f"{SERVING}.inputs[0].datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, "
            "FP16, FP32, FP64, BYTES, got 'fp32'",
            id="lower case",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-2]}]},
            f"{SERVING}.inputs[0].shape[0] must be a whole number of at least -1, got -2",
            id="dimension -2",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [], "dtype": "f4"}]},
            f"{SERVING}.inputs[0] has an unknown key 'dtype'; known are name, datatype, shape, optional, image",
            id="unknown key of an input",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": []}] * 2},
            f"{SERVING}.inputs names 'x' twice",
            id="input twice",
        ),
    ],
)
def test_what_a_kit_may_not_declare_is_refused_in_one_line(serving: Any, message: str):
    with pytest.raises(InvalidKitfile) as refusal:
        Declared.parse({"serving": serving})
    assert str(refusal.value) == message
