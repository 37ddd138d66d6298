"""A JSON request → named arrays that fit the model, or one line that says why not (docs/protocol.md, 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.errors import InvalidInput
from runtime.serving.protocol.datatypes import ALIASES
from runtime.serving.protocol.v2.document import InputAtFault, kind_of, read_document
from runtime.serving.protocol.v2.elements import array_of
from runtime.serving.wording import listed, shown

if TYPE_CHECKING:
    from adapters.base import Arrays, Model, TensorSpec
    from runtime.serving.engine.limits import Limits

_FIELDS = ("name", "shape", "datatype", "data")
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")


class Request(NamedTuple):
    """What a client asks of a model, checked against the model's signature."""

    id: str | None
    inputs: Arrays
    wanted: tuple[str, ...]
    """Output names, in the order of the answer."""

    @property
    def rows(self) -> int:
        """Length of the first input's first axis; 1 for a scalar."""
        for array in self.inputs.values():
            return len(array) if array.ndim else 1
        return 0


class Signature(NamedTuple):
    """What a model takes and gives, laid out for looking things up."""

    inputs: Mapping[str, TensorSpec]
    required: tuple[str, ...]
    only: TensorSpec | None
    """The one input of a model that has just one: whatever a client calls it, it is meant."""
    outputs: frozenset[str]
    default: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> Signature:
        """The signature of `model`."""
        names = tuple(spec.name for spec in model.outputs)
        return cls(
            inputs={spec.name: spec for spec in model.inputs},
            required=tuple(spec.name for spec in model.inputs if not spec.optional),
            only=model.inputs[0] if len(model.inputs) == 1 else None,
            outputs=frozenset(names),
            default=names if model.default_outputs is None else model.default_outputs,
        )


def decode(body: bytes, signature: Signature, limits: Limits) -> Request:
    """The request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    document = read_document(body, limits.json_depth)
    if "parameters" in document:
        _check_parameters(document["parameters"], "request")
    inputs = _inputs(document.get("inputs"), signature, limits)
    wanted = _wanted(document["outputs"], signature) if "outputs" in document else signature.default
    return Request(_id(document["id"], limits) if "id" in document else None, inputs, wanted)


def _id(given: object, limits: Limits) -> str | None:
    if given is None:
        return None
    if type(given) is not str:
        raise InvalidInput(f"id must be a string, got {kind_of(given)}")
    if len(given.encode()) > limits.id_bytes:
        raise InvalidInput(f"id too long: {len(given.encode())} bytes, at most {limits.id_bytes}")
    return given


def _inputs(given: object, signature: Signature, limits: Limits) -> Arrays:
    if type(given) is not list or not given:
        got = "nothing" if given is None else "none" if given == [] else kind_of(given)
        raise InputAtFault(f"inputs must be a non-empty array of tensors, got {got}")
    if len(given) > limits.inputs:
        raise InputAtFault(f"too many inputs: {len(given)}, at most {limits.inputs}")
    if signature.only is not None and len(given) == 1:
        return {signature.only.name: _tensor(given[0], 0, signature.only, limits)}
    arrays: Arrays = {}
    for index, entry in enumerate(given):
        spec = _spec(entry, index, signature, arrays)
        arrays[spec.name] = _tensor(entry, index, spec, limits)
    if missing := [name for name in signature.required if name not in arrays]:
        raise InputAtFault(
            f"missing input {listed(missing)}; expected {listed(signature.inputs)}, got {listed(arrays)}"
        )
    return arrays


def _spec(entry: object, index: int, signature: Signature, seen: Arrays) -> TensorSpec:
    if type(entry) is not dict:
        raise InputAtFault(f"inputs[{index}] must be an object, got {kind_of(entry)}")
    name = entry.get("name")
    if type(name) is not str:
        raise _bad_field(entry, index, "name")
    if name not in signature.inputs:
        raise InputAtFault(f"unknown input {shown(name)}; expected {listed(signature.inputs)}")
    if name in seen:
        raise InputAtFault(f"duplicate input {shown(name)}")
    return signature.inputs[name]


def _tensor(entry: Any, index: int, spec: TensorSpec, limits: Limits) -> Any:
    if type(entry) is not dict:
        raise InputAtFault(f"inputs[{index}] must be an object, got {kind_of(entry)}")
    if "parameters" in entry:
        _check_parameters(entry["parameters"], f"inputs[{index}]")
    try:
        name, shape, datatype, data = entry["name"], entry["shape"], entry["datatype"], entry["data"]
    except KeyError as missing:
        raise _bad_field(entry, index, missing.args[0]) from None
    if type(name) is not str:
        raise _bad_field(entry, index, "name")
    if datatype != spec.datatype:
        _check_datatype(name, datatype, spec)
    return array_of(name, spec.datatype, shape, _count(name, shape, spec, limits), data)


def _bad_field(entry: Mapping[str, object], index: int, field: str) -> InputAtFault:
    name = entry.get("name")
    which = f"input {shown(name)}" if type(name) is str else f"inputs[{index}]"
    if field in entry:
        return InputAtFault(f"{which}: {field} must be a string, got {kind_of(entry[field])}")
    return InputAtFault(f"{which} has no {field}; an input has {', '.join(_FIELDS)}")


def _check_datatype(name: str, datatype: object, spec: TensorSpec) -> None:
    known = ALIASES.get(datatype) if type(datatype) is str else None
    if known is None:
        raise InputAtFault(f"input {shown(name)}: unknown datatype {shown(datatype)}; expected {spec.datatype}")
    if known != spec.datatype:
        raise InputAtFault(f"input {shown(name)}: expected datatype {spec.datatype}, got {known}")


def _count(name: str, shape: Any, spec: TensorSpec, limits: Limits) -> int:
    """Elements of `shape`, once every dimension is one and fits the model's."""
    if type(shape) is not list:
        raise InputAtFault(
            f"input {shown(name)}: shape must be an array of non-negative integers, got {kind_of(shape)}"
        )
    if len(shape) > limits.rank:
        raise InputAtFault(f"input {shown(name)}: too many dimensions: {len(shape)}, at most {limits.rank}")
    count, fits, empty = 1, len(shape) == len(spec.shape), False
    for axis, size in enumerate(shape):
        if type(size) is not int or size < 0:
            raise _bad_dimension(name, axis, size)
        if size == 0:  # kept out of the product: a zero must not hide a dimension that nothing can hold
            empty = True
        else:
            count *= size
        fits = fits and spec.shape[axis] in (size, -1)
    if count > limits.elements:
        raise InputAtFault(
            f"input {shown(name)}: element count too large: shape {shown(shape)}, at most {limits.elements}"
        )
    if not fits:
        raise InputAtFault(
            f"input {shown(name)}: expected shape {shown(list(spec.shape))} (-1: any), got {shown(shape)}"
        )
    return 0 if empty else count


def _bad_dimension(name: str, axis: int, size: object) -> InputAtFault:
    if type(size) is float and size >= 2**63:  # an integer too large for the parser comes as a float
        return InputAtFault(f"input {shown(name)}: element count too large: dimension {axis} is {shown(size)}")
    return InputAtFault(f"input {shown(name)}: shape must be non-negative integers, dimension {axis} is {shown(size)}")


def _wanted(given: object, signature: Signature) -> tuple[str, ...]:
    if given is None or given == []:
        return signature.default
    if type(given) is not list:
        raise InvalidInput(f"outputs must be an array of objects, got {kind_of(given)}")
    wanted: dict[str, None] = {}
    for index, entry in enumerate(given):
        name = _output(entry, index)
        if name not in signature.outputs:
            raise InvalidInput(f"unknown output {shown(name)}; the model has {listed(sorted(signature.outputs))}")
        if name in wanted:
            raise InvalidInput(f"duplicate output {shown(name)}")
        wanted[name] = None
    return tuple(wanted)


def _output(entry: object, index: int) -> str:
    if type(entry) is not dict:
        raise InvalidInput(f"outputs[{index}] must be an object, got {kind_of(entry)}")
    name = entry.get("name")
    if type(name) is not str:
        raise InvalidInput(
            f"outputs[{index}] has no name" if name is None else f"outputs[{index}]: name must be a string"
        )
    if "parameters" in entry:
        _check_parameters(entry["parameters"], f"outputs[{index}]")
    return name


def _check_parameters(given: object, where: str) -> None:
    """Unknown parameters are let through (the protocol is open); those that would change the answer are not ignored."""
    if type(given) is not dict:
        raise InvalidInput(f"{where}: parameters must be an object, got {kind_of(given)}")
    for key, value in given.items():
        if key.startswith("shared_memory_"):
            raise InvalidInput(f"{where}: parameter {shown(key)}: shared memory is not supported; send the data itself")
        if key == "binary_data_size":
            raise InvalidInput(f"{where}: binary tensor data is not supported yet; send the data as JSON")
        if key == "classification" or (key in _SEQUENCES and value):
            raise InvalidInput(f"{where}: invalid parameter {shown(key)}: not supported")
        if type(value) is list or value is None:
            raise InvalidInput(f"{where}: invalid parameter {shown(key)}: must be a string, number or boolean")
