"""Requests of which only the numbers differ from one that came before: clients send the same text around them again."""

import os
from typing import Any, Final, NamedTuple

import orjson

from adapters.base import TensorSpec
from runtime.errors import InputAtFault
from runtime.serving.engine.request import Request, Signature
from runtime.serving.protocol.json_elements import READERS

_NUMBER: Final = int.from_bytes(os.urandom(7))
"""Stands in the document where the data was: a number that no client can know."""


class Template(NamedTuple):
    """A request with one tensor, of which all but its flat data is known to be right."""

    at: int
    """Where the data begins."""
    spec: TensorSpec
    shape: tuple[int, ...]
    size: int
    rest: tuple[tuple[str, ...], None, Any, float]
    """What else a `Request` is made of."""

    def request(self, text: bytes) -> Request | None:
        """Returns the request with the data in `text`; None if that is not as it should be."""
        try:
            data = orjson.loads(text)
            if len(data) != self.size:
                return None
            array = READERS[self.spec.datatype](self.spec, data)
        except (orjson.JSONDecodeError, InputAtFault):
            return None
        return Request({self.spec.name: array.reshape(self.shape)}, *self.rest)


Templates = dict[bytes, Template | None]
"""By the text around the data; None: such a request has no template."""


def cut(body: bytes) -> tuple[bytes, int, int]:
    """Returns the text around what may be the data of the first tensor, and where that begins and ends."""
    at = body.find(b"[", body.find(b'"data"') + 1)
    end = body.find(b"]", at) + 1
    return body[:at] + body[end:], at, end


def template_of(body: bytes, at: int, end: int, request: Request, signature: Signature) -> Template | None:
    """Returns the template of `request`, None if it has none.

    What `cut` found is the data if the number in its place is. Nothing may read the data as something else.
    """
    text = b"%b[%d]%b" % (body[:at], _NUMBER, body[end:])
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    match document:
        case {"inputs": [{"data": [number], "datatype": datatype, **more}], **rest} if number == _NUMBER:
            name, array = next(iter(request.inputs.items()))
            spec, parameters = signature.inputs.get(name), rest.get("parameters") or {}
            looked_at = more.get("parameters") or "content_type" in parameters  # type: ignore[operator]
            if spec is not None and datatype == spec.datatype and not looked_at:
                form = request.wanted, None, request.form, request.deadline_seconds
                return Template(at, spec, array.shape, array.size, form)
    return None
