"""Checks that adapters share: of the keys of `serving.options`, and of what a model file says about itself."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from adapters.base import LoadFailed
from adapters.wording import listed


class Check(NamedTuple):
    """Says whether a value is valid, and has the words after "must be" for one that is not."""

    holds: Callable[[Any], bool]
    wanted: str


WHOLE: Final = Check(lambda value: type(value) is int and value >= 0, "a whole number, 0 or more")
THREADS: Final = Check(lambda value: type(value) is int and 0 <= value <= 256, "a whole number from 0 to 256")
FLAG: Final = Check(lambda value: isinstance(value, bool), "true or false")
TEXT: Final = Check(lambda value: isinstance(value, str), "a text")
TEXTS: Final = Check(lambda value: isinstance(value, list | tuple) and all(map(TEXT.holds, value)), "a list of texts")
MAPPING: Final = Check(lambda value: isinstance(value, Mapping) and all(map(TEXT.holds, value)), "a map")


def one_of(*choices: str) -> Check:
    """Returns the check for one of these texts."""
    return Check(lambda value: value in choices, f"one of {listed(sorted(choices))}")


def check(own: Mapping[str, object], known: Mapping[str, Check], adapter: str) -> dict[str, Any]:
    """Returns the options, each of a known key and with a valid value. Raises LoadFailed."""
    for key, value in own.items():
        if key not in known:
            keys = listed(sorted(known), at_most=len(known))
            raise LoadFailed(
                f"model.parameters.serving.options.{key} is not an option of the {adapter} adapter; it knows {keys}"
            )
        if not known[key].holds(value):
            raise LoadFailed(f"model.parameters.serving.options.{key} is {value!r:.64}; it must be {known[key].wanted}")
    return dict(own)


class Damaged(ValueError):
    """A model file says what no writer of such files writes, or its parts contradict each other."""


def below(indices: Any, count: int) -> bool:
    """True if all elements of an array are at least 0 and less than `count`."""
    return bool(((indices >= 0) & (indices < count)).all())


def need(holds: Any, otherwise: str) -> None:
    """Raises Damaged with the text `otherwise`, unless `holds`."""
    if not holds:
        raise Damaged(otherwise)
