"""Client text inside one-line messages: escaped, cut, never raw, and marked so that it stays out of logs."""

from collections.abc import Iterable
from reprlib import Repr
from typing import Any, Final

from runtime.errors import private

SHOWN_CHARACTERS = 64
LINE_BYTES = 512


_JSON_NAMES: Final[dict[object, str]] = {None: "null", True: "true", False: "false"}


class _Short(Repr):
    """Looks at no more of a list than is shown, and into no object: a client's may be long, and nested deeply."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist = 2, SHOWN_CHARACTERS // 2
        self.maxstring = self.maxlong = self.maxother = SHOWN_CHARACTERS

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:  # noqa: ARG002 - reprlib's signature
        return "{...}" if x else "{}"

    def repr1(self, x: object, level: int) -> str:
        """Writes null, true and false as JSON does."""
        return _JSON_NAMES[x] if x is None or x is True or x is False else super().repr1(x, level)


_short = _Short()


def shown(value: object) -> str:
    """Returns a value that a client sent for the message of a RequestFailed: quoted, and left out of logs."""
    return private(quoted(value))


def quoted(value: object) -> str:
    """Returns a value as printable ASCII of at most 64 characters, strings in quotes."""
    if value is None or isinstance(value, (list, dict, bool)):
        text = _short.repr(value).encode("ascii", "backslashreplace").decode()
    else:
        text = ascii(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def listed(names: Iterable[str], *, at_most: int = 8) -> str:
    """Returns names of the model's own as `'a', 'b' and 3 more`."""
    whole = list(names)
    text = ", ".join(quoted(name) for name in whole[:at_most])
    return text if len(whole) <= at_most else f"{text} and {len(whole) - at_most} more"


def one_line(text: str) -> str:
    """Returns the text without line ends, cut to 512 bytes of UTF-8."""
    line = " ".join(text.split()) if "\n" in text or "\r" in text else text
    if len(line) * 4 <= LINE_BYTES or len(line.encode(errors="replace")) <= LINE_BYTES:
        return line
    return line.encode(errors="replace")[: LINE_BYTES - 3].decode(errors="ignore") + "..."
