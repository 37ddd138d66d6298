"""Bytes → one JSON object, stricter than the fast parser alone: RFC 8259, UTF-8, no duplicate keys, capped nesting.

orjson takes the last of two equal keys without a word and knows no cap of ours. Both checks cost a few counts over the
bytes in the ordinary case, and a scan that knows strings only where those counts do not settle it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from runtime.errors import InputAtFault, InvalidInput, TooLarge
from runtime.serving.wording import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS: Final = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
_BLOCK: Final = 1 << 18

PLENTY: Final = 64 * 1024 * 1024
_MOST_GROWTH: Final = 100
"""No JSON takes more than this many times its length as objects."""

_OBJECT_BYTES, _LIST_BYTES, _ELEMENT_BYTES, _STRING_BYTES = 240, 80, 32, 60
"""What CPython takes for a dict of few keys, a list, a number and its place in a list, a short text."""

_NESTED: Final = frozenset({dict, list})
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOT_UTF_8: Final = "request body is not UTF-8; send JSON as UTF-8 without a byte order mark"

Document = dict[str, Any]


def read_document(body: bytes, depth: int, memory_bytes: int = PLENTY, *, arrays: bool = False) -> Any:
    """Returns the JSON object, or where `arrays` may be, the array that `body` is.
    Raises InvalidInput (InputAtFault where showing a good body helps) with the reason and, where known, the byte;
    TooLarge if its objects would take more than `memory_bytes` and more than 4 times its length."""
    if body.count(b"[") + body.count(b"{") > depth and _deeper(body, depth):
        raise InvalidInput(f"request body has nesting deeper than {depth}")
    most = max(memory_bytes, 4 * len(body))
    if len(body) * _MOST_GROWTH > memory_bytes and (wanted := objects_bytes(body)) > most:
        if body.startswith(_BYTE_ORDER_MARK):
            raise InvalidInput(_NOT_UTF_8)
        raise TooLarge(f"body too large: read as JSON it would take {wanted} bytes, at most {most}; "
                       "send rows, fewer or longer arrays, or binary tensors")  # fmt: skip
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(body, error) from None
    if type(document) is not dict and not (arrays and type(document) is list):
        kinds = "object or array" if arrays else "object"
        raise InputAtFault(f"request must be a JSON {kinds}, got {kind_of(document)}")
    # Equal only if no string holds a colon, no key came twice and no member but these is an object.
    if (colons := body.count(b":")) != _usual_keys(document):
        keys = _keys(document)
        if colons != keys != sum(int((block == ord(":")).sum()) for block in _outside_strings(body)):
            json.loads(body, object_pairs_hook=_distinct)
    return document


def _usual_keys(document: Document | list[Any]) -> int:
    keys, inputs = (0, document) if type(document) is list else (len(document), document.get("inputs"))  # type: ignore[union-attr]
    for entry in inputs if type(inputs) is list else ():
        if type(entry) is dict:
            keys += len(entry)
    return keys


def _keys(document: Document | list[Any]) -> int:
    """Returns the keys of every object inside."""
    keys, nested = 0, [document]
    for value in nested:
        inner: Iterable[Any] = value
        if type(value) is dict:
            keys, inner = keys + len(value), value.values()
        if not _NESTED.isdisjoint(map(type, inner)):
            nested += [each for each in inner if type(each) is dict or type(each) is list]
    return keys


def _distinct(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidInput(f"request body has a duplicate key: {shown(key)}")
        seen.add(key)


def objects_bytes(body: bytes) -> int:
    """Returns what the objects that `body` describes take, but for long texts."""
    counts = np.zeros(256, np.int64)
    for block in _outside_strings(body):
        counts += np.bincount(block, minlength=256)
    objects, lists, elements, strings, keys = (int(counts[ord(each)]) for each in '{[,":')
    wanted = _OBJECT_BYTES * objects + _LIST_BYTES * lists + _ELEMENT_BYTES * elements
    return wanted + _STRING_BYTES * (strings - keys)  # equal keys are one object


def _deeper(body: bytes, depth: int) -> bool:
    """True if brackets outside of strings ever nest deeper; a body cut short counts as far as it goes."""
    level = 0
    for block in _outside_strings(body):
        levels = level + np.cumsum(_STEPS[block], dtype=np.int64)
        if len(levels):
            if levels.max() > depth:
                return True
            level = int(levels[-1])
    return False


def _outside_strings(body: bytes) -> Iterator["NDArray[np.uint8]"]:
    """Yields what of `body` is outside of strings, and their closing quotes, in blocks: without an object a string."""
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    inside = np.False_
    for start in range(0, len(text), _BLOCK):
        block = np.frombuffer(text, np.uint8, min(_BLOCK, len(text) - start), start)
        inside_at = np.logical_xor.accumulate(block == ord('"')) ^ inside
        inside = inside_at[-1]
        yield block[~inside_at]


def _unreadable(body: bytes, error: orjson.JSONDecodeError) -> InvalidInput:
    if not body:
        return InputAtFault("request body is not valid JSON: it is empty")
    if not error.doc or body.startswith(_BYTE_ORDER_MARK) or b"\0" in body[:4]:
        return InvalidInput(_NOT_UTF_8)
    at = f"at character {error.pos}"
    if "surrogate" in error.msg:
        return InvalidInput(f"request body has an invalid string: {error.msg}, {at}")
    if "infinity" in error.msg:
        return InputAtFault(f"a number in the request body is out of range for a 64-bit float, {at}")
    if error.doc.startswith(("NaN", "Infinity"), error.pos):
        return InputAtFault('NaN and Infinity are not JSON: send null for NaN, "Infinity" and "-Infinity" as texts')
    return InputAtFault(f"request body is not valid JSON: {error.msg}, {at}")


def kind_of(value: object) -> str:
    """Returns what JSON calls the type of `value`; a program's value may be of a type that JSON has not."""
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string",
             list: "an array", dict: "an object"}  # fmt: skip
    return kinds.get(type(value), type(value).__name__)
