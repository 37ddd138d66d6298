"""Samples: requests with the answers that their author saw. A model that answers otherwise is not served.

The file: `{"samples": [{"request": …, "response": {"outputs": […]}, "rtol": 0, "atol": 0}, …]}`. Request and outputs
are those of the Open Inference Protocol; NaN is null or "NaN", infinities are "Infinity" and "-Infinity".
A float is right if `abs(got - want) <= atol + rtol * abs(want)`; any other value has to be equal.
"""

import errno
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
import orjson

from adapters.base import LoadFailed, TensorSpec
from adapters.values import DTYPES, Arrays
from runtime.errors import InvalidInput, InvalidKitfile, SamplesDiffer
from runtime.link.limits import Limits
from runtime.serving.protocol.json_document import kind_of
from runtime.serving.protocol.json_elements import ALIASES, FLOATS, array_of
from runtime.serving.wording import quoted

T = TypeVar("T")
_LARGEST_FILE_BYTES: Final = 64 * 2**20
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What is wrong with the kit; any other error is this machine's: too few file descriptors, too little memory."""
_NAMED: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Output(NamedTuple):
    """An output as a sample or an answer has it."""

    name: str
    datatype: str
    data: np.ndarray[Any, Any]

    @classmethod
    def read(cls, tensor: object, where: str) -> Self:
        """Returns the output that the JSON value `tensor` is. Raises InvalidKitfile, naming it as `where`."""
        name, given = _field(tensor, "name", str, where), _field(tensor, "datatype", str, where)
        shape, data = _field(tensor, "shape", list, where), _field(tensor, "data", list, where)
        if (datatype := ALIASES.get(given)) is None:
            raise InvalidKitfile(f"{where}: datatype must be one of {', '.join(DTYPES)}, got {quoted(given)}")
        is_float = datatype in FLOATS
        spec = TensorSpec(name, "FP64" if is_float else datatype, (-1,) * len(shape))
        try:
            if is_float:
                data = _without_names(data, min(len(shape), Limits().rank))
            array = array_of(spec, shape, data, Limits())
            with np.errstate(over="ignore"):
                return cls(name, datatype, array.astype(DTYPES[datatype], copy=False))
        except InvalidInput as error:
            said = str(error).removeprefix(f"input {quoted(name)}").lstrip(":, ")
            raise InvalidKitfile(f"{where}: {said.replace('FP64 wants', f'{given} wants')}") from error


class Sample(NamedTuple):
    """A request, and outputs that the model has to return for it; it may return others too."""

    request: Mapping[str, Any]
    body: bytes  # the request as JSON
    outputs: tuple[Output, ...]
    rtol: float
    atol: float

    def check(self, number: int, answer: Mapping[str, Any]) -> None:
        """Raises SamplesDiffer if the model's `answer`, a response of the protocol, is another than this sample's."""
        given = {tensor["name"]: tensor for tensor in answer["outputs"]}
        for want in self.outputs:
            if want.name not in given:
                there = ", ".join(map(repr, given))
                raise SamplesDiffer(f"sample {number}: no output {quoted(want.name)}, the model gives {there}")
            got = Output.read(given[want.name], f"answer {number}")
            shapes = [*got.data.shape], [*want.data.shape]
            for key, seen, said in (("datatype", got.datatype, want.datatype), ("shape", *shapes)):
                if seen != said:
                    raise SamplesDiffer(f"sample {number}: {key} of {want.name} is {seen}, wanted {said}")
            self._compare(number, want, got.data.ravel(), want.data.ravel())

    def _compare(self, number: int, want: Output, got: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
        is_float = want.datatype in FLOATS
        wrong = np.flatnonzero(~self._close(got, right) if is_float else got != right)
        if wrong.size:
            first = int(wrong[0])
            tolerance = f" (rtol {self.rtol:g}, atol {self.atol:g})" if is_float else ""
            raise SamplesDiffer(
                f"sample {number}: {want.name}[{first}] is {_element(got, first)}, the sample says "
                f"{_element(right, first)}{tolerance}; {wrong.size} of {got.size} values differ: "
                "not the model that its author tried"
            )

    def _close(self, got: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        left, right = got.astype(np.float64), right.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            close = np.abs(left - right) <= self.atol + self.rtol * np.abs(right)
        return np.asarray(np.where(np.isfinite(right), close, (left == right) | (np.isnan(left) & np.isnan(right))))


def read_samples(path: Path) -> tuple[Sample, ...]:
    """Returns the samples in a file. Raises InvalidKitfile if it has none, LoadFailed if this machine cannot read."""
    try:
        if not path.is_file():
            named = f"model.parameters.serving.samples names {path.name!r}"
            raise InvalidKitfile(f"{named}, which is not in the kit; pack it as a model part")
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InvalidKitfile(f"the samples in {path.name} take more than {_LARGEST_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        kind = InvalidKitfile if error.errno in _NO_FILE else LoadFailed
        raise kind(f"the samples {path.name} cannot be read: {error.strerror}") from error
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        hint = '; write null for NaN, and "Infinity"' if b"NaN" in data or b"Infinity" in data else ""
        raise InvalidKitfile(f"the samples {path.name} are not JSON: {error}{hint}") from error
    given = _field(document, "samples", list, path.name)
    return tuple(_sample(item, f"{path.name}: sample {number}") for number, item in enumerate(given, 1))


def _sample(item: object, where: str) -> Sample:
    request, response = _field(item, "request", dict, where), _field(item, "response", dict, where)
    outputs = enumerate(_field(response, "outputs", list, f"{where}: response"))
    try:
        body = orjson.dumps(request)
    except TypeError as error:  # orjson reads 1,024 levels and writes 254
        raise InvalidKitfile(f"{where}: the request is nested too deeply") from error
    right = tuple(Output.read(output, f"{where}: outputs[{index}]") for index, output in outputs)
    return Sample(request, body, right, _tolerance(item, "rtol", where), _tolerance(item, "atol", where))


def common_inputs(samples: Sequence[Sample]) -> tuple[TensorSpec, ...]:
    """Returns the inputs that the requests have in common, axis 0 free; what is no tensor is left to the replay.

    If all requests have a single input, it is the same one: a request may give it any name.
    """
    seen: dict[str, tuple[str, list[list[int]]]] = {}
    requests = [list(_tensors(sample.request)) for sample in samples]
    is_single = all(len(tensors) == 1 for tensors in requests)
    for tensors in requests:
        for name, datatype, shape in tensors:
            key = next(iter(seen), name) if is_single else name
            seen.setdefault(key, (datatype, []))[1].append(shape)
    return tuple(TensorSpec(name, datatype, _common(shapes)) for name, (datatype, shapes) in seen.items())


def first_inputs(samples: Sequence[Sample]) -> Arrays:
    """Returns the inputs of the first sample by name; none if they are no plain tensors: its replay says why."""
    arrays: Arrays = {}
    try:
        for tensor in samples[0].request.get("inputs", ()) if samples else ():
            spec = TensorSpec(tensor["name"], ALIASES[tensor["datatype"]], (-1,) * len(tensor["shape"]))
            arrays[spec.name] = array_of(spec, tensor["shape"], tensor["data"], Limits())
    except (InvalidInput, KeyError, TypeError):
        return {}
    return arrays


def _tensors(request: Mapping[str, Any]) -> Iterator[tuple[str, str, list[int]]]:
    inputs = request.get("inputs")
    for tensor in inputs if isinstance(inputs, list) else ():
        match tensor:
            case {"name": str(name), "datatype": str(datatype), "shape": list(shape)} if datatype in ALIASES:
                if all(type(size) is int and size >= 0 for size in shape):
                    yield name, ALIASES[datatype], shape


def _common(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    axes = zip(*shapes, strict=False)
    return tuple(sizes[0] if axis and len(set(sizes)) == 1 else -1 for axis, sizes in enumerate(axes))


def _field(given: object, key: str, kind: type[T], where: str) -> T:
    """Returns the member `key` of the JSON object `given`. Raises InvalidKitfile."""
    if not isinstance(given, dict):
        raise InvalidKitfile(f"{where} must be an object, got {kind_of(given)}")
    value = given.get(key)
    if not isinstance(value, kind):
        got = f"must be {kind_of(kind())}, got {kind_of(value)}" if key in given else "is missing"
        raise InvalidKitfile(f"{where}: {key} {got}")
    return value


def _tolerance(given: Any, key: str, where: str) -> float:
    value = given.get(key)
    if value is None:
        return 0.0
    if type(value) not in (int, float) or value < 0:
        raise InvalidKitfile(f"{where}: {key} must be a number of at least 0, got {quoted(value)}")
    return float(value)


def _without_names(data: list[Any], depth: int) -> list[Any]:
    """Returns `data`, nested as deep as `depth`, with floats in place of NaN, Infinity and -Infinity."""
    if {list, str}.isdisjoint(map(type, data)):
        return data
    return [
        _NAMED.get(value, value) if type(value) is str
        else _without_names(value, depth - 1) if type(value) is list and depth
        else value
        for value in data
    ]  # fmt: skip


def _element(flat: np.ndarray[Any, Any], index: int) -> str:
    value = flat[index : index + 1].tolist()[0]
    return repr(value.decode() if isinstance(value, bytes) else value)[:64]
