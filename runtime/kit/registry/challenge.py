"""The WWW-Authenticate header: text to challenges. Pure.

Grammar: https://www.rfc-editor.org/rfc/rfc9110#section-11.3 to 11.6, and #section-5.6
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar, not a secret
_GAP: Final = re.compile(r"[ \t,]*")
_PARAMETER: Final = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|$)')
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,|$))")
_TOKEN68: Final = re.compile(r"[0-9A-Za-z\-._~+/]+=*[ \t]*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Returns every challenge of the header, in order. Several headers are one, joined by commas. Raises ValueError."""
    found: list[Challenge] = []
    position = _skip(header, 0)
    while position < len(header):
        match = _SCHEME.match(header, position)
        if not match:
            raise ValueError(f"not a challenge: {header[position : position + 60]!r}")
        parameters, position = _parameters(header, match.end())
        found.append(Challenge(match[1].lower(), parameters))
    return tuple(found)


def _parameters(header: str, position: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    if (opaque := _TOKEN68.match(header, position)) and not _PARAMETER.match(header, position):
        return parameters, _skip(header, opaque.end())
    position = _skip(header, position)
    while match := _PARAMETER.match(header, position):
        value = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
        parameters.setdefault(match[1].lower(), value)
        position = _skip(header, match.end())
    return parameters, position


def _skip(header: str, position: int) -> int:
    match = _GAP.match(header, position)
    return match.end() if match else position
