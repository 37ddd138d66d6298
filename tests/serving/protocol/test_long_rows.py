"""Long arrays of numbers as rows: what simdjson reads is what orjson reads of the same rows, in plain predictions and V1."""

from __future__ import annotations

import re
import sys
import tracemalloc
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.values import DTYPES
from runtime.errors import InvalidInput
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.v1 import V1
from tests.serving.protocol.models import people
from tests.serving.protocol.test_json_numbers import TOKENS, WIDE
from tests.serving.support import app_of, echo

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="pysimdjson has no wheel")
SHAPES = [(), (-1,), (-1, 1), (-1, 2), (-1, 2, 2), (1, 2), (-1, -1)]
BODIES = [(PLAIN, "{}"), (V1, '{{"instances":{}}}'), (V1, ' {{ "inputs" : {} }} '), (V1, '{{"instances":{},"x":[1]}}')]


@cache
def served(datatype: str, shape: tuple[int, ...]) -> Any:
    return app_of(echo(datatype, shape), warm=False).model


def outcome(codec: Codec, form: str, rows: str, datatype: str, shape: tuple[int, ...]) -> object:
    try:
        request = codec.decode(
            {b"content-type": b"application/json"}, form.format(rows).encode(), served(datatype, shape)
        )
    except InvalidInput as error:
        return re.sub(r"character \d+", "character", str(error))
    array = request.inputs["x"]
    return array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes(), request.form


def longer(rows: str) -> str:
    return rows.replace("[", "[" + WIDE, 1)


NESTED = st.recursive(
    st.sampled_from(TOKENS[:12]), lambda inner: st.lists(inner, max_size=3).map(lambda of: f"[{','.join(of)}]")
)


@pytest.mark.parametrize(("codec", "form"), BODIES)
@given(rows=NESTED, datatype=st.sampled_from(sorted(DTYPES)), shape=st.sampled_from(SHAPES))
def test_any_nesting_means_the_same_in_a_long_array(codec: Codec, form: str, rows: str, datatype: str, shape: Any):
    assert outcome(codec, form, longer(rows), datatype, shape) == outcome(codec, form, rows, datatype, shape)


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_each_element_means_the_same_in_a_long_array(datatype: str):
    for token, (codec, form) in product(TOKENS, BODIES[:2]):
        rows = f"[1,{token}]"
        assert outcome(codec, form, longer(rows), datatype, (-1,)) == outcome(codec, form, rows, datatype, (-1,))


@pytest.mark.parametrize(("codec", "form"), BODIES[:3])
def test_a_long_array_of_rows_makes_no_object_for_each(codec: Codec, form: str):
    body, one = form.format(f"[{','.join(['[1.5,2.5]'] * 50_000)}]").encode(), served("FP64", (-1, 2))
    codec.decode({}, body, one)
    tracemalloc.start()
    assert codec.decode({}, body, one).inputs["x"].shape == (50_000, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9_000_000  # with an object for each it is 12,000,000


def test_long_rows_for_several_inputs_are_read_as_ever():
    rows = f"[[1,2,3,{WIDE}4]]"
    with pytest.raises(InvalidInput, match="BYTES wants a string, got 3"):
        PLAIN.decode({}, rows.encode(), app_of(people(), warm=False).model)
