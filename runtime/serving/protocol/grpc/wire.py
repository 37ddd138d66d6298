"""The fields of a message on the wire, as far as tensors need them: found and written without a copy of their bytes.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final

from runtime.errors import InvalidInput
from runtime.serving.media import Body

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10
_LARGEST: Final = 0x7F
"""What a varint of one byte can be."""
MOST_FIELDS: Final = 16_384
"""A message of the protocol has a few for each tensor: this bounds the time that a hostile one takes."""


def fields(message: Body, most: int = MOST_FIELDS) -> Iterator[tuple[int, int, int, int]]:
    """Yields for each field of `message` its number (0 if it is no string, bytes or message), where it starts, and
    where its content starts and ends. Raises InvalidInput, also for more than `most` fields."""
    start, last = 0, len(message)
    for _ in range(most):
        if start == last:
            return
        tag, at = message[start], start + 1
        if tag > _LARGEST:
            tag, at = varint_at(message, start)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            if at < last and (length := message[at]) <= _LARGEST:
                begin = at + 1
            else:
                length, begin = varint_at(message, at)
            at = begin + length
        elif kind == _VARINT:
            number, (_, at) = 0, varint_at(message, at)
            begin = at
        elif kind in _FIXED:
            number, at = 0, at + _FIXED[kind]
            begin = at
        else:
            raise InvalidInput("not a valid message: a field is of an unknown kind")
        if at > last:
            raise InvalidInput("not a valid message: it ends within a field")
        yield number, start, begin, at
        start = at
    if start < last:
        raise InvalidInput(f"too many fields in the message: at most {most}")


def varint_at(message: Body, at: int) -> tuple[int, int]:
    """Returns the number that starts there, and where it ends. Raises InvalidInput."""
    number = 0
    for place, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise InvalidInput("not a valid message: it ends within a number")


def split(message: Body, number: int, most: int = MOST_FIELDS) -> tuple[Body, list[memoryview]]:
    """Returns the message without the fields `number`, and their contents, which are views of it."""
    view, contents, rest, kept = memoryview(message), list[memoryview](), list[Body](), 0
    for found, start, begin, end in fields(message, most):
        if found == number:
            contents.append(view[begin:end])
            rest.append(message[kept:start])
            kept = end
    return b"".join((*rest, message[kept:])) if contents else message, contents


def varint(number: int) -> bytes:
    """Returns a number that is not negative as a varint."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def head(number: int, length: int) -> bytes:
    """Returns what stands before the content of a field: its number, its kind and its length."""
    return varint(number << 3 | _BYTES) + varint(length)


def field(number: int, content: Body) -> bytes:
    """Returns a field with that content."""
    return head(number, len(content)) + content
