"""Frames on the wire (https://www.rfc-editor.org/rfc/rfc9113#section-4), and what is wrong with a connection."""

import struct
from collections.abc import Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_BYTES: Final = 16_384
"""The longest payload that a peer takes as long as it has not said otherwise, and the longest that we take."""
WINDOW_BYTES: Final = 65_535
"""What may be sent before the receiver has said anything."""
LONGEST_FRAME: Final = 2**18
"""A client that takes more gets no more in one piece: others on its connection wait for it."""
LARGEST: Final = 2**31 - 1
"""Of windows and of stream numbers."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MOST_STREAMS, INITIAL_WINDOW, MOST_FRAME_BYTES, MOST_HEAD_BYTES = range(1, 7)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, _, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, \
    CANCEL, COMPRESSION_ERROR, _, ENHANCE_YOUR_CALM = range(12)  # fmt: skip

_HEAD: Final = struct.Struct(">IBI")
_NUMBER: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")
read_head: Final = _HEAD.unpack_from
"""Length and kind in one number (`>> 8` and `& 0xFF`), flags, and the stream with a bit that means nothing."""


class Broken(Exception):
    """Ends the connection with this code. The text goes to the client and the log: no byte of the client is in it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Returns what stands before a payload."""
    return _HEAD.pack(length << 8 | kind, flags, stream)


def numbered(kind: int, stream: int, number: int) -> bytes:
    """Returns a frame that holds one number: RST_STREAM or WINDOW_UPDATE."""
    return _HEAD.pack(4 << 8 | kind, 0, stream) + _NUMBER.pack(number)


def goaway(last: int, code: int, text: str = "") -> bytes:
    """Returns a GOAWAY: streams after `last` are not answered."""
    payload = struct.pack(">II", last, code) + text.encode()
    return head(GOAWAY, 0, 0, len(payload)) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """Returns SETTINGS."""
    return head(SETTINGS, 0, 0, 6 * len(pairs)) + b"".join(_SETTING.pack(*pair) for pair in pairs)


SETTINGS_ACK: Final = head(SETTINGS, ACK, 0, 0)


def number_of(payload: bytes) -> int:
    """Returns the one number that a payload holds. Raises Broken."""
    if len(payload) != _NUMBER.size:
        raise Broken(FRAME_SIZE_ERROR, "a frame with one number has 4 bytes")
    return int(_NUMBER.unpack(payload)[0]) & LARGEST


def pairs_of(payload: bytes) -> Iterator[tuple[int, int]]:
    """Returns the settings in a payload. Raises Broken."""
    if len(payload) % _SETTING.size:
        raise Broken(FRAME_SIZE_ERROR, "SETTINGS has 6 bytes for each setting")
    return _SETTING.iter_unpack(payload)


def unpadded(payload: bytes, flags: int) -> bytes:
    """Returns the payload of DATA or HEADERS without its padding and priority. Raises Broken."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        begin, end = 1, end - payload[0] if payload else -1
    if flags & WITH_PRIORITY:
        begin += 5
    if begin > end:
        raise Broken(PROTOCOL_ERROR, "a frame has more padding than bytes")
    return payload[begin:end]
