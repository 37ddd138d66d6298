"""`model.parameters.serving` of a Kitfile: what the kit's author tells the runtime, checked strictly.

Other keys of `parameters` are the author's own. An unknown key inside `serving` is an error that lists the known ones,
so that a misspelt `lables` is noticed.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self, TypeVar

from adapters.base import DATATYPES, Options, TensorSpec
from runtime.errors import InvalidKitfile
from runtime.serving.image_inputs import CHANNELS, LAYOUTS, RESIZES
from runtime.serving.wording import quoted

T = TypeVar("T")
_WHERE: Final = "model.parameters.serving"
_LONGEST_LABEL: Final = 256


class Batching(NamedTuple):
    """What a kit says about joining requests."""

    max_size: int  # rows
    max_delay_ms: float = 0.0


class Declared(NamedTuple):
    """What a kit declares; everything is optional."""

    options: Options = Options()  # what the adapter gets, as far as the kit says it
    batching: Batching | None = None  # how requests may be joined
    samples: str | None = None  # the path of a file in the kit
    images: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # what `image` says, by the input's name

    @classmethod
    def parse(cls, parameters: object) -> Self:
        """Returns what `model.parameters`, a value of any type, declares under `serving`. Raises InvalidKitfile."""
        serving = parameters.get("serving") if isinstance(parameters, Mapping) else None
        if serving is None:
            return cls()
        given = _object(serving, _WHERE, _KEYS)
        read = {key: _KEYS[key](value, f"{_WHERE}.{key}") for key, value in given.items() if value is not None}
        own = {"batching": read.pop("batching", None), "samples": read.pop("samples", None)}
        inputs = read.pop("inputs", ())
        images = {spec.name: image for spec, image in inputs if image is not None}
        specs = tuple(spec for spec, _ in inputs)
        return cls(Options(inputs=specs, own=read.pop("options", {}), **read), **own, images=images)


def _wrong(where: str, wanted: str, got: object) -> InvalidKitfile:
    return InvalidKitfile(f"Kitfile: {where} must be {wanted}, got {quoted(got)}")


def _object(value: object, where: str, known: Iterable[str] = (), needed: Iterable[str] = ()) -> dict[str, Any]:
    """Returns an object with all keys that are `needed`, and no other than those `known`, if any are."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(where, "an object", value)
    if known and (unknown := [key for key in value if key not in known]):
        raise InvalidKitfile(f"Kitfile: {where} has an unknown key {quoted(unknown[0])}; known are {', '.join(known)}")
    if missing := [key for key in needed if key not in value]:
        raise InvalidKitfile(f"Kitfile: {where} has no {missing[0]}")
    return dict(value)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "a non-empty string", value)
    return value


def _whole(value: object, where: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise _wrong(where, f"a whole number of at least {least}", value)
    return value


def _each(value: object, where: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(value))


def _distinct(value: object, where: str, read: Callable[[object, str], T], name: Callable[[T], str]) -> tuple[T, ...]:
    items = _each(value, where, read)
    if twice := [each for each, times in Counter(map(name, items)).items() if times > 1]:
        raise InvalidKitfile(f"Kitfile: {where} names {quoted(twice[0])} twice")
    return items


def _label(value: object, where: str) -> str:
    if type(value) not in (str, int):
        raise _wrong(where, "a string", value)
    if len(text := str(value)) > _LONGEST_LABEL:
        raise _wrong(where, f"at most {_LONGEST_LABEL} characters", len(text))
    return text


def _one_of(value: object, where: str, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise _wrong(where, f"one of {', '.join(known)}", value)
    return value


def _input(value: object, where: str) -> tuple[TensorSpec, dict[str, Any] | None]:
    """Returns an input, and what its `image` says."""
    given = _object(value, where, ("name", "datatype", "shape", "optional", "image"), ("name", "datatype", "shape"))
    datatype = _one_of(given["datatype"], f"{where}.datatype", DATATYPES)
    optional = given.get("optional", False)
    if type(optional) is not bool:
        raise _wrong(f"{where}.optional", "true or false", optional)
    sizes = _each(given["shape"], f"{where}.shape", lambda size, at: _whole(size, at, -1))
    spec = TensorSpec(_name(given["name"], f"{where}.name"), datatype, sizes, optional)
    return spec, None if given.get("image") is None else _image(given["image"], f"{where}.image")


def _image(value: object, where: str) -> dict[str, Any]:
    keys = ("size", "layout", "mode", "scale", "mean", "std", "resize")
    given = _object(value, where, keys, ("layout", "mode"))
    size = given.get("size")
    sizes = [size, size] if type(size) is int else size
    whole = None if size is None else _each(sizes, f"{where}.size", lambda each, at: _whole(each, at, 1))
    if whole is not None and len(whole) != 2:
        raise _wrong(f"{where}.size", "one number, or [HEIGHT, WIDTH]", size)
    return {
        "size": whole,
        "layout": _one_of(given["layout"], f"{where}.layout", LAYOUTS),
        "mode": _one_of(given["mode"], f"{where}.mode", CHANNELS),
        "resize": None if given.get("resize") is None else _one_of(given["resize"], f"{where}.resize", RESIZES),
        "scale": _numbers(given.get("scale", 1), f"{where}.scale", zero=False),
        "mean": _numbers(given.get("mean", 0), f"{where}.mean"),
        "std": _numbers(given.get("std", 1), f"{where}.std", zero=False),
    }


def _numbers(value: object, where: str, *, zero: bool = True) -> tuple[float, ...]:
    """Returns a number for all channels, or one for each."""

    def number(each: object, at: str) -> float:
        if isinstance(each, bool) or not isinstance(each, int | float) or not math.isfinite(each) or not (zero or each):
            raise _wrong(at, "a number" if zero else "a number other than 0", each)
        return float(each)

    return _each(value, where, number) if isinstance(value, list | tuple) else (number(value, where),)


def _batching(value: object, where: str) -> Batching:
    given = _object(value, where, Batching._fields, ("max_size",))
    delay = given.get("max_delay_ms", 0)
    if type(delay) not in (int, float) or not 0 <= delay < 60_000:
        raise _wrong(f"{where}.max_delay_ms", "a number of milliseconds from 0 to 60000", delay)
    return Batching(_whole(given["max_size"], f"{where}.max_size", 1), delay)


def _samples(value: object, where: str) -> str:
    path = PurePosixPath(_name(value, where))
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath():
        raise _wrong(where, "a path inside the kit", value)
    return str(path)


_KEYS: Final[Mapping[str, Callable[[object, str], Any]]] = {
    "inputs": lambda value, where: _distinct(value, where, _input, lambda one: one[0].name),
    "outputs": lambda value, where: _distinct(value, where, _name, str),
    "labels": lambda value, where: _each(value, where, _label),
    "batching": _batching,
    "samples": _samples,
    "options": _object,
}
