"""`model.parameters.serving` of a Kitfile: what the kit's author says to the runtime, typed strictly.

Other keys of `parameters` are the author's own. A key we do not know inside `serving` is an error that lists those we
know: a misspelt `lables` must not pass in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, TypeVar

from adapters.base import DATATYPES, Options, TensorSpec
from runtime.errors import InvalidKitfile
from runtime.serving.wording import quoted

T = TypeVar("T")
_WHERE: Final = "model.parameters.serving"


class Batching(NamedTuple):
    """How requests may be joined."""

    max_size: int
    """Rows."""
    max_delay_ms: float = 0.0


class Declared(NamedTuple):
    """What a kit declares; everything is optional."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    """Default outputs."""
    labels: tuple[str, ...] | None = None
    batching: Batching | None = None
    samples: str | None = None
    """A file inside the kit."""
    own: Mapping[str, object] = {}
    """`serving.options`: the adapter's own."""

    @classmethod
    def parse(cls, parameters: object) -> Declared:
        """What `model.parameters`, of whatever type, declares under `serving`. Raises InvalidKitfile."""
        serving = parameters.get("serving") if isinstance(parameters, Mapping) else None
        if serving is None:
            return cls()
        given = _object(serving, _WHERE)
        _only(given, _KEYS, _WHERE)
        read = {
            _KEYS[key][0]: _KEYS[key][1](value, f"{_WHERE}.{key}") for key, value in given.items() if value is not None
        }
        return cls(**read)

    def options(self, *, trust: str = "restricted", allow_globals: tuple[str, ...] = (), threads: int = 0) -> Options:
        """What an adapter gets: the kit's words and, in the arguments, the operator's."""
        return Options(inputs=self.inputs, outputs=self.outputs, labels=self.labels, trust=trust,
                       allow_globals=allow_globals, threads=threads, own=self.own)  # fmt: skip


def _wrong(where: str, wanted: str, got: object) -> InvalidKitfile:
    return InvalidKitfile(f"Kitfile: {where} must be {wanted}, got {quoted(got)}")


def _only(given: Mapping[str, object], known: Mapping[str, object] | tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            raise InvalidKitfile(f"Kitfile: {where} has an unknown key {quoted(key)}; known are {', '.join(known)}")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(where, "an object", value)
    return dict(value)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    return list(value)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "a non-empty string", value)
    return value


def _whole(value: object, where: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise _wrong(where, f"a whole number of at least {least}", value)
    return value


def _distinct(values: list[T], where: str) -> tuple[T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InvalidKitfile(f"Kitfile: {where} names {quoted(value)} twice")
    return tuple(values)


def _names(value: object, where: str) -> tuple[str, ...]:
    return _distinct([_name(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where))], where)


def _labels(value: object, where: str) -> tuple[str, ...]:
    labels = _list(value, where)
    for index, label in enumerate(labels):
        if type(label) not in (str, int):
            raise _wrong(f"{where}[{index}]", "a string", label)
    return tuple(map(str, labels))


def _inputs(value: object, where: str) -> tuple[TensorSpec, ...]:
    specs = [_input(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where))]
    _distinct([spec.name for spec in specs], where)
    return tuple(specs)


def _input(value: object, where: str) -> TensorSpec:
    given = _object(value, where)
    _only(given, ("name", "datatype", "shape", "optional"), where)
    for key in ("name", "datatype", "shape"):
        if key not in given:
            raise InvalidKitfile(f"Kitfile: {where} has no {key}")
    if given["datatype"] not in DATATYPES:
        raise _wrong(f"{where}.datatype", f"one of {', '.join(DATATYPES)}", given["datatype"])
    optional = given.get("optional", False)
    if type(optional) is not bool:
        raise _wrong(f"{where}.optional", "true or false", optional)
    shape = _list(given["shape"], f"{where}.shape")
    sizes = tuple(_whole(size, f"{where}.shape[{axis}]", -1) for axis, size in enumerate(shape))
    return TensorSpec(_name(given["name"], f"{where}.name"), given["datatype"], sizes, optional)


def _batching(value: object, where: str) -> Batching:
    given = _object(value, where)
    _only(given, ("max_size", "max_delay_ms"), where)
    if "max_size" not in given:
        raise InvalidKitfile(f"Kitfile: {where} has no max_size")
    delay = given.get("max_delay_ms", 0)
    if type(delay) not in (int, float) or not 0 <= delay < 60_000:
        raise _wrong(f"{where}.max_delay_ms", "a number of milliseconds from 0 to 60000", delay)
    return Batching(_whole(given["max_size"], f"{where}.max_size", 1), float(delay))


def _samples(value: object, where: str) -> str:
    path = PurePosixPath(_name(value, where))
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath():
        raise _wrong(where, "a path inside the kit", value)
    return str(path)


_KEYS: Final[Mapping[str, tuple[str, Callable[[object, str], Any]]]] = {
    "inputs": ("inputs", _inputs),
    "outputs": ("outputs", _names),
    "labels": ("labels", _labels),
    "batching": ("batching", _batching),
    "samples": ("samples", _samples),
    "options": ("own", _object),
}
