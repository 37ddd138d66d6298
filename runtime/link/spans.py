"""Traces on their way: what a worker notes of a traced request, and how the supervisor reads it.

A worker has no network: it sends its notes through the channel, and the supervisor makes spans of them. They may be the
word of a hostile model, so each field of each note is checked.
"""

import json
from typing import Final, NamedTuple

from runtime.link.metrics import REASONS

MOST_NOTES: Final = 50
"""In one message, which then fits the channel."""
LONGEST_ID: Final = 64
_LONGEST_NAME: Final = 256
_OUTCOMES: Final = frozenset({"", "abandoned", *(reason for _, reason in REASONS)})
_MOST_SECONDS, _MOST_NANOSECONDS, _MOST = 1e6, 2**63, 2**53


class Sampling(NamedTuple):
    """Which requests are traced: https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling."""

    share: float  # of those that begin a trace here
    parent: bool  # whether the caller's word counts for the others

    def takes(self, trace: str, *, told: bool | None) -> bool:
        """Returns True if a request of this trace is traced; `told` is what its caller says, if anything."""
        if told is not None and self.parent:
            return told
        return int(trace[16:], 16) < self.share * 2**64


class Note(NamedTuple):
    """One traced request. Times are seconds; a stage that it did not come to has 0."""

    trace: str
    span: str
    parent: str  # span of the caller; "": it has none
    began: int  # nanoseconds since 1970
    seconds: float
    queued: float
    started: float  # from `began` to the model
    computed: float
    encoded: float
    rows: int
    bytes_in: int
    status: int  # 0: the client has left
    outcome: str  # a reason of REASONS, "abandoned", or "" for an answer
    model: str
    protocol: str
    id: str


def write(notes: list[Note]) -> str:
    """Returns the text that `read` reads."""
    return json.dumps(notes, separators=(",", ":"))


def read(text: str) -> list[Note]:
    """Returns the notes in a text. Raises ValueError if one is not what it should be."""
    try:
        notes = [Note(*fields) for fields in json.loads(text)]
        if len(notes) <= MOST_NOTES and all(map(_is_sound, notes)):
            return notes
    except (TypeError, RecursionError):
        pass
    raise ValueError("not notes of traced requests")


def _is_sound(note: Note) -> bool:
    if not all(type(value) in (kind, int) if kind is float else type(value) is kind
               for value, kind in zip(note, Note.__annotations__.values(), strict=True)):  # fmt: skip
        return False
    times = note.seconds, note.queued, note.started, note.computed, note.encoded
    names = note.model, note.protocol, note.id
    return (
        _is_hex(note.trace, 32)
        and _is_hex(note.span, 16)
        and (not note.parent or _is_hex(note.parent, 16))
        and all(0 <= seconds <= _MOST_SECONDS for seconds in times)
        and 0 <= note.began < _MOST_NANOSECONDS
        and all(0 <= number < _MOST for number in (note.rows, note.bytes_in, note.status))
        and note.outcome in _OUTCOMES
        and all(len(name) <= _LONGEST_NAME and name.isprintable() for name in names)
    )


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and not text.strip("0123456789abcdef")
