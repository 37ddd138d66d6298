"""A body → a model's inputs: by its content type, or by its first bytes where that says nothing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from adapters.base import TensorSpec
from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.serving.engine.request import Signature
from runtime.serving.protocol import v1
from runtime.serving.protocol.examples import advice
from runtime.serving.protocol.image import is_image, read_images
from runtime.serving.protocol.json_document import read_document
from runtime.serving.protocol.long_rows import (
    check_line,
    from_long_lines,
    from_long_numbers,
    from_long_rows,
    lines_of,
    read_value,
)
from runtime.serving.protocol.plain.arrow import read_arrow
from runtime.serving.protocol.plain.csv_text import cells_of, read_csv
from runtime.serving.protocol.plain.multipart import Part, parts_of
from runtime.serving.protocol.plain.npy import is_npy, read_npy
from runtime.serving.protocol.rows import (
    array_from,
    complete,
    from_columns,
    from_rows,
    is_binary,
    is_one_row,
    not_utf8,
    shape_of,
)
from runtime.serving.served import Served
from runtime.serving.statuses import JSON, Header
from runtime.serving.wording import listed, quoted, shown

NAME: Final = "plain"
CSV: Final = b"text/csv"
NPY: Final = b"application/x-npy"
TEXT: Final = b"text/plain"
JSON_LINES: Final = (b"application/jsonl", b"application/x-ndjson", b"application/jsonlines")
"""None is registered; https://jsonlines.org and https://github.com/ndjson/ndjson-spec name the first two."""
ARROW: Final = b"application/vnd.apache.arrow.stream"
MULTIPART: Final = b"multipart/form-data"
IMAGES: Final = (b"image/png", b"image/jpeg", b"image/webp")
JPG: Final = b"image/jpg"
"""No registered type, and what many send for JPEG."""
ZIPPED: Final = "a zip archive, as .npz and .xlsx are: send an array as numpy.save writes it, or a table as CSV"
_JSON: Final = b"application/json"
_UNSAID: Final = frozenset({b"", b"application/octet-stream", b"application/x-www-form-urlencoded"})
"""What clients send that do not know the type: curl without -H among them."""
_SUFFIXES: Final = {".csv": CSV, ".json": _JSON, ".jsonl": JSON_LINES[0], ".ndjson": JSON_LINES[0], ".txt": TEXT}
"""Of files in forms: curl knows no type of theirs, and a browser asks the machine it runs on."""
_CSV_HEADER: Final = (b"content-type", b"text/csv; charset=utf-8")
_NESTED: Final[frozenset[type]] = frozenset({list, dict})
_V1: Final = frozenset({"instances", "inputs"})
Reading = tuple[Arrays, str]
"""The inputs, and how they are answered: `rows`, `row` (one object) or `v1`."""


class Form(NamedTuple):
    """What does not change from request to request of one model: in `served.forms[NAME]`."""

    json: tuple[Header, ...]
    csv: tuple[Header, ...]
    advice: str
    v1: v1.Form

    @classmethod
    def of(cls, served: Served) -> "Form":
        """Returns the form of `served`."""
        text = advice(served.signature, served.name, served.example_rows(), list)
        if len(served.signature.inputs) == len(served.signature.pictures) == 1:
            text = "; a body that passes: a file with an image, Content-Type: image/png, image/jpeg or image/webp"
        return cls(served.stamped((JSON,)), served.stamped((_CSV_HEADER,)), text, v1.Form.of(served))


def read(content_type: bytes, body: bytes, served: Served) -> Reading:
    """Returns what `body` holds for the model. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == MULTIPART:
        return _form(parts_of(content_type, body), served)
    if kind not in _UNSAID:
        return _READERS.get(kind, _json)(body, served)
    if (found := _first_bytes(body)) != _JSON:
        return _READERS[found](body, served)
    try:
        return _json(body, served)
    except InvalidInput as fault:
        if not body or body.lstrip()[:1] in b'[{"':
            raise
        raise InputAtFault(f"{fault}; what is not JSON needs its Content-Type, as text/csv or text/plain") from None


def _first_bytes(body: bytes) -> bytes:
    """Returns the content type of what begins as no JSON does, else that of JSON."""
    if is_image(body):
        return IMAGES[0]
    if body.startswith(b"PK\x03\x04"):
        raise InputAtFault(f"the body is {ZIPPED}")
    return NPY if is_npy(body) else ARROW if body.startswith(b"\xff\xff\xff\xff") else _JSON


def _csv(body: bytes, served: Served) -> Reading:
    return read_csv(body, served.signature, served.limits), "rows"


def _npy(body: bytes, served: Served) -> Reading:
    only = _only(served.signature, "a NumPy file")
    array, is_row = read_npy(body, only, served.limits)
    return {only.name: array}, "row" if is_row else "rows"


def _arrow(body: bytes, served: Served) -> Reading:
    return read_arrow(body, served.signature, served.model.properties, served.limits), "rows"


def _text(body: bytes, served: Served) -> Reading:
    if (spec := served.signature.text) is None:
        taken = _only(served.signature, "plain text").datatype
        raise InputAtFault(f"plain text is for models that take text; this one takes {taken}")
    try:
        return from_columns({spec.name: [body.decode()]}, served.signature, served.limits), "row"
    except UnicodeDecodeError:
        raise not_utf8("the text") from None


def _image(body: bytes, served: Served) -> Reading:
    return _images([body], _only(served.signature, "one image"), served), "row"


def _images(files: list[bytes], spec: TensorSpec, served: Served) -> Arrays:
    if (picture := served.signature.pictures.get(spec.name)) is None:
        said = "its kit does not say how one becomes a tensor (model.parameters.serving.inputs[].image)"
        raise InputAtFault(f"input {quoted(spec.name)} of this model takes no image: {said}")
    return {spec.name: read_images(files, spec, picture, served.limits)}


def _json(body: bytes, served: Served) -> Reading:
    limits, only = served.limits, served.signature.only
    if served.signature.text and body.lstrip()[:1] == b'"':
        return from_rows([read_value(body, "request body")], served.signature, limits, "rows"), "row"
    if only and body[:1] == b"[" and (found := from_long_numbers(body, only, limits)):
        return {only.name: found[0]}, "row" if found[1] else "rows"
    if arrays := from_long_rows(body, served.signature, limits, "rows"):
        return arrays, "rows"
    may_be_v1 = _V1.isdisjoint(served.signature.inputs)
    if may_be_v1 and (request := v1.read_long(body, served, served.forms[NAME].v1)):
        return request.inputs, "v1"
    return _document(read_document(body, limits.json_depth, limits.json_bytes, arrays=True), served)


def _json_lines(body: bytes, served: Served) -> Reading:
    limits = served.limits
    if arrays := from_long_lines(body, served.signature, limits):
        return arrays, "rows"
    lines, rows = lines_of(body), None
    with suppress(InputAtFault):  # that is a line's fault; as one array first, which bounds what all take in memory
        rows = read_document(b"[%b]" % b",".join(lines), limits.json_depth, limits.json_bytes, arrays=True)
    for number, line in enumerate(lines):
        check_line(line, number)
    return from_rows(rows, served.signature, limits, "rows"), "rows"


_READERS: Final[dict[bytes, Callable[[bytes, Served], Reading]]] = {
    CSV: _csv,
    NPY: _npy,
    ARROW: _arrow,
    TEXT: _text,
    **dict.fromkeys(JSON_LINES, _json_lines),
    **dict.fromkeys((*IMAGES, JPG), _image),
}


def _only(signature: Signature, what: str) -> TensorSpec:
    if (spec := signature.alone) is None:
        raise InputAtFault(f"{what} is for models with one input; this one has {listed(signature.inputs)}")
    return spec


def _form(parts: list[Part], served: Served) -> Reading:
    """A file is read as if it were the body; several parts are the inputs that they are named after, or images."""
    first, *others = parts
    if first.file is not None and not others:
        return read(_kind_of(first), first.content, served)
    named: dict[str, list[Part]] = {}
    only = served.signature.only
    for part in parts:
        spec = only or served.signature.input(part.name)
        named.setdefault(spec.name, []).append(part)
    arrays: Arrays = {}
    for name, group in named.items():
        arrays |= _of_parts(served.signature.input(name), group, served)
    return complete(arrays, served.signature), "row" if max(map(len, named.values())) == 1 else "rows"


def _kind_of(file: Part) -> bytes:
    """Returns the content type of a file in a form: its own if that is known, else by its first bytes or its name."""
    kind = file.content_type.partition(b";")[0].strip().lower()
    if kind.startswith(b"multipart/"):
        raise InvalidInput("a part of the form is a form itself; send files")
    if kind in _READERS or _first_bytes(file.content) != _JSON:
        return kind if kind in _READERS else b""
    name = file.file or ""
    return IMAGES[0] if kind.startswith(b"image/") else _SUFFIXES.get(name[name.rfind(".") :].lower(), b"")


def _of_parts(spec: TensorSpec, parts: list[Part], served: Served) -> Arrays:
    contents = [part.content for part in parts]
    if all(map(is_image, contents)):
        return _images(contents, spec, served)
    if any(part.file is not None for part in parts):
        wanted = "a form with several parts has images, or values typed in"
        raise InputAtFault(f"input {quoted(spec.name)}: {wanted}; got {shown(parts[0].file or '')}")
    try:
        cells = cells_of(spec.datatype, [content.decode() for content in contents])
    except UnicodeDecodeError:
        raise not_utf8(f"input {quoted(spec.name)}") from None
    return {spec.name: array_from(spec, cells, served.signature, served.limits)}


def _document(given: Any, served: Served) -> Reading:
    signature, limits = served.signature, served.limits
    only = signature.only
    if type(given) is list:
        named = given and type(given[0]) is dict and not is_binary(given[0], signature)
        values = given and _NESTED.isdisjoint(map(type, given))
        if not named and (is_one_row(only, shape_of(given)) if only else values):
            return from_rows([given], signature, limits, "rows"), "row"
        return from_rows(given, signature, limits, "rows"), "rows"
    if is_binary(given, signature):
        return from_rows([given], signature, limits, "rows"), "row"
    if not _V1.isdisjoint(given.keys() - signature.inputs.keys()):
        return v1.read(given, served, served.forms[NAME].v1).inputs, "v1"
    only = only if len(given) == 1 else None
    kinds = {name: _is_row(only or signature.input(name), value, signature) for name, value in given.items()}
    if len(set(kinds.values())) > 1:
        rows = [name for name, is_row in kinds.items() if is_row]
        raise InputAtFault(f"ambiguous: {listed(rows)} look like one row, the other inputs like columns")
    if all(kinds.values()):
        return from_columns({name: [value] for name, value in given.items()}, signature, limits), "row"
    return from_columns(given, signature, limits), "rows"


def _is_row(spec: TensorSpec, value: Any, signature: Signature) -> bool:
    """True if `value` is nested as one row of the input is, False if as a column of rows is."""
    if spec.name in signature.pictures and type(value) is list and value and is_binary(value[0], signature):
        return False
    depth, rank = len(shape_of(value)), len(spec.shape)
    return depth < rank and not (depth == 1 and rank == 2 and spec.shape[1] == 1)
