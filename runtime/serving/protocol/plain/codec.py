"""Predictions for people (docs/predict.md): every form with one meaning for this model, an example if it has none."""

from typing import Any, Final, NamedTuple

import orjson

from adapters.base import TensorSpec
from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature
from runtime.serving.media import Head
from runtime.serving.protocol import v1
from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.protocol.json_document import read_document
from runtime.serving.protocol.plain.csv_text import read_csv, write_csv
from runtime.serving.protocol.plain.npy import read_npy
from runtime.serving.protocol.rows import (
    advice,
    by_rows,
    from_columns,
    from_rows,
    is_binary,
    not_utf8,
    shape_of,
    values_of,
)
from runtime.serving.served import Models, Served
from runtime.serving.statuses import JSON, RETRY, Header, Response, error_response
from runtime.serving.wording import listed

NAME: Final = "plain"
_CSV: Final = b"text/csv"
_CSV_HEADER: Final = (b"content-type", b"text/csv; charset=utf-8")
_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
_FOR_PLATFORMS: Final = ("/invocations", "/score")
"""SageMaker's path, and the usual one of Azure ML (docs/clouds.md)."""


class Form(NamedTuple):
    """What does not change from request to request of one model: in `served.forms[NAME]`."""

    json: tuple[Header, ...]
    csv: tuple[Header, ...]
    advice: str
    v1: v1.Form

    @classmethod
    def of(cls, served: Served) -> "Form":
        """Returns the form of `served`."""
        text = advice(served.model, served.name, lambda row: [row])
        return cls(served.stamped((JSON,)), served.stamped((_CSV_HEADER,)), text, v1.Form.of(served))


class PlainRequest(Request):
    """A request that also says how it is answered."""

    __slots__ = ("form",)

    def __init__(self, inputs: Arrays, wanted: tuple[str, ...], form: str) -> None:
        super().__init__(inputs, wanted)
        self.form = form
        """`rows`, `row` (one object), `v1` or `csv`."""


def decode(head: Head, body: bytes, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    signature, limits = served.signature, served.limits
    kind = head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    try:
        if kind == _CSV:
            inputs, form = read_csv(body, signature, limits), "rows"
        elif kind == b"application/x-npy":
            only = _only(signature, "a NumPy file")
            inputs, form = {only.name: read_npy(body, only, limits)}, "rows"
        elif kind == b"text/plain":
            inputs, form = _text(body, signature, limits), "row"
        else:
            inputs, form = _document(read_document(body, limits.json_depth, arrays=True), served)
    except InputAtFault as fault:
        fault.advice = fault.advice or served.forms[NAME].advice
        raise
    return PlainRequest(inputs, signature.default, "csv" if _prefers_csv(head.get(b"accept", b"")) else form)


def _only(signature: Signature, what: str) -> TensorSpec:
    if signature.only is None:
        raise InputAtFault(f"{what} is for models with one input; this one has {listed(signature.inputs)}")
    return signature.only


def _text(body: bytes, signature: Signature, limits: Limits) -> Arrays:
    spec = _only(signature, "plain text")
    if spec.datatype != "BYTES":
        raise InputAtFault(f"plain text is for models that take text; this one takes {spec.datatype}")
    try:
        return from_columns({spec.name: [body.decode()]}, signature, limits)
    except UnicodeDecodeError:
        raise not_utf8("the text") from None


def _document(given: Any, served: Served) -> tuple[Arrays, str]:
    signature, limits = served.signature, served.limits
    only = signature.only
    if type(given) is list:
        if only is not None and len(only.shape) == 2 and only.shape[1] > 1 and shape_of(given) == [only.shape[1]]:
            return from_rows([given], signature, limits, "rows"), "row"
        return from_rows(given, signature, limits, "rows"), "rows"
    if is_binary(given, signature):
        return from_rows([given], signature, limits, "rows"), "row"
    if not {"instances", "inputs"}.isdisjoint(given.keys() - signature.inputs.keys()):
        return v1.read(given, served, served.forms[NAME].v1).inputs, "v1"
    only = only if len(given) == 1 else None
    kinds = {name: _is_row(only or signature.input(name), value) for name, value in given.items()}
    if len(set(kinds.values())) > 1:
        rows = [name for name, is_row in kinds.items() if is_row]
        raise InputAtFault(f"ambiguous: {listed(rows)} look like one row, the other inputs like columns")
    if all(kinds.values()):
        return from_columns({name: [value] for name, value in given.items()}, signature, limits), "row"
    return from_columns(given, signature, limits), "rows"


def _is_row(spec: TensorSpec, value: Any) -> bool:
    """True if `value` is nested as one row of the input is, False if as a column of rows is."""
    depth, rank = len(shape_of(value)), len(spec.shape)
    return depth < rank and not (depth == 1 and rank == 2 and spec.shape[1] == 1)


def _prefers_csv(accept: bytes) -> bool:
    """True if an Accept (https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1) wants CSV rather than JSON."""
    if _CSV not in accept.lower():
        return False
    wants: dict[bytes, float] = {}
    for entry in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in entry.split(b";"))
        quality = next((part[2:] for part in parameters if part.startswith(b"q=")), b"1")
        try:
            wants.setdefault(kind, float(quality))
        except ValueError:
            wants.setdefault(kind, 0.0)
    others = (b"application/json", b"application/*", b"*/*")
    first = next((kind for kind in wants if kind == _CSV or kind in others), b"")
    best = max((wants[kind] for kind in others if kind in wants), default=0.0)
    return wants.get(_CSV, 0.0) > best or (first == _CSV and wants[_CSV] == best > 0)


def encode(served: Served, request: Request, outputs: Arrays) -> Response:
    """Returns the answer: rows of named values, or what the request asked for."""
    assert isinstance(request, PlainRequest)
    form: Form = served.forms[NAME]
    if request.form == "v1":
        return v1.answer(form.v1, request, outputs)
    aligned = by_rows(request.rows, request.wanted, outputs)
    if request.form == "csv":
        if not aligned:
            raise InvalidInput("the outputs have no rows, which CSV needs; ask for JSON")
        return Response(200, form.csv, write_csv(served.model, request, outputs))
    whole = {name: _named(served, outputs, name) for name in request.wanted}
    if not aligned:
        return Response(200, form.json, orjson.dumps(whole))
    rows = [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]
    return Response(200, form.json, orjson.dumps(rows[0] if request.form == "row" and len(rows) == 1 else rows))


def _named(served: Served, outputs: Arrays, name: str) -> Any:
    """Returns an output's values; of a number for each label, objects by label."""
    array, labels = outputs[name], served.model.labels
    values = values_of(name, array)
    if labels is None or array.dtype.kind != "f" or array.shape[1:] != (len(set(labels)),):
        return values
    return [dict(zip(labels, row, strict=True)) for row in values]


def _ready(models: Models, _: object) -> Response:
    ready = models.health.ready
    report = orjson.dumps(models.health.report())
    return Response(200, (JSON,), report) if ready else Response(503, (JSON, RETRY), report)


def plain(predict: str | None = None, health: str | None = None) -> Codec:
    """Returns the protocol, with a further path for predictions and one for health if a platform wants them."""
    paths = ("/predict", *(f"{path}/predict" for path in _MODEL), *_FOR_PLATFORMS)
    return Codec(
        name=NAME,
        paths=(*paths, predict) if predict else paths,
        media_types=(b"application/json", None, b"application/octet-stream", b"application/x-www-form-urlencoded",
                     _CSV, b"application/x-npy", b"text/plain"),
        prepare=Form.of,
        decode=decode,
        encode=encode,
        refuse=error_response,
        pages=tuple(Page(path, _ready, quiet=True) for path in ("/ping", health) if path),
    )  # fmt: skip


PLAIN: Final = plain()
