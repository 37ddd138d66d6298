"""Client text inside our one-line messages: escaped, cut, never raw."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN_CHARACTERS = 64
LINE_BYTES = 512


def shown(value: object) -> str:
    """A value that a client sent, as printable ASCII of at most 64 characters, strings in quotes."""
    text = ascii(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return text[: SHOWN_CHARACTERS - 3] + "..."


def listed(names: Iterable[str], *, at_most: int = 8) -> str:
    """Names of ours as `'a', 'b' and 3 more`."""
    whole = list(names)
    text = ", ".join(shown(name) for name in whole[:at_most])
    return text if len(whole) <= at_most else f"{text} and {len(whole) - at_most} more"


def one_line(text: str, limit: int = LINE_BYTES) -> str:
    """The text without line ends, cut to `limit` bytes of UTF-8."""
    line = " ".join(text.split()) if "\n" in text or "\r" in text else text
    if len(line) * 4 <= limit or len(line.encode(errors="replace")) <= limit:
        return line
    return line.encode(errors="replace")[: limit - 3].decode(errors="ignore") + "..."
