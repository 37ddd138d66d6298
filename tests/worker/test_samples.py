import math

import orjson
import pytest

from runtime.errors import InvalidKitfile, SamplesDiffer
from runtime.worker.samples import Sample, read_samples

ONE_OF_TWO = "; 1 of 2 values differ: not the model that its author tried"


def tensor(name="y", datatype="FP32", shape=(2,), data=(1.0, 2.0)):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


def sample(*outputs, rtol=0.0, atol=0.0):
    return Sample({"inputs": []}, outputs, rtol, atol)


@pytest.mark.parametrize(
    ("want", "got", "tolerance"),
    [
        pytest.param(tensor(), tensor(), {}, id="equal"),
        pytest.param(tensor(), tensor(data=(1.0, 2.1)), {"atol": 0.11}, id="within atol"),
        pytest.param(tensor(), tensor(data=(1.0, 2.1)), {"rtol": 0.06}, id="within rtol"),
        pytest.param(tensor(data=(1, 2)), tensor(data=(1.0, 2.0)), {}, id="whole numbers for floats"),
        pytest.param(tensor(data=(None, "Infinity")), tensor(data=(None, "Infinity")), {}, id="NaN and infinity"),
        pytest.param(tensor(datatype="BYTES", data="ab"), tensor(datatype="BYTES", data="ab"), {}, id="strings"),
    ],
)
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
        pytest.param(
            tensor(data=(1.0,)),
            "sample 1: y[1] is missing, the sample says 2.0 (rtol 0, atol 0)" + ONE_OF_TWO,
            id="too few",
        ),
        pytest.param(
            tensor(data=(None, 2.0)),
            "sample 1: y[0] is None, the sample says 1.0 (rtol 0, atol 0)" + ONE_OF_TWO,
            id="NaN",
        ),
    ],
)  # fmt: skip
def test_other_answers_say_which_value_differs(got, message):
    with pytest.raises(SamplesDiffer) as caught:
        sample(tensor()).check(1, {"outputs": [got]})
    assert str(caught.value) == message


def test_integers_and_booleans_have_no_tolerance():
    with pytest.raises(SamplesDiffer, match=r"y\[0\] is True, the sample says 1;"):
        sample(tensor(datatype="INT64", data=(1, 2)), atol=math.inf).check(
            1, {"outputs": [tensor(datatype="INT64", data=(True, 2))]}
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"samples": 3}',
        b'{"samples": [{"request": {}}]}',
        b'{"samples": [{"request": {}, "response": {"outputs": [{}]}}]}',
    ],
)
def test_a_file_without_samples_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "samples.json").write_bytes(content)
    with pytest.raises(InvalidKitfile, match=r"samples\.json does not hold samples") as caught:
        read_samples(tmp_path / "samples.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_pack_it(tmp_path):
    with pytest.raises(InvalidKitfile, match="pack them as a model part"):
        read_samples(tmp_path / "samples.json")


def test_what_the_golden_kits_say_is_read(tmp_path):
    document = {"samples": [{"request": {"inputs": [tensor()]}, "response": {"outputs": [tensor()]}, "rtol": 0.1}]}
    (tmp_path / "samples.json").write_bytes(orjson.dumps(document))
    assert read_samples(tmp_path / "samples.json") == (Sample({"inputs": [tensor()]}, (tensor(),), 0.1, 0.0),)
