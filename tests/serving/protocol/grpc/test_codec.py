"""Messages → arrays → messages, pure."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.errors import InvalidInput, PredictFailed, UnknownModel
from runtime.link.limits import Limits
from runtime.serving.codec_table import CODECS
from runtime.serving.inference import Endpoint, infer
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS
from runtime.serving.protocol.grpc.decode import names, own_id
from runtime.serving.protocol.grpc.messages import METHODS
from runtime.serving.statuses import GRPC_CODE, Response
from tests.serving.support import app_of, echo, model

Infer, Answer = METHODS["ModelInfer"]
ALL = (*CODECS, GRPC)


def served(loaded=None, **limits):
    return app_of(loaded or model(), codecs=ALL, warm=False, limits=Limits(**limits)).model


def decoded(request, loaded=None, **limits):
    return GRPC.decode({}, request.SerializeToString(), served(loaded, **limits))


def tensor(name="X", datatype="FP32", shape=(1, 4), **more):
    return {"name": name, "datatype": datatype, "shape": shape, **more}


FOUR = {"contents": {"fp32_contents": [1, 2, 3, 4]}}
TWO_INPUTS = model(inputs=(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))))


def any_array(datatype):
    shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    if datatype != "BYTES":
        return arrays(DTYPES[datatype], shapes)
    return shapes.flatmap(lambda shape: arrays(np.object_, shape, elements=st.binary(max_size=9), fill=st.nothing()))


@pytest.mark.slow
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("datatype", DTYPES)
def test_what_is_encoded_decodes_to_the_same(datatype, raw):
    if not raw and datatype not in FIELDS:
        pytest.skip("travels raw only")
    made = {}

    @given(any_array(datatype))
    def check(array):
        if array.ndim not in made:
            made[array.ndim] = served(echo(datatype, (-1,) * array.ndim))
        one = made[array.ndim]
        request = GRPC.decode({}, Infer(model_name="iris", inputs=[_sent(datatype, array, raw)],
                                        raw_input_contents=_raws(datatype, array, raw)).SerializeToString(), one)  # fmt: skip
        request.id = "i"
        seen = request.inputs["x"]
        assert seen.dtype == array.dtype
        np.testing.assert_array_equal(seen, array)
        answer = Answer.FromString(GRPC.encode(one, request, {"y": seen}).body)
        assert list(answer.outputs[0].shape) == list(array.shape)
        if raw:
            assert list(answer.raw_output_contents) == _raws(datatype, array, True)
        else:
            got = list(getattr(answer.outputs[0].contents, FIELDS[datatype]))
            np.testing.assert_array_equal(np.array(got, array.dtype), array.ravel())

    check()


def _sent(datatype, array, raw):
    contents = {} if raw else {"contents": {FIELDS[datatype]: array.ravel().tolist()}}
    return tensor("x", datatype, array.shape, **contents)


def _raws(datatype, array, raw):
    if not raw:
        return []
    if datatype != "BYTES":
        return [array.tobytes()]
    return [b"".join(len(text).to_bytes(4, "little") + text for text in array.ravel())]


def test_raw_bytes_are_a_view_of_a_message_that_may_be_written_where_the_machine_can_read_them_there():
    """As over HTTP: frameworks may write into their inputs, so what may not be written is copied."""
    seen = set()
    for length in range(1, 9):
        body = Infer(
            model_name="m" * length, inputs=[tensor(shape=(500, 4))], raw_input_contents=[bytes(8000)]
        ).SerializeToString()
        for whole in (body, memoryview(bytearray(body))):
            array = GRPC.decode({}, whole, served()).inputs["X"]
            assert array.flags.aligned
            assert array.flags.writeable
            seen.add((type(whole), bool(np.shares_memory(array, np.frombuffer(whole, np.uint8)))))
    assert seen == {(bytes, False), (memoryview, True), (memoryview, False)}


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_a_long_raw_message_is_decoded_on_the_loop_and_a_typed_one_in_a_thread(raw):
    one = app_of(model(), codecs=ALL, limits=Limits(inline_seconds=9))
    one.model.engine._costs.seed(40, 0.0)
    array = np.zeros((10_000, 4), np.float32)
    contents = {} if raw else {"contents": {"fp32_contents": array.ravel()}}
    body = Infer(
        inputs=[tensor(shape=array.shape, **contents)], raw_input_contents=[array.tobytes()] if raw else []
    ).SerializeToString()

    async def asked():
        answer = infer(Endpoint.of(one.model, (GRPC,)), {}, body)
        at_once = isinstance(answer, Response)
        return at_once, answer if at_once else await answer

    at_once, answer = asyncio.run(asked())
    one.model.engine.close()
    assert (at_once, answer.status) == (raw, 200)


def test_a_string_output_and_outputs_in_the_order_asked():
    one = served(echo("BYTES"))
    request = GRPC.decode(
        {}, Infer(inputs=[tensor("x", "BYTES", (1,), contents={"bytes_contents": [b"a"]})]).SerializeToString(), one
    )
    answer = Answer.FromString(GRPC.encode(one, request, {"y": np.array(["é"], object)}).body)
    assert list(answer.outputs[0].contents.bytes_contents) == ["é".encode()]
    with pytest.raises(PredictFailed, match="something else than bytes"):
        GRPC.encode(one, request, {"y": np.array([1.5], object)})
    wanted = decoded(Infer(inputs=[tensor(**FOUR)], outputs=[{"name": "scores"}, {"name": "label"}])).wanted
    assert wanted == ("scores", "label")


def test_a_model_without_required_inputs_may_get_none_and_answers_raw():
    optional = model(inputs=(TensorSpec("X", "FP32", (-1, 4), optional=True),))
    request = decoded(Infer(), optional)
    assert (request.inputs, request.form.raw) == ({}, True)


def test_names_of_inputs_are_checked_where_there_are_several():
    half = {"datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}
    for given_names, says in (
        ("ab", None),
        ("aa", "duplicate input 'a'"),
        ("ac", "unknown input 'c'"),
        ("a", "missing input 'b'"),
    ):
        request = Infer(inputs=[{"name": name, **half} for name in given_names])
        if says is None:
            assert set(decoded(request, TWO_INPUTS).inputs) == {"a", "b"}
        else:
            with pytest.raises(InvalidInput, match=says):
                decoded(request, TWO_INPUTS)


@pytest.mark.parametrize(
    ("body", "own"),
    [
        (Infer(model_name="m", id="i").SerializeToString(), "i"),
        (Infer(model_name="m").SerializeToString(), ""),
        (Infer(id="i" * 2000).SerializeToString(), ""),
        (b"\x1a\x01\xff", ""),
        (b"\x1a\x05i", ""),
    ],
)
def test_an_error_in_a_stream_names_its_request_where_that_can_be(body, own):
    assert own_id(body, Limits()) == own


def test_infinities_and_nan_pass_unchanged():
    values = [np.inf, -np.inf, np.nan]
    seen = decoded(Infer(inputs=[tensor("x", "FP32", [3], contents={"fp32_contents": values})]), echo("FP32"))
    np.testing.assert_array_equal(seen.inputs["x"], np.array(values, np.float32))


def test_the_names_of_model_and_version_are_found_before_the_rest_is_read():
    body = Infer(model_name="m", model_version="2", id="i").SerializeToString()
    assert names(body) == ("m", "2")
    assert names(b"") == ("", "")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        names(b"\x0a\x01\xff")
    with pytest.raises(InvalidInput, match="not a valid ModelInferRequest"):
        GRPC.decode({}, b"\x2a\x01\xff", served())


def test_a_refusal_carries_its_code():
    response = GRPC.refuse(UnknownModel("unknown\nmodel"))
    assert (response.status, dict(response.headers)[GRPC_CODE], response.body) == (404, b"NOT_FOUND", b"unknown model")
