"""A JSON request → named arrays that fit the model, or one line that says why not (docs/protocol.md, 3)."""

from collections.abc import Mapping
from typing import Any, Final

from adapters.base import TensorSpec
from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature
from runtime.serving.media import Head
from runtime.serving.protocol.classes import wanted_classes
from runtime.serving.protocol.json_document import kind_of, read_document
from runtime.serving.protocol.json_elements import ALIASES, array_of
from runtime.serving.protocol.v2.encode import NAME, Asked
from runtime.serving.served import Served
from runtime.serving.wording import listed, quoted, shown

BINARY_HEADER: Final = b"inference-header-content-length"
_FIELDS: Final = ("name", "shape", "datatype", "data")
_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")


def decode(head: Head, body: bytes, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    if BINARY_HEADER in head:
        raise InvalidInput("binary tensor data is not supported yet; send JSON without Inference-Header-Content-Length")
    signature, limits = served.signature, served.limits
    try:
        document = read_document(body, limits.json_depth)
        if "parameters" in document:
            _check_parameters(document["parameters"], "request")
        inputs = _inputs(document.get("inputs"), signature, limits)
        wanted, form = _wanted(document["outputs"], served) if "outputs" in document else (signature.default, None)
        return Request(inputs, wanted, _id(document["id"], limits) if "id" in document else None, form)
    except InputAtFault as fault:
        fault.advice = served.forms[NAME].advice
        raise


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
    arrays: Arrays = {}
    if signature.only is not None and len(given) == 1:
        _add(arrays, given[0], 0, signature.only, signature, limits)
        return arrays
    for index, entry in enumerate(given):
        _add(arrays, entry, index, None, signature, limits)
    signature.check_complete(arrays)
    return arrays


def _add(arrays: Arrays, entry: Any, index: int, only: TensorSpec | None, signature: Signature, limits: Limits) -> None:
    """Reads one tensor: the input of its name, or the model's `only` one, whatever its name."""
    if type(entry) is not dict:
        raise InputAtFault(f"inputs[{index}] must be an object, got {kind_of(entry)}")
    if "parameters" in entry:
        _check_parameters(entry["parameters"], f"inputs[{index}]")
    name = entry.get("name")
    if type(name) is not str:
        raise _bad_field(entry, index, "name")
    spec = only or signature.input(name)
    if spec.name in arrays:
        raise InputAtFault(f"duplicate input {quoted(name)}")
    try:
        shape, datatype, data = entry["shape"], entry["datatype"], entry["data"]
    except KeyError as missing:
        raise _bad_field(entry, index, missing.args[0]) from None
    if datatype != spec.datatype:
        _check_datatype(datatype, spec)
    arrays[spec.name] = array_of(spec, shape, data, limits)


def _bad_field(entry: Mapping[str, object], index: int, field: str) -> InputAtFault:
    name = entry.get("name")
    which = f"input {shown(name)}" if type(name) is str else f"inputs[{index}]"
    if field in entry:
        return InputAtFault(f"{which}: {field} must be a string, got {kind_of(entry[field])}")
    return InputAtFault(f"{which} has no {field}; an input has {', '.join(_FIELDS)}")


def _check_datatype(datatype: object, spec: TensorSpec) -> None:
    known, name = ALIASES.get(datatype) if type(datatype) is str else None, quoted(spec.name)
    if known is None:
        raise InputAtFault(f"input {name}: unknown datatype {shown(datatype)}; expected {spec.datatype}")
    if known != spec.datatype:
        raise InputAtFault(f"input {name}: expected datatype {spec.datatype}, got {known}")


def _wanted(given: object, served: Served) -> tuple[tuple[str, ...], Asked | None]:
    signature = served.signature
    if given is None or given == []:
        return signature.default, None
    if type(given) is not list:
        raise InvalidInput(f"outputs must be an array of objects, got {kind_of(given)}")
    wanted: dict[str, None] = {}
    classes: dict[str, int] = {}
    for index, entry in enumerate(given):
        name = _output(entry, index)
        if name not in signature.outputs:
            raise InvalidInput(f"unknown output {shown(name)}; the model has {listed(sorted(signature.outputs))}")
        if name in wanted:
            raise InvalidInput(f"duplicate output {quoted(name)}")
        wanted[name] = None
        if "classification" in (parameters := entry.get("parameters", ())):
            spec = next(spec for spec in served.model.outputs if spec.name == name)
            classes[name] = wanted_classes(parameters["classification"], spec)
    return tuple(wanted), Asked(classes) if classes else None


def _output(entry: object, index: int) -> str:
    if type(entry) is not dict:
        raise InvalidInput(f"outputs[{index}] must be an object, got {kind_of(entry)}")
    name = entry.get("name")
    if type(name) is not str:
        wrong = " has no name" if name is None else ": name must be a string"
        raise InvalidInput(f"outputs[{index}]{wrong}")
    if "parameters" in entry:
        _check_parameters(entry["parameters"], f"outputs[{index}]")
    return name


def _check_parameters(given: object, where: str) -> None:
    """Refuses parameters that would change the answer; others are let through, since the protocol is open."""
    if type(given) is not dict:
        raise InvalidInput(f"{where}: parameters must be an object, got {kind_of(given)}")
    for key, value in given.items():
        if key.startswith("shared_memory_"):
            raise InvalidInput(f"{where}: parameter {shown(key)}: shared memory is not supported; send the data itself")
        if key == "binary_data_size":
            raise InvalidInput(f"{where}: binary tensor data is not supported yet; send the data as JSON")
        if (key == "classification" and not where.startswith("outputs")) or (key in _SEQUENCES and value):
            raise InvalidInput(f"{where}: invalid parameter {quoted(key)}: not supported")
        if type(value) is list or value is None:
            raise InvalidInput(f"{where}: invalid parameter {shown(key)}: must be a string, number or boolean")
