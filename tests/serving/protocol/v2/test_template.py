"""Requests whose text around the data has come before: they are read, and refused, as if none had come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from adapters.base import TensorSpec
from runtime.errors import RequestFailed
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.protocol.v2.encode import NAME
from runtime.serving.served import Served
from tests.serving.support import app_of, model

KINDS = ("FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES")
DATA = ["[1,0]", "[ 1 , 1.0 ]", "[0,1,1,0]", "[[1,0]]", "[]", "[1]", "[true,false]", '["a","]"]', '["[",null]', "[1,[0]]", "[1,{}]",
        "[1,1e39]", "[1,300]", "[-1,0.5]", "[1,0", "1,0]", "1", "null", '"[1]"', '[1],"shape":[1,2]', '[1],"data":[1,0]',
        '[1,0]},{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,0]', '["\\ud800",""]', "[1,2]]", '[{"a":1,"a":2},1]']  # fmt: skip
AROUND = [
    '{"inputs":[{"name":"x","datatype":"KIND","shape":[1,2],"data":DATA}]}',
    '{"inputs": [{"data": DATA, "shape": [1, 2], "datatype": "KIND", "name": "x"}]}',
    '{"inputs":[{"name":"other","data":DATA,"shape":[2,2],"datatype":"FP32"}],"outputs":[{"name":"label"}]}',
    '{"parameters":{"timeout":5000000,"binary_data_output":true},"inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND"}]}',
    '{"parameters":{"data":DATA},"inputs":[{"name":"x","data":[1,0],"shape":[1,2],"datatype":"KIND"}]}',
    '{"parameters":{"content_type":"pd"},"inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND"}]}',
    '{"inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND","parameters":{"content_type":"base64"}}]}',
    '{"id":"\\"data\\":[1,0]","inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND"}]}',
    '{"id":"7","inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND"}]}',
    '{"inputs":[{"name":"x","data":DATA,"shape":[1,2],"datatype":"KIND"},{"name":"y","data":[1],"shape":[1],"datatype":"FP32"}]}',
    '{"inputs":[{"name":"x","data":DATA,"shape":[-1,2],"datatype":"KIND"}]}',
    '{"inputs":[{"name":"x","shape":[1,2],"datatype":"KIND"}]}',
]  # fmt: skip


def served(kind: str) -> Served:
    return app_of(model(inputs=(TensorSpec("x", kind, (-1, 2)),), labels=None), warm=False).model


def outcome(made: Served, body: str) -> tuple[Any, ...]:
    try:
        request = V2_JSON.decode({}, body.encode(), made)
    except RequestFailed as failure:
        return type(failure), str(failure)
    arrays = [(name, each.dtype, each.shape, each.tolist()) for name, each in request.inputs.items()]
    return arrays, request.wanted, request.id, request.form, request.deadline_seconds


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_again_is_read_as_if_it_were_the_first(kind: str) -> None:
    made = served(kind)
    for around, first in itertools.product(AROUND, DATA[:5]):
        made.lay_out()
        outcome(made, around.replace("KIND", kind).replace("DATA", first))
        for data in DATA:
            body = around.replace("KIND", kind).replace("DATA", data)
            assert outcome(made, body) == expected(kind, body), (first, body)


def expected(kind: str, body: str, known: dict[tuple[str, str], tuple[Any, ...]] = {}) -> tuple[Any, ...]:  # noqa: B006 - kept
    if (kind, body) not in known:
        known[kind, body] = outcome(served(kind), body)
    return known[kind, body]


def test_a_template_is_kept_of_what_has_no_id_and_is_short() -> None:
    made = served("FP32")
    for around in AROUND[:3]:
        outcome(made, around.replace("KIND", "FP32").replace("DATA", "[1,2]" if "[2,2]" not in around else "[1,2,3,4]"))
    assert len([each for each in made.forms[NAME].templates.values() if each]) == 3
    for more in (', "id": "7"', f', "parameters": {{"p": "{2048 * "x"}"}}'):
        outcome(made, f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}}]{more}}}')
    assert len(made.forms[NAME].templates) == 3
    for rows in range(1, 100):
        outcome(made, f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},2],"data":{[1] * 2 * rows}}}]}}')
    assert 0 < len(made.forms[NAME].templates) <= 64
