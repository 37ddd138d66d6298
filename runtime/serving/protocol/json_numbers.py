"""Long arrays of numbers in a JSON body → typed buffers, without a Python object for each number.

The arrays are cut out of the body. orjson reads what is left, as any document, and simdjson reads the arrays
(docs/decisions/11-numbers-without-objects.md). Whatever is unusual is left to orjson alone, whose errors say where.
"""

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson

from adapters.values import DTYPES, Array
from runtime.errors import InvalidInput
from runtime.serving.protocol.json_document import PLENTY, Document, read_document

if TYPE_CHECKING:
    from simdjson import Parser

LONG: Final = 4096
"""Bytes of an array from which the second parser pays: 200 to 2000 numbers."""
_KEPT: Final = 65_536
"""The memory of a parser is used again after arrays up to this: allocating it takes as long as parsing them."""
_NUMBER_BYTES: Final = 24
"""What a number takes: 16 bytes in the parser, 8 in the buffer."""
_KEY: Final = b'"data"'
_ARRAY: Final = rb'"data"[ \t\r\n]*:[ \t\r\n]*\['
_NUMBER: Final = int.from_bytes(os.urandom(7))
"""Stands in the document where an array was: a number that no client can know."""
_PLACE: Final = b"%d" % _NUMBER
_WIDE: Final = {"f": np.dtype(np.float64), "i": np.dtype(np.int64), "u": np.dtype(np.uint64)}
_parsers: Final = list["Parser"]()
"""Those that nothing is parsed with now: the event loop and a decoding thread may each need one."""


class Numbers(NamedTuple):
    """A long array of numbers in a body."""

    text: bytes
    flat: Array
    """float64 for a tensor of FP*; int64 for integers, uint64 for UINT64."""
    shape: list[int]

    def listed(self) -> list[Any]:
        """Returns what orjson makes of it."""
        array: list[Any] = orjson.loads(self.text)
        return array


def read_tensors(body: bytes, depth: int, memory_bytes: int = PLENTY) -> Document:
    """Returns what `read_document` does, but where the data of a tensor in `inputs` is long, it may be `Numbers`."""
    document = _with_numbers(body, depth, memory_bytes) if len(body) > LONG else None
    return read_document(body, depth, memory_bytes) if document is None else document


def read_numbers(text: bytes, datatype: str, depth: int, memory_bytes: int = PLENTY) -> Numbers | None:
    """Returns the long array of numbers that `text` is; None if it is anything else that a tensor may be sent as."""
    if len(text) <= LONG or _take_more([text], max(memory_bytes, 4 * len(text))):
        return None
    numbers = _numbers(text, datatype, parser) if (parser := _parser()) else None
    return numbers if numbers and len(numbers.shape) <= depth else None


@cache
def _parser() -> "type[Parser] | None":
    """Returns simdjson's, imported by the first long body; None where it has no wheel: for Python 3.14."""
    try:
        from simdjson import Parser
    except ImportError:
        return None
    return Parser


def _with_numbers(body: bytes, depth: int, memory_bytes: int) -> Document | None:
    if (parser := _parser()) is None:
        return None
    rest, texts = _cut(body)
    if not texts or _take_more(texts, max(memory_bytes, 4 * len(body))):
        return None
    try:
        document: Document = read_document(rest, depth, memory_bytes)
    except InvalidInput:
        return None
    inputs = document.get("inputs")
    entries = [entry for entry in inputs if type(entry) is dict] if type(inputs) is list else []
    tensors = [entry for entry in entries if entry.get("data") == _NUMBER]
    if len(tensors) != len(texts):
        return None
    for tensor, text in zip(tensors, texts, strict=True):
        numbers = _numbers(text, tensor.get("datatype"), parser)
        if numbers is None or len(numbers.shape) > depth - 3:  # the document, its inputs and the tensor are around it
            return None
        tensor["data"] = numbers
    return document


def _take_more(texts: list[bytes], most: int) -> bool:
    """Returns True if reading the numbers in `texts` takes more than `most` bytes; they are counted only if a digit and
    a comma each would. A list takes no less than a number."""
    if sum(map(len, texts)) * _NUMBER_BYTES <= most:
        return False
    return sum(text.count(b",") + text.count(b"[") for text in texts) * _NUMBER_BYTES > most


def _cut(body: bytes) -> tuple[bytes, list[bytes]]:
    """Returns `body` without what seem to be long arrays of numbers at the key `data`, and those. Takes linear time."""
    at = copied = 0
    array = re.compile(_ARRAY)
    pieces, texts = list[bytes](), list[bytes]()
    while (key := body.find(_KEY, at)) >= 0:
        at = key + len(_KEY)
        if (found := array.match(body, key)) is None:
            continue
        at = found.end() - 1
        text = body.find(b'"', at)
        brace = body.find(b"}", at, text if text >= 0 else len(body))
        end = body.rfind(b"]", at, brace if brace >= 0 else text) + 1
        if end - at > LONG:
            pieces += (body[copied:at], _PLACE)
            texts.append(body[at:end])
            at = copied = end
    return b"".join((*pieces, body[copied:])), texts


def _numbers(text: bytes, datatype: object, new_parser: "type[Parser]") -> Numbers | None:
    """Returns the numbers in `text`; None if it is anything but an even array of those that such a tensor takes."""
    dtype = DTYPES.get(datatype) if type(datatype) is str else None
    if dtype is None or dtype.kind not in "fiu":
        return None
    wide = _WIDE["i" if dtype.kind == "u" and dtype.itemsize < 8 else dtype.kind]
    parser = _parsers.pop() if _parsers else new_parser()
    try:
        array: Any = parser.parse(text)
        flat = np.frombuffer(array.as_buffer(of_type="d" if wide.kind == "f" else wide.kind), wide)
        shape = [len(flat)] if text.find(b"[", 1) < 0 else _shape(array, text.count(b"["), len(flat))
    except (TypeError, ValueError, RuntimeError):
        return None
    finally:
        array = None
        if len(text) <= _KEPT:
            _parsers.append(parser)
    return Numbers(text, flat, shape) if shape and len(flat) else None


def _shape(array: Any, lists: int, count: int) -> list[int] | None:
    """Returns the shape of an array of `count` numbers in so many `lists`; None if they are not nested evenly.
    Raises TypeError if a number is beside a list."""
    shape, level, seen = [len(array)], [array], 1
    while seen < lists:
        level = [inner for each in level for inner in each]
        size = len(level[0])
        if not {size}.issuperset(map(len, level)):
            return None
        shape.append(size)
        seen += len(level)
    return shape if seen == lists and len(level) * shape[-1] == count else None
