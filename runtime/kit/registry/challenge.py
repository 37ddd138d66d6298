"""The WWW-Authenticate header: text to challenges. Pure.

Grammar: https://www.rfc-editor.org/rfc/rfc9110#section-11.3 to 11.6; several headers joined by commas: #section-5.6
"""

import re
from typing import Final

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar, not a secret
_GAP: Final = r"[ \t]*(?=,|$)[ \t,]*"
_PARAMETER: Final = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"){_GAP}')
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]+([0-9A-Za-z\-._~+/]+=*){_GAP}|[ \t]+[ \t,]*|{_GAP})")


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Returns the parameters of each scheme's first challenge, in order; names in lower case. Raises ValueError."""
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] | None = None
    header, position = header.strip(" \t,"), 0
    while position < len(header):
        if parameters is not None and (match := _PARAMETER.match(header, position)):
            value = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
            parameters.setdefault(match[1].lower(), value)
        elif match := _SCHEME.match(header, position):
            parameters = {}
            found.setdefault(match[1].lower(), parameters)
            if match[2]:  # an opaque token, behind which no parameters stand
                parameters = None
        else:
            raise ValueError(f"not a challenge: {header[position : position + 60]!r}")
        position = match.end()
    return found
