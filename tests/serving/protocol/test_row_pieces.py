"""Long arrays of rows that are no bare numbers: read in pieces they are what they are as a whole, and take less memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import TensorSpec
from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol import long_rows
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.json_document import read_document
from runtime.serving.protocol.long_rows import from_long_lines, from_long_rows
from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.rows import from_rows
from runtime.serving.protocol.v1 import V1
from tests.serving.protocol.models import people
from tests.serving.support import app_of, echo

LINES = b"application/jsonl"
JSON = b"application/json"
FORMS = [
    (PLAIN, JSON, "[{}]", ","),
    (PLAIN, JSON, '{{"instances": [{}]}}', ","),
    (V1, JSON, '{{"instances": [{}]}}', ","),
    (PLAIN, LINES, "{}\n\n", "\r\n"),
]
PERSON = {"age": 1.5, "count": 2, "name": "Ada", "flag": True}


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Any:
    """Texts of a few rows are long enough to be cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_rows, "PIECE", 16)
        yield


def signature_of(model: Any) -> Signature:
    signature: Signature = app_of(model, warm=False).model.signature
    return signature


PEOPLE, NUMBERS, TEXTS = (signature_of(each) for each in (people(), echo("FP32", (-1, 2)), echo("BYTES", (-1, 2))))

ODD = st.sampled_from(["},{", "],[", '"', "\\", '\\"},{"', "", "é", "x"])
VALUE = st.one_of(st.integers(-3, 300), st.booleans(), st.none(), st.sampled_from([1.5, 1e300]), ODD)
OBJECT = st.builds(
    lambda person, wrong: person | wrong,
    st.fixed_dictionaries({"age": st.floats(-9, 9), "count": st.integers(0, 9), "name": ODD, "flag": st.booleans()}),
    st.dictionaries(st.sampled_from(["age", "count", "name", "flag", "other"]), VALUE, max_size=1),
)
ROW = st.lists(st.one_of(st.integers(0, 9), st.none(), ODD), min_size=2, max_size=3)


def as_document(text: bytes, signature: Signature, limits: Limits) -> Arrays | None:
    """The inputs, None where it is refused."""
    try:
        return from_rows(read_document(text, 64, arrays=True), signature, limits, "rows")
    except InvalidInput:
        return None


def listed(arrays: Arrays) -> dict[str, Any]:
    return {name: (array.dtype, array.shape, repr(array.tolist())) for name, array in arrays.items()}


@given(
    st.one_of(
        st.tuples(st.just(PEOPLE), st.lists(OBJECT, max_size=12)),
        st.tuples(st.sampled_from([NUMBERS, TEXTS]), st.lists(ROW, max_size=12)),
    ),
    st.sampled_from([b",", b" , ", b",\r\n"]),
)
def test_pieces_are_the_whole(given: tuple[Signature, list[Any]], between: bytes):
    signature, rows = given
    text = b" [%b]\n" % between.join(map(orjson.dumps, rows))
    whole = as_document(text, signature, Limits())
    try:
        arrays = from_long_rows(text, signature, Limits(), "rows")
    except InputAtFault:
        assert whole is None
    else:
        assert arrays is None or (whole is not None and listed(arrays) == listed(whole))


@given(st.text('[]{},:"1a \n\\', max_size=60))
def test_what_is_no_array_is_none_in_pieces(inner: str):
    text = f'[{{"age":1}},{inner},{{"age":1}}]'.encode()
    try:
        orjson.loads(text)
    except ValueError:
        with suppress(InputAtFault):  # of a row before what is no JSON
            assert from_long_rows(text, PEOPLE, Limits(), "rows") is None


@pytest.mark.parametrize(("codec", "kind", "form", "between"), FORMS)
def test_usual_rows_are_read_in_pieces(
    codec: Codec, kind: bytes, form: str, between: str, monkeypatch: pytest.MonkeyPatch
):
    served, rows = app_of(people(), warm=False).model, [PERSON | {"count": count} for count in range(200)]
    monkeypatch.setattr("runtime.serving.protocol.plain.body.read_document", None)
    monkeypatch.setattr("runtime.serving.protocol.v1.read_document", None)
    text = form.format(between.join(orjson.dumps(row).decode() for row in rows)).encode()
    inputs = codec.decode({b"content-type": kind}, text, served).inputs
    assert inputs["count"].tolist() == list(range(200))
    assert inputs["name"].tolist() == [b"Ada"] * 200


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"count": "x"},
            "'count', element 0: INT32 wants a whole number, got 'x' (wrong element type), counted from row 51",
        ),
        ({"more": 1}, "rows[51] has other names than the rows before it: 'age', 'count', 'name', 'flag', 'more'"),
    ],
)
def test_a_fault_says_from_which_row_it_is_counted(wrong: dict[str, Any], said: str):
    rows = [PERSON] * 51 + [PERSON | wrong] + [PERSON] * 50
    with pytest.raises(InputAtFault) as caught:
        from_long_rows(b"[%b]" % b",".join(map(orjson.dumps, rows)), PEOPLE, Limits(), "rows")
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b'{"age": NaN}', "NaN and Infinity are not JSON"),
        (b'{"age": 1, "age": 2}', "request body has a duplicate key: 'age'"),
    ],
)
def test_what_is_no_json_is_that_where_the_whole_is_too_long_for_a_document(wrong: bytes, said: str):
    rows = [orjson.dumps(PERSON)] * 50
    limits = Limits(json_bytes=1000)
    for read in (
        lambda: from_long_rows(b"[%b]" % b",".join([*rows, wrong]), PEOPLE, limits, "rows"),
        lambda: from_long_lines(b"\n".join([*rows, wrong.replace(b"NaN", b'1, "age": NaN')]), PEOPLE, limits),
    ):
        with pytest.raises(InvalidInput, match=rf"{said}|row 50 of the JSON lines") as caught:
            read()
        assert "counted from row 50" in str(caught.value) or "row 50 of" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[%b", "unexpected end of data"),
        (b"[%b]x", "unexpected content after document"),
        (b"\xef\xbb\xbf[%b]", "request body is not UTF-8"),
    ],
)
def test_a_beginning_or_an_end_that_is_wrong_is_said_of_any_length(text: bytes, said: str):
    served = app_of(people(), limits=Limits(json_bytes=1000), warm=False).model
    for count in (1, 200):
        with pytest.raises(InvalidInput, match=said):
            PLAIN.decode({b"content-type": JSON}, text % b",".join([orjson.dumps(PERSON)] * count), served)


@pytest.mark.parametrize("later", [{"age": [1.5]}, {"age": 1.5, "count": [2]}], ids=str)
def test_rows_of_another_form_in_a_later_piece_are_none(later: dict[str, Any]):
    rows = [PERSON] * 50 + [PERSON | later] * 50
    assert from_long_rows(b"[%b]" % b",".join(map(orjson.dumps, rows)), PEOPLE, Limits(), "rows") is None
    assert from_long_lines(b"\n".join(map(orjson.dumps, rows)), PEOPLE, Limits()) is None


def test_white_space_that_json_does_not_know_is_not_skipped():
    rows = b",".join([orjson.dumps(PERSON)] * 200)
    assert from_long_rows(b"\x0b[%b]\x0c" % rows, PEOPLE, Limits(), "rows") is None
    served = app_of(people(), warm=False).model
    for body in (b'{\x0b"instances": [%b]}' % rows, b'{"instances": [%b]\x0c}' % rows):
        with pytest.raises(InvalidInput, match="not valid JSON"):
            V1.decode({}, body, served)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_take_no_memory(end: bytes):
    body, served = end * 500_000, app_of(people(), warm=False).model
    tracemalloc.start()
    with pytest.raises(InputAtFault, match="rows must be a non-empty array of rows, got none"):
        PLAIN.decode({b"content-type": LINES}, body, served)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(body)


def test_equal_texts_are_one_object():
    arrays = from_long_rows(b"[%b]" % b",".join([orjson.dumps(PERSON)] * 50), PEOPLE, Limits(), "rows")
    assert arrays is not None
    assert len(set(map(id, arrays["name"].tolist()))) == 1
    assert len(arrays["name"]) == 50


def test_many_different_texts_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_rows, "_FEW_TEXTS", 3)
    rows = [PERSON | {"name": f"{number % 10}"} for number in range(50)]
    arrays = from_long_rows(b"[%b]" % b",".join(map(orjson.dumps, rows)), PEOPLE, Limits(), "rows")
    assert arrays is not None
    assert arrays["name"].tolist() == [b"%d" % (number % 10) for number in range(50)]


@pytest.mark.parametrize(
    "text",
    [
        b'[{"x":[1,2]},{"x":[3,4]}]',  # shorter than two pieces, below
        b'{"rows":[[1,2],[3,4]], "more": [[1,2],[3,4]]}',
        b"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
    ],
)
def test_other_documents_are_none(text: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_rows, "PIECE", max(16, len(text) // 2) if text.startswith(b"[{") else 16)
    assert from_long_rows(text, NUMBERS, Limits(), "rows") is None


def test_an_array_that_is_cut_inside_of_a_text_is_read_as_a_whole():
    rows = [PERSON | {"name": "},{" * 20}] * 20
    text = b"[%b]" % b",".join(map(orjson.dumps, rows))
    assert from_long_rows(text, PEOPLE, Limits(), "rows") is None
    got = PLAIN.decode({b"content-type": JSON}, text, app_of(people(), warm=False).model).inputs
    assert got["name"].tolist() == [b"},{" * 20] * 20


def test_too_many_elements_or_too_much_memory_is_none():
    text = b"[%b]" % b",".join([orjson.dumps(PERSON)] * 100)
    assert from_long_rows(text, PEOPLE, Limits(elements=100), "rows") is not None
    assert from_long_rows(text, PEOPLE, Limits(elements=99), "rows") is None
    texts = b"[%b]" % b",".join([b'["",""]'] * 1000)
    assert from_long_rows(texts, TEXTS, Limits(), "rows") is not None
    assert from_long_rows(texts, TEXTS, Limits(json_bytes=1000), "rows") is None


def test_rows_that_differ_in_shape_are_none():
    free = signature_of(echo("FP32", (-1, -1)))
    text = b"[%b]" % b",".join([b"[1,2,3,4,5,6,7,8]"] * 3 + [b"[1,2,3,4,5,6,7,8,9]"] * 3)
    assert from_long_rows(text, free, Limits(), "rows") is None


def test_a_model_without_an_axis_of_rows_is_left_alone():
    text = b"[%b]" % b",".join([b"[1,2]"] * 20)
    assert from_long_rows(text, signature_of(echo("FP32", (20, 2))), Limits(), "rows") is None
    assert from_long_rows(text, signature_of(echo("FP32", (-1, 20, 2))), Limits(), "rows") is None


def test_many_short_rows_take_less_than_four_times_their_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_rows, "PIECE", 65_536)
    one = signature_of(echo("FP64", (-1,)))
    assert isinstance(one.only, TensorSpec)
    text = b"[%b]" % b",".join([b'{"%b":0}' % one.only.name.encode()] * 500_000)
    tracemalloc.start()
    arrays = from_long_rows(text, one, Limits(), "rows")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert arrays is not None
    assert arrays[one.only.name].shape == (500_000,)
    assert peak < 4 * len(text)  # as one document it is 40 times as much
