"""Checks that adapters share: of the keys of `serving.options`, and of what a model file says about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters.base import LoadFailed
from adapters.wording import listed

Check = Callable[[object], str | None]
"""Returns what is wrong with a value, as the words after "must be"; None: nothing."""


def check(own: Mapping[str, object], known: Mapping[str, Check], adapter: str) -> dict[str, Any]:
    """Returns the options, each of a known key and with a valid value. Raises LoadFailed."""
    for key, value in own.items():
        if key not in known:
            keys = listed(sorted(known), at_most=len(known))
            raise LoadFailed(f"serving.options.{key} is not an option of the {adapter} adapter; it knows {keys}")
        if wrong := known[key](value):
            raise LoadFailed(f"serving.options.{key} is {value!r:.64}; it must be {wrong}")
    return dict(own)


def whole(value: object) -> str | None:
    """Accepts 0 and positive integers, such as a number of threads."""
    return None if type(value) is int and value >= 0 else "a whole number, 0 or more"


def flag(value: object) -> str | None:
    """Accepts true and false."""
    return None if isinstance(value, bool) else "true or false"


def text(value: object) -> str | None:
    """Accepts any text."""
    return None if isinstance(value, str) else "a text"


def texts(value: object) -> str | None:
    """Accepts a list of texts."""
    return None if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value) else "a list of texts"


def mapping(value: object) -> str | None:
    """Accepts an object with texts as keys."""
    return None if isinstance(value, Mapping) and all(isinstance(k, str) for k in value) else "a map"


def one_of(*choices: str) -> Check:
    """Accepts one of these texts."""
    return lambda value: None if value in choices else f"one of {listed(sorted(choices))}"


class Damaged(ValueError):
    """Parts of a model file contradict each other."""


def need(holds: Any, otherwise: str) -> None:
    """Raises Damaged with the text `otherwise`, unless `holds`."""
    if not holds:
        raise Damaged(otherwise)
