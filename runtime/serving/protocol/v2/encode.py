"""Named arrays → an answer (docs/protocol.md, 3 to 5): in JSON flat data, in the order asked; example requests."""

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from adapters.base import Model, TensorSpec
from adapters.values import Arrays
from runtime.errors import InvalidInput
from runtime.serving.engine.request import Request
from runtime.serving.protocol.classes import classified
from runtime.serving.protocol.content_types import of_answer, of_output, written
from runtime.serving.protocol.tensor_bytes import as_bytes, bytes_from
from runtime.serving.protocol.v2.layout import Layouts
from runtime.serving.protocol.v2.template import Templates
from runtime.serving.served import Served
from runtime.serving.statuses import JSON, Header, Response
from runtime.serving.wording import quoted

NAME: Final = "v2_json"
BINARY_HEADER: Final = b"inference-header-content-length"
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_SHORT: Final = 65_536
"""Outputs up to this are copied behind the JSON: one short write costs less than several."""
_FEW: Final = 64
_LONG: Final = 65_536
LONGEST_SHOWN: Final = 2048
_NAMES: Final = {float("inf"): b'"Infinity"', float("-inf"): b'"-Infinity"'}
_AS_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


class Form(NamedTuple):
    """What does not change from request to request of one model: in `served.forms[NAME]`."""

    headers: tuple[Header, ...]
    binary_headers: tuple[Header, ...]
    head: bytes
    model: Mapping[str, str]
    """What `head` says."""
    outputs: Mapping[str, bytes]
    """By name: the text before the shape."""
    datatypes: Mapping[str, str]
    advice: str
    layouts: Layouts
    """By the JSON in front of binary tensors that asked for it: clients send the same again and again."""
    templates: Templates

    @classmethod
    def of(cls, served: Served) -> "Form":
        """Returns the form of `served`."""
        model = {"model_name": served.name, "model_version": served.provenance.versions[0]}
        outputs = {spec.name: _before_shape(spec.name, spec.datatype) for spec in served.model.outputs}
        head = orjson.dumps(model)[:-1] + b',"id":'
        datatypes = {spec.name: spec.datatype for spec in served.model.outputs}
        binary, text = (served.stamped((header,)) for header in (_OCTETS, JSON))  # the usual ones last
        return cls(text, binary, head, model, outputs, datatypes, advice(served), {}, {})


def _before_shape(name: str, datatype: str) -> bytes:
    return orjson.dumps({"name": name, "datatype": datatype})[:-1] + b',"shape":'


class Asked(NamedTuple):
    """How a request wants its answer, where that is not JSON alone: `Request.form`."""

    binary: frozenset[str]
    """The outputs that are wanted as bytes."""
    content_types: Mapping[str, str] = {}
    """What outputs are wanted as, by name; MLServer's word."""
    content_type: str = ""
    """What the request came as."""
    classes: Mapping[str, int] = {}
    """How many classes are wanted of an output, by name."""


def encode(served: Served, request: Request, outputs: Arrays) -> Response:
    """Returns the answer. Raises InvalidInput if a BYTES output is not text, which JSON cannot carry."""
    if request.form is not None:
        return _as_asked(served, request, outputs, request.form)
    form: Form = served.forms[NAME]
    if (text := _few(form, request, outputs)) is not None:
        return Response(200, form.headers, text)
    parts = [form.head, orjson.dumps(request.id)]
    before = b',"outputs":['
    for name in request.wanted:
        array = outputs[name]
        parts += (before, form.outputs[name], orjson.dumps(array.shape), b',"data":', _data(name, array), b"}")
        before = b","
    parts.append(b"]}")
    return Response(200, form.headers, b"".join(parts))


def _few(form: Form, request: Request, outputs: Arrays) -> bytes | None:
    """Returns the whole answer as one piece of JSON if its outputs are few numbers, all of them finite."""
    tensors = []
    for name in request.wanted:
        array = outputs[name]
        if array.size > _FEW or array.dtype.kind == "O":
            return None
        data = array.reshape(-1).tolist()  # of floats, the exact values
        tensors.append({"name": name, "datatype": form.datatypes[name], "shape": array.shape, "data": data})
    text = orjson.dumps({**form.model, "id": request.id, "outputs": tensors})
    return None if b"null" in text else text


def _as_asked(served: Served, request: Request, outputs: Arrays, asked: Asked) -> Response:
    form: Form = served.forms[NAME]
    parts, tail, before = [form.head, orjson.dumps(request.id)], list[bytes | memoryview](), b',"outputs":['
    typed = bool(asked.content_type or asked.content_types)
    if asked.content_type and (whole := of_answer(asked.content_type, [outputs[name] for name in request.wanted])):
        parts += (b',"parameters":', orjson.dumps({"content_type": whole}))
    for name in request.wanted:
        array, head, parameters = outputs[name], form.outputs[name], dict[str, object]()
        if name in asked.classes:
            array, head = classified(served.model, name, array, asked.classes[name]), _before_shape(name, "BYTES")
        if typed:
            parameters["content_type"] = kind = of_output(array, asked.content_types.get(name, ""))
            array = written(name, array, kind)
            head = _before_shape(name, "BYTES") if kind == "pd_json" else head
        parts += (before, head, orjson.dumps(array.shape))
        if name in asked.binary:
            tail.append(data := bytes_from(name, array))
            parameters["binary_data_size"] = len(data)
        parts += (b',"parameters":', orjson.dumps(parameters)) if parameters else ()
        parts += (b"}",) if name in asked.binary else (b',"data":', _data(name, array), b"}")
        before = b","
    parts.append(b"]}")
    return _with_tail(served, form, b"".join(parts), tail)


def _with_tail(served: Served, form: Form, text: bytes, tail: list[bytes | memoryview]) -> Response:
    size = sum(map(len, tail))
    if not size:
        return Response(200, form.headers, text)
    length = ((BINARY_HEADER, b"%d" % len(text)),)
    if size <= _SHORT or not served.model.fresh_outputs:
        return Response(200, form.binary_headers, b"".join((text, *tail)), length)
    return Response(200, form.binary_headers, text, length, tuple(tail))


def _data(name: str, array: np.ndarray[Any, Any]) -> bytes:
    flat = array.reshape(-1)
    kind = flat.dtype.kind
    if kind == "O":
        return orjson.dumps(_texts(name, flat.tolist()))
    if not flat.flags.c_contiguous:
        flat = np.ascontiguousarray(flat)
    if kind != "f":
        return orjson.dumps(flat, option=_AS_NUMPY)
    if flat.dtype != np.float64:
        flat = flat.astype(np.float64)  # the exact value: fewer digits would do for a float32, and be another number
    if flat.size > _LONG:  # in pieces: others wait for the GIL meanwhile
        pieces = (flat[at : at + _LONG] for at in range(0, flat.size, _LONG))
        return b"[" + b",".join(_data(name, piece)[1:-1] for piece in pieces) + b"]"
    return orjson.dumps(flat, option=_AS_NUMPY) if np.isfinite(flat).all() else _not_finite(flat)


def _not_finite(flat: np.ndarray[Any, Any]) -> bytes:
    """Writes infinities by names that numpy-based clients read back, where orjson writes null as for NaN."""
    names = [_NAMES.get(value, b"null") for value in flat[~np.isfinite(flat)].tolist()]
    parts = orjson.dumps(flat, option=_AS_NUMPY).split(b"null")
    return b"".join(chain.from_iterable(zip(parts, (*names, b""), strict=True)))


def _texts(name: str, values: list[Any]) -> list[str]:
    encoded = as_bytes(name, values)
    try:
        return [value.decode() for value in encoded]
    except UnicodeDecodeError as error:
        element = f"output {quoted(name)}, element {encoded.index(error.object)},"
        raise InvalidInput(f"{element} is not UTF-8, which JSON needs; ask for this output as binary data") from None


def example_request(model: Model, rows: int = 1) -> dict[str, Any]:
    """Returns a request that passes for `model`: its required inputs, or one if all are optional; `rows` times its
    example, else zeros and ""."""
    required = [spec for spec in model.inputs if not spec.optional]
    return {"inputs": [_rows(spec, model, rows) for spec in required or model.inputs[:1]]}


def advice(served: Served) -> str:
    """Returns what an error about inputs ends with: a body that passes, or where to look if that would be long."""
    if row_size(served.model) <= LONGEST_SHOWN:
        body = orjson.dumps(served.example or example_request(served.model)).decode()
        if len(body) <= LONGEST_SHOWN:
            return f"; a body that passes: {body}"
    return f"; GET /v2/models/{served.name} shows what the model takes"


def row_size(model: Model) -> int:
    """Returns how many elements the inputs of a row have, as far as the model says it."""
    return sum(prod(map(abs, spec.shape)) for spec in model.inputs)


def _rows(spec: TensorSpec, model: Model, rows: int) -> dict[str, Any]:
    shape = [1 if size < 0 else size for size in spec.shape]
    if spec.shape[:1] == (-1,):
        shape[0] = rows
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0)
    data = rows * list(model.example.get(spec.name, ())) or [zero] * prod(shape)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}
