import json
import math
import resource
import time
from functools import cache

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import LoadFailed, Model, TensorSpec, WrongInput
from runtime.errors import InvalidKitfile, SamplesDiffer
from runtime.worker.loading import replay
from runtime.worker.samples import Output, Sample, common_inputs, first_inputs, read_samples
from tests.serving.support import app_of

ONE_OF_TWO = "; 1 of 2 values differ: not the model that its author tried"


def tensor(name="y", datatype="FP32", shape=(2,), data=(1.0, 2.0)):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


def sample(*outputs, rtol=0.0, atol=0.0):
    return Sample({"inputs": []}, b"", tuple(Output.read(output, "it") for output in outputs), rtol, atol)


def document(*outputs, **more):
    return {"samples": [{"request": {"inputs": [tensor("x")]}, "response": {"outputs": list(outputs)}, **more}]}


def nested(shape, data):
    tensor = b'{"name": "y", "datatype": "FP32", "shape": %s, "data": %s}' % (shape, data)
    return b'{"samples": [{"request": {}, "response": {"outputs": [%s]}}]}' % tensor


def read(folder, content):
    path = folder / "samples.json"
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return read_samples(path)


@pytest.mark.parametrize(
    ("want", "got", "tolerance"),
    [
        pytest.param(tensor(), tensor(), {}, id="equal"),
        pytest.param(tensor(), tensor(data=(1.0, 2.1)), {"atol": 0.11}, id="within atol"),
        pytest.param(tensor(), tensor(data=(1.0, 2.1)), {"rtol": 0.06}, id="within rtol"),
        pytest.param(tensor(data=(1, 2)), tensor(data=(1.0, 2.0)), {}, id="whole numbers for floats"),
        pytest.param(tensor(data=(None, "Infinity")), tensor(data=(None, "Infinity")), {}, id="NaN and infinity"),
        pytest.param(tensor(data=("NaN", "-Infinity")), tensor(data=(None, "-Infinity")), {}, id="NaN by name"),
        pytest.param(tensor(data=(0.1, 0.2)), tensor(data=np.float32((0.1, 0.2)).tolist()), {}, id="digits of FP32"),
        pytest.param(tensor(shape=(1, 2), data=([1.0, 2.0],)), tensor(shape=(1, 2)), {}, id="nested"),
        pytest.param(
            tensor(shape=(2, 1), data=(["NaN"], [2])), tensor(shape=(2, 1), data=(None, 2.0)), {}, id="nested NaN"
        ),
        pytest.param(tensor(shape=(0,), data=()), tensor(shape=(0,), data=()), {}, id="no elements"),
        pytest.param(tensor(shape=(), data=(3,)), tensor(shape=(), data=(3.0,)), {}, id="a scalar"),
        pytest.param(tensor(datatype="BYTES", data="ab"), tensor(datatype="BYTES", data="ab"), {}, id="strings"),
        pytest.param(tensor(datatype="STRING", data="ab"), tensor(datatype="BYTES", data="ab"), {}, id="STRING"),
        pytest.param(tensor(datatype="UINT64", data=(2**64 - 1, 2)), tensor(datatype="UINT64", data=(2**64 - 1, 2)), {},
                     id="large integers"),
    ],
)  # fmt: skip
def test_right_answers_pass(want, got, tolerance):
    sample(want, **tolerance).check(1, {"outputs": [tensor("other"), got]})


@pytest.mark.parametrize(
    ("got", "message"),
    [
        pytest.param(
            tensor(data=(1.0, 2.5)),
            "sample 1: y[1] is 2.5, the sample says 2.0 (rtol 0, atol 0)" + ONE_OF_TWO,
            id="value",
        ),
        pytest.param(tensor("z"), "sample 1: no output 'y', the model gives 'z'", id="name"),
        pytest.param(tensor(datatype="FP64"), "sample 1: datatype of y is FP64, wanted FP32", id="datatype"),
        pytest.param(tensor(shape=(1, 2)), "sample 1: shape of y is [1, 2], wanted [2]", id="shape"),
        pytest.param(tensor(shape=(1,), data=(1.0,)), "sample 1: shape of y is [1], wanted [2]", id="too few"),
        pytest.param(
            tensor(data=(None, 2.0)),
            "sample 1: y[0] is nan, the sample says 1.0 (rtol 0, atol 0)" + ONE_OF_TWO,
            id="NaN",
        ),
        pytest.param(
            tensor(data=("-Infinity", 2.0)),
            "sample 1: y[0] is -inf, the sample says 1.0 (rtol 0, atol 0)" + ONE_OF_TWO,
            id="infinity",
        ),
    ],
)  # fmt: skip
def test_other_answers_say_which_value_differs(got, message):
    with pytest.raises(SamplesDiffer) as caught:
        sample(tensor()).check(1, {"outputs": [got]})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("datatype", "want", "got", "words"),
    [
        ("INT64", (1, 2), (1, 3), r"y\[1\] is 3, the sample says 2;"),
        ("BOOL", (True, False), (True, True), r"y\[1\] is True, the sample says False;"),
        ("BYTES", ("a", "grün"), ("a", "b"), r"y\[1\] is 'b', the sample says 'grün';"),
    ],
)
def test_what_is_no_float_has_no_tolerance(datatype, want, got, words):
    with pytest.raises(SamplesDiffer, match=words):
        sample(tensor(datatype=datatype, data=want), atol=math.inf).check(
            1, {"outputs": [tensor(datatype=datatype, data=got)]}
        )


RIGHT = tensor()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the samples samples.json are not JSON: "),
        (b'{"samples": [NaN]}', 'are not JSON: .*; write null for NaN, and "Infinity"$'),
        (b"[]", "samples.json must be an object, got an array"),
        (b"{}", "samples.json: samples is missing"),
        (b'{"samples": null}', "samples.json: samples must be an array, got null"),
        ({"samples": [3]}, "samples.json: sample 1 must be an object, got a number"),
        ({"samples": [{"request": {}}]}, "samples.json: sample 1: response is missing"),
        ({"samples": [{"request": [], "response": {}}]}, "sample 1: request must be an object, got an array"),
        ({"samples": [{"request": {}, "response": {}}]}, "sample 1: response: outputs is missing"),
        (document({}), r"sample 1: outputs\[0\]: name is missing"),
        (document(RIGHT, 3), r"sample 1: outputs\[1\] must be an object, got a number"),
        (document({**RIGHT, "datatype": None}), r"outputs\[0\]: datatype must be a string, got null"),
        (document({**RIGHT, "datatype": "fp32"}), r"datatype must be one of BOOL, .*, got 'fp32'"),
        (document({**RIGHT, "shape": [-1]}), r"shape must be non-negative integers, dimension 0 is -1"),
        (document({**RIGHT, "shape": [True, 2]}), r"shape must be non-negative integers, dimension 0 is true"),
        (document({**RIGHT, "shape": [1] * 65, "data": [1]}), r"outputs\[0\]: too many dimensions: 65, at most 16"),
        (document({**RIGHT, "shape": [0, 2**62, 2**62], "data": []}), r"element count too large: shape \[0, "),
        (document({**RIGHT, "shape": [0, 2**31 - 1], "data": [1]}), r"shape \[0, 2147483647\] wants 0 elements, got 1"),
        (document({**RIGHT, "shape": [3]}), r"outputs\[0\]: shape \[3\] wants 3 elements, got 2"),
        (document({**RIGHT, "data": [1.0, "two"]}), r"outputs\[0\]: element 1: FP32 wants a number or null, got 'two'"),
        (document({**RIGHT, "data": [[1.0, 2.0]]}), r"outputs\[0\]: data does not match shape \[2\]"),
        (document({**RIGHT, "data": [1.0, {}]}), "element 1: FP32 wants a number or null, got an object"),
        (document({**RIGHT, "data": {"a": 1}}), "data must be an array, got an object"),
        (document(tensor(datatype="INT8", data=(1, 300))), "element 1: 300 is out of range for INT8"),
        (document(tensor(datatype="INT64", data=(1, None))), "element 1: INT64 wants a whole number, got null"),
        (document(tensor(datatype="INT64", data=(1, True))), "element 1: INT64 wants a whole number, got true"),
        (document(RIGHT, rtol="1e-3"), "sample 1: rtol must be a number of at least 0, got '1e-3'"),
        (document(RIGHT, atol=-1), "sample 1: atol must be a number of at least 0, got -1"),
        (document(RIGHT, atol=True), "sample 1: atol must be a number of at least 0, got true"),
        (b'{"samples": [{"request": {"a": ' + b"[" * 600 + b"]" * 600 + b'}, "response": {"outputs": []}}]}',
         "sample 1: the request is nested too deeply"),
        (nested(b"[" + b"1," * 899 + b"1]", b"[" * 900 + b"]" * 900), "too many dimensions: 900, at most 16"),
        (nested(b"[" * 900 + b"]" * 900, b"[1]"), r"shape must be non-negative integers, dimension 0 is \[\[\[\.\.\."),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_sample_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(InvalidKitfile, match=message) as caught:
        read(tmp_path, content)
    assert "samples.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "a folder"])
def test_a_missing_file_says_how_to_pack_it(tmp_path, make):
    make(tmp_path / "samples.json")
    with pytest.raises(
        InvalidKitfile, match=r"serving\.samples names .*, which is not in the kit; pack it as a model part"
    ):
        read_samples(tmp_path / "samples.json")


def test_what_the_golden_kits_say_is_read(tmp_path):
    (found,) = read(tmp_path, document(tensor(), rtol=0.1, atol=None))
    assert (found.request, json.loads(found.body)) == ({"inputs": [tensor("x")]},) * 2
    assert (found.rtol, found.atol, found.outputs[0].name) == (0.1, 0.0, "y")


def requests(*inputs):
    return [Sample({"inputs": tensors}, b"", (), 0.0, 0.0) for tensors in inputs]


@pytest.mark.parametrize(
    ("inputs", "specs"),
    [
        ([[tensor("x", shape=(1, 4))]], [("x", "FP32", (-1, 4))]),
        ([[tensor("x", shape=(1, 4))], [tensor("x", shape=(2, 4))]], [("x", "FP32", (-1, 4))]),
        ([[tensor("x", shape=(1, 4))], [tensor("x", shape=(1, 5))]], [("x", "FP32", (-1, -1))]),
        ([[tensor("x", shape=(1, 4))], [tensor("input_0", shape=(2, 4))]], [("x", "FP32", (-1, 4))]),
        ([[tensor("a"), tensor("b", "STRING")], [tensor("a")]], [("a", "FP32", (-1,)), ("b", "BYTES", (-1,))]),
        ([None], []),
        ([[3, {"name": "x"}, tensor("y", "fp32"), tensor("z", shape=(-1,)), tensor(["x"])]], []),
    ],
)
def test_inputs_that_samples_have_in_common(inputs, specs):
    assert common_inputs(requests(*inputs)) == tuple(TensorSpec(*spec) for spec in specs)


# -- any document at all


def twice(arrays, wanted):
    if len(arrays["x"]) == 3:
        raise WrongInput("three is too many")
    return {"y": arrays["x"] * 2, "t": np.array([b"\xff"], dtype=object)} if arrays["x"].size else {}


TWICE = Model(
    platform="test",
    inputs=(TensorSpec("x", "FP32", (-1,)),),
    outputs=(TensorSpec("y", "FP32", (-1,)), TensorSpec("t", "BYTES", (-1,))),
    predict=twice,
    default_outputs=("y",),
)


@cache
def served():
    return app_of(TWICE, warm=False).model


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["x", "y", "t", "FP32", "BYTES", "Infinity", "NaN", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "shape", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def mostly(right):
    """What is right, 24 times of 25: of a whole document something is wrong about every other time."""
    return st.integers(0, 24).flatmap(lambda n: right if n < 24 else anything)


tensors = mostly(
    st.fixed_dictionaries(
        {
            "name": mostly(st.sampled_from(["x", "y", "t"])),
            "datatype": mostly(st.sampled_from(["FP32", "FP64", "INT64", "BYTES"])),
            "shape": mostly(st.just([2]) | st.lists(st.integers(0, 3), max_size=3)),
            "data": mostly(st.just([1, 2]) | st.just([2.0, 4.0]) | st.lists(anything, max_size=4)),
        }
    )
)
samples = mostly(
    st.fixed_dictionaries(
        {
            "request": mostly(
                st.fixed_dictionaries({"inputs": mostly(st.lists(tensors, max_size=2))}, optional={"outputs": anything})
            ),
            "response": mostly(st.fixed_dictionaries({"outputs": mostly(st.lists(tensors, max_size=2))})),
        },
        optional={"rtol": anything, "atol": anything},
    )
)
documents = mostly(st.fixed_dictionaries({"samples": mostly(st.lists(samples, max_size=2))}))


@pytest.mark.slow
@given(documents)
def test_any_document_passes_or_is_refused_in_one_line(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "samples.json"
    path.write_text(json.dumps(found))
    line = ""
    try:
        read_in = read_samples(path)
        common_inputs(read_in)
        first_inputs(read_in)
        for number, one in enumerate(read_in, 1):
            replay(served(), number, one)
    except (InvalidKitfile, SamplesDiffer) as error:
        line = str(error)
    assert "\n" not in line


@pytest.mark.slow
def test_a_sample_of_ten_megabytes_is_compared_in_well_under_a_second(tmp_path):
    data = np.random.default_rng(0).normal(size=500_000).tolist()
    content = orjson.dumps(document(tensor(shape=(500_000,), data=data)))
    assert len(content) > 9_000_000
    started = time.process_time()
    (found,) = read(tmp_path, content)
    found.check(1, {"outputs": [tensor(shape=(500_000,), data=data)]})
    assert time.process_time() - started < 1.0


def test_a_machine_that_cannot_read_the_samples_is_no_fault_of_the_kit(tmp_path):
    read(tmp_path, document(tensor()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(LoadFailed, match=r"the samples samples\.json cannot be read: Too many open files"):
            read_samples(tmp_path / "samples.json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("name", ["no.json", "x" * 300, "file/samples.json", "."])
def test_samples_that_are_not_there_are_the_kits_fault(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidKitfile, match="samples"):
        read_samples(tmp_path / name)


@pytest.mark.parametrize(
    "inputs", [None, 5, "x", {"x": 1}, [None], [[]], [{}], [tensor(datatype=[])], [{**tensor(), "shape": 2}]]
)
def test_inputs_that_are_no_tensors_are_left_to_the_replay(inputs):
    given = Sample({"inputs": inputs}, orjson.dumps({"inputs": inputs}), (), 0.0, 0.0)
    assert (first_inputs((given,)), common_inputs((given,))) == ({}, ())
    with pytest.raises(SamplesDiffer, match=r"^sample 1: the model does not answer its request: "):
        replay(served(), 1, given)
