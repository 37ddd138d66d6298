from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.serving.protocol.grpc.messages import METHODS
from runtime.serving.protocol.grpc.wire import field, fields, split, varint

Infer = METHODS["ModelInfer"][0]


@given(st.binary(max_size=40), st.lists(st.binary(max_size=300), max_size=5), st.text(max_size=9))
def test_what_is_split_off_is_there_and_nothing_else_is_lost(name, raws, id_):
    whole = Infer(model_name=name.hex(), id=id_, raw_input_contents=raws)
    rest, found = split(whole.SerializeToString(), 7)
    assert list(map(bytes, found)) == raws
    whole.ClearField("raw_input_contents")
    assert Infer.FromString(rest) == whole


def test_contents_are_views_of_the_message():
    message = Infer(model_name="m", raw_input_contents=[b"x" * 1000]).SerializeToString()
    (raw,) = split(message, 7)[1]
    assert raw.obj is message


def test_fields_of_every_kind_are_passed_over():
    message = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + field(7, b"raw") + b"\x38\x01"
    rest, found = split(message, 7)
    assert [bytes(raw) for raw in found] == [b"raw"]
    assert rest == message.replace(field(7, b"raw"), b"")


def test_a_field_may_come_in_any_order_and_with_a_long_length():
    message = b"\x3a\x83\x80\x00abc" + field(1, b"m")
    assert split(message, 7) == (field(1, b"m"), [b"abc"])


@pytest.mark.parametrize("message", [b"\x80", b"\xff" * 11, b"\x0a\x05abc", b"\x0b", b"\x11\x00", b"\x0a", b"\x08"])
def test_what_is_no_message_is_refused(message):
    with pytest.raises(InvalidInput, match="not a valid message"):
        list(fields(message))


def test_the_number_of_fields_is_bounded():
    began = time.perf_counter()
    with pytest.raises(InvalidInput, match="too many fields"):
        list(fields(field(7, b"") * 10_000_000))
    assert time.perf_counter() - began < 5


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_written_as_protobuf_writes_them(number):
    written = METHODS["ModelMetadata"][1].TensorMetadata(shape=[number]).SerializeToString() if number else b"\x00"
    assert written.endswith(varint(number))
