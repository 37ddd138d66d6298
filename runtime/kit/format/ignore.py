"""The `.kitignore` of a folder: which of its files `kit pack` would leave out. Docker's syntax.

https://docs.docker.com/build/concepts/context/#syntax and https://github.com/moby/patternmatcher
"""

import posixpath
import re
from collections.abc import Callable, Iterable

IGNORE_NAME = ".kitignore"


def read_patterns(text: str) -> tuple[str, ...]:
    """Returns the patterns in the text of a `.kitignore`, cleaned, each with `!` in front if it takes files back in.

    Raises ValueError for a pattern that cannot be read.
    """
    found = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        mark = "!" if pattern.startswith("!") else ""
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            raise ValueError(f"{line[:160]!r} has nothing after the '!'")
        pattern = mark + (posixpath.normpath(pattern).lstrip("/") or "/")
        ignoring([pattern])
        found.append(pattern)
    return tuple(found)


def ignoring(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Returns a function that tells of a file's path whether it is left out: the last pattern that matches decides.

    A pattern that matches a folder matches all that is in it. Raises ValueError for a pattern that cannot be read.
    """
    rules = [(not pattern.startswith("!"), _compile(pattern.removeprefix("!"))) for pattern in patterns]

    def is_ignored(path: str) -> bool:
        return next((ignored for ignored, rule in reversed(rules) if rule.fullmatch(path)), False)

    return is_ignored


def _compile(pattern: str) -> re.Pattern[str]:
    pieces = re.findall(r"\*\*+/?|\*|\?|\\.|\[[^\]]*\]|.", pattern, re.DOTALL)
    expression = "".join(_piece(piece, is_last=number == len(pieces)) for number, piece in enumerate(pieces, 1))
    try:
        return re.compile(f"(?s:{expression}(?:/.*)?)")
    except re.error as problem:
        raise ValueError(f"{pattern[:160]!r} is not a pattern: {problem}") from problem


def _piece(piece: str, *, is_last: bool) -> str:
    if piece.startswith("**"):
        return ".*" if is_last else "(?:.*/)?"
    if len(piece) == 1:
        return {"*": "[^/]*", "?": "[^/]", "[": "["}.get(piece) or re.escape(piece)
    return piece if piece.startswith("[") else re.escape(piece[1])
