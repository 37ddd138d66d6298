"""What does not change from request to request of one model: the constant parts of answers, and the example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from runtime.serving.protocol.example import advice
from runtime.serving.statuses import JSON

if TYPE_CHECKING:
    from runtime.serving.provenance import Header
    from runtime.serving.served import Served

NAME: Final = "v2_json"


class Form(NamedTuple):
    """Prepared once, in `served.forms[NAME]`."""

    headers: tuple[Header, ...]
    head: bytes
    outputs: Mapping[str, bytes]
    """By name: the text before the shape."""
    advice: str

    @classmethod
    def of(cls, served: Served) -> Form:
        """The form of `served`."""
        model = {"model_name": served.name, "model_version": served.provenance.version}
        outputs = {spec.name: _before_shape(spec.name, spec.datatype) for spec in served.model.outputs}
        head = orjson.dumps(model)[:-1] + b',"id":'
        return cls(served.stamped((JSON,)), head, outputs, advice(served.model, served.name))


def _before_shape(name: str, datatype: str) -> bytes:
    return orjson.dumps({"name": name, "datatype": datatype})[:-1] + b',"shape":'
