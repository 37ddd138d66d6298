"""What a message makes of a client's text, and what of it a log gets."""

from __future__ import annotations

import orjson
import pytest

from runtime.errors import InvalidInput
from runtime.serving.wording import listed, one_line, quoted, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n\x1b\x02", r"'a\n\x1b\x02'"),
        ("é" * 100, "'" + r"\xe9" * 15 + "..."),
        ([1, 2], "[1, 2]"),
        (10**70, "1" + "0" * 60 + "..."),
        ([1] * 100, "[" + "1, " * 20 + "..."),
        (["é\udc80", None, 0.5], r"['\xe9\udc80', null, 0.5]"),
        (orjson.loads("[" * 1000 + "]" * 1000), "[[[...]]]"),
        ({"a": orjson.loads("[" * 1000 + "]" * 1000)}, "{...}"),
        ([{}, {"a": 1}], "[{}, {...}]"),
        (None, "null"),
        ([True, [False, None]], "[true, [false, null]]"),
    ],
)
def test_a_value_is_printable_and_short(value: object, text: str):
    assert quoted(value) == text
    assert len(text) <= 64


def test_a_clients_text_is_in_the_message_and_not_in_the_log():
    secret = shown("se\x03cret")
    failure = InvalidInput(f"unknown {secret}, got {shown([7])}; the model has {listed(['a', 'b'])}")
    assert str(failure) == r"unknown 'se\x03cret', got [7]; the model has 'a', 'b'"
    assert failure.logged == "unknown ***, got ***; the model has 'a', 'b'"


def test_many_names_are_counted():
    assert listed(map(str, range(10)), at_most=3) == "'0', '1', '2' and 7 more"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n b\r\nc", "a b c"), ("é" * 400, "é" * 254 + "..."), ("x" * 513, "x" * 509 + "..."), ("x" * 512, "x" * 512)],
    ids=["line ends", "not ASCII", "long", "just short enough"],
)
def test_a_line_is_one_and_of_at_most_512_bytes(text: str, line: str):
    assert one_line(text) == line
    assert len(line.encode()) <= 512
