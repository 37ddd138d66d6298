from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adapters.values import DTYPES
from runtime.errors import InvalidInput
from runtime.serving.protocol.grpc import varints
from runtime.serving.protocol.grpc.contents import FIELDS, NUMBERS, Contents
from runtime.serving.protocol.grpc.wire import field

BLOCKS = 300_000
"""Numbers that take several blocks."""


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "INT32", "INT64", "UINT16", "UINT32", "UINT64"])
@given(data=st.data())
def test_numbers_are_written_and_read_as_protobuf_does(datatype, data):
    dtype = DTYPES[datatype]
    numbers = data.draw(arrays(dtype, st.integers(1, 60)))
    field_name = FIELDS[datatype]
    theirs = Contents(**{field_name: numbers.tolist()}).SerializeToString()
    assert field(NUMBERS[field_name], varints.written(numbers)) == theirs
    (read,) = varints.read(varints.written(numbers))
    np.testing.assert_array_equal(read.astype(dtype), numbers)
    assert varints.count(varints.written(numbers)) == len(numbers)


def test_long_fields_are_read_and_written_in_blocks():
    numbers = np.arange(-BLOCKS, BLOCKS) << np.int64(20)
    packed = varints.written(numbers)
    blocks = list(varints.read(packed))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks).astype(np.int64), numbers)
    assert varints.count(packed) == 2 * BLOCKS


@pytest.mark.parametrize("packed", [b"\x80", b"\x01\xff", b"\xff" * 10 + b"\x01", b"\x80" * BLOCKS])
def test_a_number_that_does_not_end_is_refused(packed):
    with pytest.raises(InvalidInput, match="a number in it does not end"):
        list(varints.read(packed))
