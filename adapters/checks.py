"""Reading `serving.options`: each adapter names the keys it knows and what they may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from adapters.base import LoadFailed

Check = Callable[[object], str | None]
"""What is wrong with a value, as the words after "must be"; None: nothing."""


def check(own: Mapping[str, object], known: Mapping[str, Check], adapter: str) -> None:
    """Raises LoadFailed for a key that the adapter does not know, or a value that it cannot use."""
    for key, value in own.items():
        if key not in known:
            raise LoadFailed(
                f"serving.options.{key} is not an option of the {adapter} adapter; it knows {_listed(known)}"
            )
        if wrong := known[key](value):
            raise LoadFailed(f"serving.options.{key} is {value!r}; it must be {wrong}")


def whole(value: object) -> str | None:
    """Accepts a number of threads and the like: a whole number, not negative."""
    return (
        None if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "a whole number, 0 or more"
    )


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
    """Accepts a map with texts as keys."""
    return None if isinstance(value, Mapping) and all(isinstance(k, str) for k in value) else "a map"


def one_of(*choices: str) -> Check:
    """Accepts one of these texts."""
    return lambda value: None if value in choices else f"one of {_listed(choices)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
