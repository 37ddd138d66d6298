"""Named arrays → a ModelInferResponse on the wire: all outputs raw, or all in typed contents (docs/grpc.md)."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from adapters.values import Arrays
from runtime.serving.engine.request import Request
from runtime.serving.protocol.classes import classified
from runtime.serving.protocol.content_types import of_answer, of_output, written
from runtime.serving.protocol.grpc.contents import FIELDS, contents_of
from runtime.serving.protocol.grpc.wire import field, head, varint
from runtime.serving.protocol.tensor_bytes import bytes_from
from runtime.serving.served import Served
from runtime.serving.statuses import Header, Response

NAME: Final = "grpc"
_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS, _OUTPUTS, _RAW = 1, 2, 3, 4, 5, 6  # fields of ModelInferResponse
_OUTPUT_NAME, _DATATYPE, _SHAPE, _OWN_PARAMETERS, _CONTENTS = 1, 2, 3, 4, 5  # and of its InferOutputTensor
_SHORT: Final = 65_536
"""Raw outputs up to this are copied behind the rest; longer ones are written from where they are."""
_FINAL: Final = field(_PARAMETERS, field(1, b"triton_final_response") + field(2, b"\x08\x01"))


class Form(NamedTuple):
    """What does not change from request to request of one model: in `served.forms[NAME]`."""

    headers: tuple[Header, ...]
    head: bytes
    outputs: Mapping[str, bytes]
    """By name: name and datatype."""
    datatypes: Mapping[str, str]

    @classmethod
    def of(cls, served: Served) -> "Form":
        """Returns the form of `served`."""
        outputs = {spec.name: _named(spec.name, spec.datatype) for spec in served.model.outputs}
        model = field(_MODEL_NAME, served.name.encode())
        model += field(_MODEL_VERSION, served.provenance.versions[0].encode())
        return cls(served.stamped(()), model, outputs, {spec.name: spec.datatype for spec in served.model.outputs})


class Asked(NamedTuple):
    """How a request wants its answer: `Request.form`."""

    raw: bool
    """Whether outputs are raw bytes."""
    final: bool
    """Whether the answer says that it is the last one."""
    classes: Mapping[str, int]
    """How many classes are wanted of an output, by name."""
    content_types: Mapping[str, str] = {}
    """What outputs are wanted as, by name; MLServer's word."""
    content_type: str = ""
    """What the request came as."""


def encode(served: Served, request: Request, outputs: Arrays) -> Response:
    """Returns the answer."""
    form: Form = served.forms[NAME]
    asked: Asked = request.form
    parts: list[bytes | memoryview] = [form.head, field(_ID, (request.id or "").encode())]
    if asked.final:
        parts.append(_FINAL)
    typed = bool(asked.content_type or asked.content_types)
    if asked.content_type and (whole := of_answer(asked.content_type, [outputs[name] for name in request.wanted])):
        parts.append(field(_PARAMETERS, _content_type(whole)))
    classes, raws = asked.classes, list[bytes | memoryview]()
    as_raw = asked.raw or any(form.datatypes[name] not in FIELDS for name in request.wanted if name not in classes)
    for name in request.wanted:
        array, datatype, tensor = outputs[name], form.datatypes[name], form.outputs[name]
        if name in classes:
            array, datatype = classified(served.model, name, array, classes[name]), "BYTES"
            tensor = _named(name, datatype)
        if typed:
            kind = of_output(array, asked.content_types.get(name, ""))
            array = written(name, array, kind)
            if kind == "pd_json":
                datatype, tensor = "BYTES", _named(name, "BYTES")
            tensor += field(_OWN_PARAMETERS, _content_type(kind))
        tensor += field(_SHAPE, b"".join(map(varint, array.shape)))
        if as_raw:
            raw = bytes_from(name, array)
            raws += (head(_RAW, len(raw)), raw)
        else:
            contents = contents_of(name, datatype, array)
            length = sum(map(len, contents))
            tensor += head(_CONTENTS, length)
            parts += (head(_OUTPUTS, len(tensor) + length), tensor, *contents)
            continue
        parts.append(field(_OUTPUTS, tensor))
    if sum(map(len, raws)) <= _SHORT or not served.model.fresh_outputs:
        return Response(200, form.headers, b"".join((*parts, *raws)))
    return Response(200, form.headers, b"".join(parts), (), tuple(raws))


def _named(name: str, datatype: str) -> bytes:
    return field(_OUTPUT_NAME, name.encode()) + field(_DATATYPE, datatype.encode())


def _content_type(kind: str) -> bytes:
    """Returns the entry of a map of parameters."""
    return field(1, b"content_type") + field(2, field(3, kind.encode()))
