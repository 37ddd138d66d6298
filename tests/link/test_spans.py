"""Notes of traced requests: what is traced, and that a hostile worker's notes are refused whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.link.channel import _PACKET_BYTES
from runtime.link.messages import Traced
from runtime.link.messages import write as packed
from runtime.link.spans import MOST_NOTES, Note, Sampling, read, write

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOTE = Note(
    TRACE, SPAN, "", 1_795_823_674_165_589_600, 0.5, 0.1, 0.2, 0.1, 0.1, 3, 80, 200, "", "iris", "v2_json", "a-1"
)


def test_notes_come_as_they_were_sent():
    notes = [
        NOTE,
        NOTE._replace(parent=SPAN, status=504, outcome="deadline"),
        NOTE._replace(status=0, outcome="abandoned"),
    ]
    assert read(write(notes)) == notes
    assert read("[]") == []


def test_as_many_as_a_message_has_fit_the_channel():
    longest = NOTE._replace(parent=SPAN, outcome="not_implemented", model="m" * 255, protocol="v" * 32, id='"' * 64,
                            seconds=1 / 3e-5, queued=1 / 3, started=1 / 7, computed=1 / 9, encoded=1 / 11)  # fmt: skip
    assert len(packed(Traced("m" * 128, write([longest] * MOST_NOTES)))) < _PACKET_BYTES


@pytest.mark.parametrize(
    ("field", "value"),
    [("trace", "0af7"), ("trace", TRACE.upper()), ("trace", None), ("span", ""), ("span", 7), ("parent", "x" * 16),
     ("began", -1), ("began", 2**63), ("began", 1.5), ("began", True), ("seconds", -0.1), ("seconds", "1"),
     ("seconds", float("nan")), ("seconds", float("inf")), ("queued", 1e9), ("rows", -1), ("rows", 2**60), ("status", None),
     ("outcome", "anything"), ("model", "a\nb"), ("model", "x" * 300), ("protocol", ["v1"]), ("id", "\x1b[31m")],
)  # fmt: skip
def test_what_is_no_note_is_refused(field: str, value: Any):
    with pytest.raises(ValueError, match="not notes of traced requests"):
        read(write([NOTE, NOTE._replace(**{field: value})]))


@pytest.mark.parametrize(
    "text", ["", "{", "7", "null", '{"a":1}', "[7]", "[[]]", "[[1]]", json.dumps([[*NOTE, 1]]), "[" * 100_000]
)
def test_what_is_no_list_of_notes_is_refused(text: str):
    with pytest.raises(ValueError, match=r"."):
        read(text)
    with pytest.raises(ValueError, match=r"."):
        read(write([NOTE] * (MOST_NOTES + 1)))


@pytest.mark.parametrize(
    ("sampling", "told", "taken"),
    [(Sampling(1.0, parent=True), None, True), (Sampling(1.0, parent=True), False, False),
     (Sampling(0.0, parent=True), None, False), (Sampling(0.0, parent=True), True, True),
     (Sampling(0.0, parent=False), True, False), (Sampling(1.0, parent=False), False, True)],
)  # fmt: skip
def test_the_callers_word_counts_where_the_operator_says_so(sampling: Sampling, told: bool | None, taken: bool):
    assert sampling.takes(TRACE, told=told) is taken


def test_a_share_is_decided_by_the_trace_alike_everywhere():
    traces = [f"{0:016x}{number << 56:016x}" for number in range(256)]
    assert sum(Sampling(0.25, parent=True).takes(trace, told=None) for trace in traces) == 64
