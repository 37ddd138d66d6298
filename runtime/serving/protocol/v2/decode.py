"""A request → named arrays that fit the model, or one line that says why not (docs/protocol.md, 3 to 5)."""

import re
from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array, Arrays
from runtime.errors import InputAtFault, InvalidInput, TooLarge
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature
from runtime.serving.media import Body, Head
from runtime.serving.protocol.classes import wanted_classes
from runtime.serving.protocol.content_types import carried, of_outputs, of_request, undone
from runtime.serving.protocol.exact import array_of_announced
from runtime.serving.protocol.fields import check_parameters, known_datatype, timeout_seconds, valid_id, wanted_outputs
from runtime.serving.protocol.json_document import Document, kind_of
from runtime.serving.protocol.json_elements import array_of, count_of
from runtime.serving.protocol.json_numbers import LONG, read_tensors
from runtime.serving.protocol.rows import columns_of, matrix_of
from runtime.serving.protocol.tensor_bytes import array_from
from runtime.serving.protocol.v2.encode import BINARY_HEADER, NAME, Asked
from runtime.serving.protocol.v2.layout import Layouts, keep, layout_of
from runtime.serving.protocol.v2.template import Templates, cut, template_of
from runtime.serving.served import Served
from runtime.serving.wording import listed, quoted, shown

_FIELDS: Final = ("name", "shape", "datatype", "data")
_SCALARS: Final = (str, int, float, bool)
_BINARY: Final = object()
"""Stands for the data of an input that is behind the JSON."""
_NO_TENSOR: Final = rb'\s*\{\s*"inputs"\s*:\s*\[\s*[^{\s]'
"""The beginning of a body that no longer array would make right."""
_DIGITS: Final = 18
"""More than any body has bytes."""


def decode(head: Head, body: Any, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    try:
        if BINARY_HEADER in head:
            return _binary(*_split(head, body), served)
        return _short(body, served) if len(body) <= LONG else _read(body, None, served)
    except InputAtFault as fault:
        fault.advice = served.forms[NAME].advice
        raise


def _short(body: bytes, served: Served) -> Request:
    templates: Templates = served.forms[NAME].templates
    around, at, end = cut(body)
    template = templates.get(around)
    if template is not None and template.at == at and (request := template.request(body[at:end])) is not None:
        return request
    request = _read(body, None, served)
    if around not in templates:
        keep(templates, around, request, lambda: template_of(body, at, end, request, served.signature))
    return request


def _read(text: bytes, tail: "Tail | None", served: Served) -> Request:
    signature, limits = served.signature, served.limits
    try:
        document = read_tensors(text, limits.json_depth, limits.json_bytes)
    except TooLarge as error:
        if re.match(_NO_TENSOR, text):
            raise InputAtFault("inputs[0] must be an object") from error
        raise
    parameters = _parameters(document, "request") if "parameters" in document else {}
    inputs = _inputs(document.get("inputs"), served, tail, parameters)
    wanted, form, seconds = signature.default, None, 0.0
    if "outputs" in document:
        wanted = _wanted(document["outputs"], signature)
    if parameters or "outputs" in document:
        form = _asked(document, parameters, wanted, served)
        seconds = timeout_seconds(parameters)
    return Request(inputs, wanted, _id(document["id"], limits) if "id" in document else None, form, seconds)


def _binary(text: bytes, data: memoryview, served: Served) -> Request:
    if not text:
        return _raw(data, served)
    if data.readonly:
        data = memoryview(bytearray(data))  # views of it may be written: one copy for all tensors
    layouts: Layouts = served.forms[NAME].layouts
    if (layout := layouts.get(text)) is not None and layout.length == len(data):
        return layout.request(data)
    request = _read(text, Tail(data), served)
    if text not in layouts:
        keep(layouts, text, request, lambda: layout_of(data, request))
    return request


def binary_at(head: Head) -> int | None:
    """Returns where the tensors begin behind the JSON, -1 if the header does not say it, None without the header."""
    given = head.get(BINARY_HEADER)
    if given is None:
        return None
    return int(given) if given.isdigit() and len(given) <= _DIGITS else -1


def text_bytes(head: Head, body: Body) -> int:
    """Returns how many bytes of a body are JSON; -1 if the header does not say it."""
    at = binary_at(head)
    return len(body) if at is None else at


class Tail:
    """The bytes behind the JSON, which the inputs take one after another."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """Returns how many bytes no input has taken yet."""
        return len(self._data) - self._at

    def take(self, spec: TensorSpec, size: int) -> memoryview:
        """Returns the next `size` bytes, which are the input `spec`. Raises InputAtFault."""
        if size > self.left:
            said = f"binary size mismatch: binary_data_size is {shown(size)}, {self.left} bytes are left"
            raise InputAtFault(f"input {quoted(spec.name)}: {said}")
        self._at += size
        return self._data[self._at - size : self._at]

    def check_end(self) -> None:
        """Raises InputAtFault if something is left."""
        if self.left:
            raise InputAtFault(f"binary size mismatch: {self.left} bytes are left behind the last input")


def _split(head: Head, body: Body) -> tuple[bytes, memoryview]:
    at = binary_at(head)
    if at is None or not 0 <= at <= len(body):
        given = shown(head[BINARY_HEADER].decode("latin-1"))
        wanted = f"it is the number of bytes of JSON, at most the {len(body)} of this body"
        raise InvalidInput(f"invalid header Inference-Header-Content-Length {given}; {wanted}")
    whole = memoryview(body)
    return bytes(whole[:at]), whole[at:]


def _raw(data: memoryview, served: Served) -> Request:
    """Returns the request of a body that is nothing but the bytes of the model's one input."""
    signature, spec = served.signature, served.signature.only
    if spec is None:
        said = "a raw body (Inference-Header-Content-Length: 0) is for models with one input"
        raise InputAtFault(f"{said}; expected {listed(signature.inputs)}")
    form, shape = Asked(binary=frozenset(signature.outputs)), list(spec.shape)
    free = [axis for axis, size in enumerate(shape) if size < 0]
    if spec.datatype == "BYTES":  # as Triton has it: one element, and no length in front
        shape = [1 if size < 0 else size for size in shape]
        if prod(shape) != 1:
            raise InputAtFault(f"a raw body of BYTES is one element; expected shape {quoted(list(spec.shape))}")
        one = np.empty(shape, np.object_)
        one.fill(bytes(data))
        return Request({spec.name: one}, signature.default, None, form)
    if len(free) > 1 and served.model.batch:
        shape[free.pop(0)] = 1
    if len(free) > 1:
        said = f"at most one dimension may be unknown, the model has {quoted(list(spec.shape))}"
        raise InputAtFault(f"the shape of a raw body is not known: {said}; send the shape in JSON")
    if free:
        shape[free[0]] = len(data) // max(1, DTYPES[spec.datatype].itemsize * prod(s for s in shape if s >= 0))
    array = array_from(spec, spec.datatype, shape, data, served.limits)
    return Request({spec.name: array}, signature.default, None, form)


def _id(given: object, limits: Limits) -> str | None:
    if given is None:
        return None
    if type(given) is not str:
        raise InvalidInput(f"id must be a string, got {kind_of(given)}")
    return valid_id(given, limits)


def _inputs(given: object, served: Served, tail: Tail | None, parameters: Mapping[str, object]) -> Arrays:
    signature, limits = served.signature, served.limits
    if type(given) is not list or (not given and signature.inputs):
        got = "nothing" if given is None else "none" if given == [] else kind_of(given)
        raise InputAtFault(f"inputs must be a non-empty array of tensors, got {got}")
    if signature.also is not None:
        signature = signature.meant([entry.get("name") for entry in given if type(entry) is dict])
    if len(given) > limits.inputs and len(given) > (most := max(limits.inputs, 2 * len(signature.inputs))):
        raise InputAtFault(f"too many inputs: {len(given)}, at most {most}")
    arrays: Arrays = {}
    if parameters.get("content_type") == "pd":
        names = [entry.get("name") for entry in given if type(entry) is dict]
        columns = columns_of(signature, [name for name in names if type(name) is str])
        if columns is not None and len(columns) == len(given):
            for index, entry in enumerate(given):
                _add(arrays, entry, index, columns[entry["name"]], signature, limits, tail)
            assert signature.only is not None
            arrays = matrix_of(arrays, signature.only, served.model.properties)
            given = ()
    only = signature.only if len(given) == 1 else None
    for index, entry in enumerate(given):
        _add(arrays, entry, index, only, signature, limits, tail)
    if tail is not None:
        tail.check_end()
    if only is None:
        signature.check_complete(arrays)
    return arrays


def _add(arrays: Arrays, entry: Any, index: int, only: TensorSpec | None, signature: Signature, limits: Limits,
         tail: Tail | None) -> None:  # fmt: skip
    """Reads one tensor: the input of its name, or the `only` one that is meant, whatever its name."""
    if type(entry) is not dict:
        raise InputAtFault(f"inputs[{index}] must be an object, got {kind_of(entry)}")
    parameters = _parameters(entry, f"inputs[{index}]") if "parameters" in entry else {}
    name = entry.get("name")
    if type(name) is not str:
        raise _bad_field(entry, index, "name")
    spec = only or signature.input(name)
    if spec.name in arrays:
        raise InputAtFault(f"duplicate input {quoted(name)}")
    try:
        shape, datatype, data = entry["shape"], entry["datatype"], entry["data"]
    except KeyError as missing:
        if missing.args[0] != "data" or (tail is None and "binary_data_size" not in parameters):
            raise _bad_field(entry, index, missing.args[0]) from None
        data = _BINARY
    if parameters or data is _BINARY:
        arrays[spec.name] = _with_parameters(spec, entry, data, parameters, limits, tail)
    elif datatype == spec.datatype:
        arrays[spec.name] = array_of(spec, shape, data, limits)
    else:
        arrays[spec.name] = array_of_announced(spec, known_datatype(datatype, spec), shape, data, limits)


def _with_parameters(spec: TensorSpec, entry: Mapping[str, Any], data: object, parameters: Mapping[str, object],
                     limits: Limits, tail: Tail | None) -> Array:  # fmt: skip
    shape, datatype, size = entry["shape"], known_datatype(entry["datatype"], spec), parameters.get("binary_data_size")
    content_type = parameters.get("content_type") if datatype == "BYTES" else None
    to = carried(spec, content_type)
    if data is not _BINARY:
        if size is not None:
            raise InputAtFault(f"input {quoted(spec.name)}: ambiguous data: it has both data and binary_data_size")
        array = array_of_announced(to, datatype, shape, data, limits)
    elif tail is None:
        said = "binary_data_size needs the header Inference-Header-Content-Length: the number of bytes of JSON"
        raise InputAtFault(f"input {quoted(spec.name)}: {said}")
    else:
        if size is None:  # it may be left out where it is known, or nothing else can follow
            size = tail.left if datatype == "BYTES" else count_of(spec, shape, limits) * DTYPES[datatype].itemsize
        if type(size) is not int or size < 0:
            said = f"binary_data_size must be a whole number of bytes, got {shown(size)}"
            raise InputAtFault(f"input {quoted(spec.name)}: {said}")
        array = array_from(to, datatype, shape, tail.take(spec, size), limits)
    return array if content_type is None else undone(spec, content_type, array, limits)


def _bad_field(entry: Mapping[str, object], index: int, field: str) -> InputAtFault:
    name = entry.get("name")
    which = f"input {shown(name)}" if type(name) is str else f"inputs[{index}]"
    if field in entry:
        return InputAtFault(f"{which}: {field} must be a string, got {kind_of(entry[field])}")
    return InputAtFault(f"{which} has no {field}; an input has {', '.join(_FIELDS)}")


def _wanted(given: object, signature: Signature) -> tuple[str, ...]:
    if given is None:
        return signature.default
    if type(given) is not list:
        raise InvalidInput(f"outputs must be an array of objects, got {kind_of(given)}")
    return wanted_outputs((_output(entry, index) for index, entry in enumerate(given)), signature)


def _output(entry: object, index: int) -> str:
    if type(entry) is not dict:
        raise InvalidInput(f"outputs[{index}] must be an object, got {kind_of(entry)}")
    name = entry.get("name")
    if type(name) is not str:
        wrong = " has no name" if name is None else ": name must be a string"
        raise InvalidInput(f"outputs[{index}]{wrong}")
    _parameters(entry, f"outputs[{index}]")
    return name


def _asked(document: Document, parameters: Mapping[str, Any], wanted: tuple[str, ...], served: Served) -> Asked | None:
    """Returns the form that the answer was asked in, None for the plain one."""
    binary, whole = _flag(parameters, "binary_data_output", "request"), of_request(parameters)
    own = {entry["name"]: _parameters(entry, "outputs") for entry in document.get("outputs") or ()}
    flags = {name: _flag(of, "binary_data", f"output {quoted(name)}", default=binary) for name, of in own.items()}
    as_bytes = frozenset(name for name in wanted if flags.get(name, binary))
    types, classes = of_outputs(own), wanted_classes(own, served.model.outputs)
    return Asked(as_bytes, types, whole, classes) if as_bytes or types or whole or classes else None


def _flag(parameters: Mapping[str, Any], key: str, where: str, *, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise InvalidInput(f"{where}: invalid parameter {quoted(key)}: must be true or false, got {shown(value)}")
    return value


def _parameters(of: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the texts, numbers and booleans among the parameters of a request, an input or an output. null is absent,
    as from clients that send every field. Raises InvalidInput for what would change the answer and is not supported."""
    given = of.get("parameters")
    if given is None:
        return {}
    if type(given) is not dict:
        raise InvalidInput(f"{where}: parameters must be an object, got {kind_of(given)}")
    check_parameters(given, where)
    return {key: value for key, value in given.items() if type(value) in _SCALARS}
