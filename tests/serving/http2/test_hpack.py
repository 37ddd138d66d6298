"""Header compression against the library hpack, an implementation of somebody else's."""

from __future__ import annotations

import random
import time

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.http2.frames import Broken
from runtime.serving.http2.hpack import Decoder, encoded
from runtime.serving.http2.huffman import decoded

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b":path", b":method", b"x-a", b"grpc-timeout", b"te"]) | st.binary(max_size=40),
        st.sampled_from([b"", b"POST", b"trailers", b"x" * 3000]) | st.binary(max_size=100),
    ),
    max_size=8,
)


@pytest.mark.slow
@given(st.lists(st.tuples(HEADERS, st.booleans(), st.sampled_from([None, 0, 64, 1000, 4096])), max_size=6))
def test_what_another_encoder_writes_is_read(blocks):
    theirs, ours = hpack.Encoder(), Decoder(list, 2**20)
    for headers, huffman, size in blocks:
        if size is not None:
            theirs.header_table_size = size
        assert ours.read(theirs.encode(headers, huffman=huffman)) == headers


@pytest.mark.slow
@given(HEADERS)
def test_what_we_write_another_decoder_reads(headers):
    assert [(name, value) for name, value in hpack.Decoder().decode(encoded(*headers), raw=True)] == headers


def test_a_block_that_changes_no_table_is_decoded_once_and_again_when_the_table_has_changed():
    made = []
    ours, theirs = Decoder(lambda headers: made.append(headers) or object(), 2**20), hpack.Encoder()
    fields = [(b":path", b"/a"), (b"te", b"trailers")]
    first, again = (theirs.encode(fields) for _ in range(2))
    ours.read(first)
    assert ours.read(again) is ours.read(again)
    assert made == [fields, fields]
    ours.read(theirs.encode([(b"new", b"entry")]))
    ours.read(theirs.encode(fields))
    assert made[2:] == [[(b"new", b"entry")], fields]


def test_headers_that_are_too_long_are_not_kept_and_the_table_goes_on():
    ours, theirs = Decoder(lambda headers: headers or "too long", 200), hpack.Encoder()
    assert ours.read(theirs.encode([(b"a", b"x" * 100), (b"b", b"y" * 100)])) == "too long"
    assert ours.read(theirs.encode([(b"b", b"y" * 100)])) == [(b"b", b"y" * 100)]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80", b"\xff", b"\xff\xff\xff\xff\xff\xff\x7f", b"\xc0", b"\x40", b"\x40\x05ab", b"\x40\x01a\x7f",
        b"\x82\x20", b"\x3f\xff\x7f", b"\x40\x81\x00\x00", b"\x40\x82\xff\xff\x00", b"\x40\x85\xff\xff\xff\xff\xff\x00",
        b"\x00\x7f\xff\xff\xff\x7f",
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_what_is_no_block_breaks_the_connection(block):
    with pytest.raises(Broken):
        Decoder(list, 2**20).read(block)


def test_any_bytes_are_read_or_refused():
    chance, ours = random.Random(7), Decoder(bool, 2**14)
    for _ in range(3000):
        try:
            ours.read(chance.randbytes(chance.randrange(40)))
        except Broken:
            continue


def test_a_long_string_costs_time_in_proportion():
    text = b"~" * 20_000
    coded = hpack.huffman.HuffmanEncoder(
        hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
    ).encode(text)
    began = time.process_time()
    assert decoded(coded) == text
    assert time.process_time() - began < 1.0
