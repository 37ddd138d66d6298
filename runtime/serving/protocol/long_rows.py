"""A long array of rows in JSON → a model's inputs, without an object for each value: numbers, else a piece at a time.

The array is cut where one row seems to end and the next to begin. A cut inside of a text or a nested value leaves
pieces that are no JSON, and the array is to be read as any document. If all pieces are arrays, they are the whole.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from adapters.base import TensorSpec
from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.json_document import objects_bytes, read_document
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.protocol.json_numbers import read_numbers
from runtime.serving.protocol.rows import from_rows, is_one_row, other_names, shape_of

PIECE: Final = 65_536
"""Bytes: as objects 2 MB where each row has one short value."""
_SPACE: Final = rb"[ \t\r\n]*"
_FIRST: Final = rb"\[" + _SPACE + rb"([{[])"
_CUTS: Final = {b"{": rb"\}" + _SPACE + b"," + _SPACE + rb"(?=\{)", b"[": rb"\]" + _SPACE + b"," + _SPACE + rb"(?=\[)"}
BLANKS: Final = b" \t\r\n"
"""White space of JSON: https://www.rfc-editor.org/rfc/rfc8259#section-2."""
_FEW_TEXTS: Final = 10_000
_TEXT_BYTES: Final = 48
"""What CPython takes for a short text as bytes, beside its place in the array."""


def from_long_numbers(text: bytes, spec: TensorSpec, limits: Limits) -> tuple[Array, bool] | None:
    """Returns the input `spec` from a long array of numbers in JSON, and whether it is one row without a list of rows.
    None if `text` is anything else: then it is to be read as any document. Raises InputAtFault."""
    numbers = read_numbers(text, spec.datatype, limits.json_depth, limits.json_bytes) if spec.shape else None
    if numbers is None:
        return None
    is_row = is_one_row(spec, numbers.shape)
    shape = [1, *numbers.shape] if is_row else numbers.shape
    return array_of(spec, shape, numbers._replace(shape=shape), limits), is_row


def from_long_rows(text: bytes, signature: Signature, limits: Limits, what: str) -> Arrays | None:
    """Returns the inputs that `from_rows` makes of the array `text`. None if it is to be read as any document.
    Raises InputAtFault, naming `what`; InvalidInput for what is no JSON, and too long to be read as a document."""
    text = text.strip(BLANKS)
    first = re.match(_FIRST, text) if len(text) > 2 * PIECE else None
    if first is None or not _fit(signature, of_lists=first[1] == b"["):
        return None
    rows = _Rows(signature, limits, what, len(text))
    for piece in _pieces(text, _CUTS[first[1]]):
        try:
            read = rows.read(piece)
        except InvalidInput as fault:
            if objects_bytes(text) <= rows.most_bytes:  # a document's words are about the whole of it
                return None
            raise rows.counted(fault) from None
        if not rows.took(read):
            return None
    return rows.joined()


def from_long_lines(body: bytes, signature: Signature, limits: Limits) -> Arrays | None:
    """Returns the inputs that rows in lines are; None as `from_long_rows`. Raises InvalidInput."""
    if len(body) <= 2 * PIECE or not _fit(signature, of_lists=body.lstrip()[:1] == b"["):
        return None
    rows = _Rows(signature, limits, "rows", len(body))
    start = number = 0
    while start < len(body):
        end = body.find(b"\n", start + PIECE) + 1 or len(body)
        if lines := lines_of(body[start:end]):
            for line in lines:
                check_line(line, number)
                number += 1
            try:
                read = rows.read(b"[%b]" % b",".join(lines))
            except InvalidInput as fault:
                raise rows.counted(fault) from None
            if not rows.took(read):
                return None
        start = end
    return rows.joined()


def lines_of(text: bytes) -> list[bytes]:
    """Returns the lines that are not blank; many that are cost next to nothing."""
    text = text.replace(b"\r\n", b"\n")
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"\n")
    return [line for line in text.split(b"\n") if line.strip()]


def check_line(line: bytes, number: int) -> None:
    """Raises InputAtFault if a line is no JSON value."""
    read_value(line, f"row {number} of the JSON lines")


def read_value(text: bytes, what: str) -> Any:
    """Returns the JSON value that `text` is. Raises InputAtFault, naming `what`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputAtFault(f"{what} is not valid JSON: {error}") from None


def _fit(signature: Signature, *, of_lists: bool) -> bool:
    """True if the rows of a piece are inputs by themselves."""
    every = all(spec.shape[:1] == (-1,) for spec in signature.inputs.values()) and not signature.pictures
    return every and not (of_lists and signature.only and len(signature.only.shape) != 2)


def _pieces(array: bytes, cut: bytes) -> Iterator[bytes]:
    """Yields arrays that together have what `array` has, unless a cut is inside of a row."""
    start, pattern = 1, re.compile(cut)
    while found := pattern.search(array, start + PIECE):
        yield b"[%b]" % array[start : found.start() + 1]
        start = found.end()
    yield b"[" + array[start:]


class _Rows:
    """The rows that have been read, as arrays, and what they take."""

    def __init__(self, signature: Signature, limits: Limits, what: str, length: int) -> None:
        self._signature, self._limits, self._what = signature, limits, what
        self.most_bytes = max(limits.json_bytes, 4 * length)
        self._pieces = list[Arrays]()
        self._form: object = None
        """Of the first row of a piece: its names, and how its values are nested."""
        self._texts = dict[bytes | None, bytes | None]()
        """Those that have come: columns of texts often have few."""
        self._count = self._bytes = 0

    def read(self, piece: bytes) -> list[Any]:
        """Returns the rows in an array. Raises InvalidInput."""
        rows: list[Any] = read_document(piece, self._limits.json_depth - 1, self._limits.json_bytes, arrays=True)
        return rows

    def took(self, rows: list[Any]) -> bool:
        """Keeps rows. Returns False if they are of another form than those before, or all take too much memory.
        Raises InputAtFault."""
        form = _form_of(rows[0]) if rows else None
        if self._pieces and form != self._form:
            if isinstance(form, dict) and isinstance(self._form, dict) and form.keys() != self._form.keys():
                raise other_names(self._what, self._count, form)
            return False
        self._form = form
        try:
            arrays = from_rows(rows, self._signature, self._limits, self._what)
        except InputAtFault as fault:
            raise self.counted(fault) from None
        self._pieces.append(arrays)
        self._count += len(rows)
        for array in arrays.values():
            self._bytes += 2 * array.nbytes + (self._once(array) * _TEXT_BYTES if array.dtype.hasobject else 0)
        return arrays.keys() == self._pieces[0].keys() and self._bytes <= self.most_bytes

    def counted(self, fault: InvalidInput) -> InvalidInput:
        """Returns a fault of the rows that come next, which says from which row it counts."""
        return type(fault)(f"{fault}, counted from row {self._count}") if self._count else fault

    def joined(self) -> Arrays | None:
        """Returns the arrays of all pieces; None if together they are too long, or of rows that differ in shape."""
        joined: Arrays = {}
        for name in tuple(self._pieces[0]) if self._pieces else ():
            arrays = [piece.pop(name) for piece in self._pieces]
            size = sum(array.size for array in arrays)
            if len({array.shape[1:] for array in arrays}) > 1 or size > self._limits.elements:
                return None
            joined[name] = np.concatenate(arrays)
        return joined or None

    def _once(self, array: Array) -> int:
        """Has equal texts be one object, as long as there are few. Returns how many are new."""
        known, keep = len(self._texts), self._texts.setdefault
        if known > _FEW_TEXTS:
            return array.size
        flat = array.reshape(-1)
        flat[:] = [keep(text, text) for text in flat.tolist()]
        return len(self._texts) - known


def _form_of(row: Any) -> object:
    if type(row) is dict:
        return {name: len(shape_of(value)) for name, value in row.items()}
    return [len(shape_of(value)) for value in row] if type(row) is list else type(row)
