"""A long array of rows in JSON → a model's inputs, without an object for each value: numbers, else a piece at a time.

The array is cut where one row seems to end and the next to begin. A cut inside of a text or a nested value leaves
pieces that are no JSON, and the array is to be read as any document. If all pieces are arrays, they are the whole.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.json_document import read_document
from runtime.serving.protocol.json_elements import array_of
from runtime.serving.protocol.json_numbers import read_numbers
from runtime.serving.protocol.rows import from_rows, is_one_row

PIECE: Final = 65_536
"""Bytes: as objects 2 MB where each row has one short value."""
_SPACE: Final = rb"[ \t\r\n]*"
_FIRST: Final = rb"\[" + _SPACE + rb"([{[])"
_CUTS: Final = {b"{": rb"\}" + _SPACE + b"," + _SPACE + rb"(?=\{)", b"[": rb"\]" + _SPACE + b"," + _SPACE + rb"(?=\[)"}
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
    Raises InputAtFault, naming `what`."""
    text = text.strip()
    first = re.match(_FIRST, text) if len(text) > 2 * PIECE and text.endswith(b"]") else None
    if first is None or signature.pictures or any(spec.shape[:1] != (-1,) for spec in signature.inputs.values()):
        return None
    if first[1] == b"[" and signature.only and len(signature.only.shape) != 2:
        return None
    pieces, count, taken, most = list[Arrays](), 0, 0, max(limits.json_bytes, 4 * len(text))
    for piece in _pieces(text, _CUTS[first[1]]):
        try:
            rows = read_document(piece, limits.json_depth - 1, limits.json_bytes, arrays=True)
        except InvalidInput:
            return None
        try:
            arrays = from_rows(rows, signature, limits, what)
        except InputAtFault as fault:
            raise InputAtFault(f"{fault}, counted from row {count}" if count else str(fault)) from None
        pieces.append(arrays)
        count += len(rows)
        taken += sum(2 * array.nbytes + _TEXT_BYTES * array.size * array.dtype.hasobject for array in arrays.values())
        if arrays.keys() != pieces[0].keys() or taken > most:
            return None
    return _joined(pieces, limits)


def _pieces(array: bytes, cut: bytes) -> Iterator[bytes]:
    """Yields arrays that together have what `array` has, unless a cut is inside of a row."""
    start, pattern = 1, re.compile(cut)
    while found := pattern.search(array, start + PIECE):
        yield b"[%b]" % array[start : found.start() + 1]
        start = found.end()
    yield b"[" + array[start:]


def _joined(pieces: list[Arrays], limits: Limits) -> Arrays | None:
    """Returns the arrays of all pieces; None if together they are too long, or of rows that differ in shape."""
    joined: Arrays = {}
    for name in tuple(pieces[0]):
        arrays = [piece.pop(name) for piece in pieces]
        if len({array.shape[1:] for array in arrays}) > 1 or sum(array.size for array in arrays) > limits.elements:
            return None
        joined[name] = np.concatenate(arrays)
    return joined
