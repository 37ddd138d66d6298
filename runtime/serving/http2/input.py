"""What a connection reads: frames, one by one, each checked against what may come (RFC 9113, 5 and 6)."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from runtime.serving.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    LARGEST,
    LONGEST_FRAME,
    MOST_FRAME_BYTES,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Broken,
    head,
    number_of,
    numbered,
    pairs_of,
    read_head,
    unpadded,
)
from runtime.serving.http2.hpack import TABLE_BYTES, Decoder
from runtime.serving.http2.output import CONNECTION_BYTES, Output
from runtime.serving.http2.state import State

T = TypeVar("T")

_MOST_DEBT: Final = 2000
"""Frames in a second that ask for work and carry nothing: PING, SETTINGS, RST_STREAM, empty DATA, and their like. An
answer, or a piece of one, makes up for some of them."""
_RESET_COST: Final = 4
_BYTES_A_FRAME: Final = 256
"""To decode so many bytes of headers is as much work as a frame."""
_TOO_LONG_TIMES: Final = 8
"""Headers that are too long are read up to this many times their limit, so that their call alone is refused: the table
of header compression has to hear of them all."""
_STREAMS_A_FRAME: Final = 32
"""To look at so many streams is as much work as a frame."""


class Input(Output, Generic[T]):
    """The half of a connection that reads."""

    def __init__(self, state: State[T]) -> None:
        super().__init__(state)
        self._state = state
        self._decoder = Decoder(state.understand, state.limits.head_bytes)
        self._granted = CONNECTION_BYTES
        self._last = 0
        """The newest stream."""
        self._final: int | None = None
        """The last stream that is answered, once the client was told so."""
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and beginning of a header block that goes on in another frame."""
        self._block_since = 0

    def _read(self, data: bytes) -> bytes:
        """Reads whole frames; returns the rest. Raises Broken."""
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            word, flags, number = read_head(data, at)
            kind, end = word & 0xFF, at + HEAD_BYTES + (word >> 8)
            if end - at > HEAD_BYTES + FRAME_BYTES:
                raise Broken(FRAME_SIZE_ERROR, f"a frame has more than {FRAME_BYTES} bytes")
            if end > size:
                break
            if self._block is not None and kind != CONTINUATION:
                raise Broken(PROTOCOL_ERROR, "another frame amid a header block")
            payload, number, at = data[at + HEAD_BYTES : end], number & LARGEST, end
            if kind == DATA:
                self._data(number, flags, payload)
            elif kind == HEADERS:
                self._headers_begin(number, flags, payload)
            elif (read := _READERS.get(kind)) is not None:
                read(self, number, flags, payload)
            else:
                self.charge()  # of an extension that we do not know
        return data[at:]

    def charge(self, cost: int = 1) -> None:
        """Notes that the client has asked for work that it may ask without end. Raises Broken if that is too much."""
        self._debt += cost
        if self._debt > _MOST_DEBT:
            raise Broken(ENHANCE_YOUR_CALM, f"more than {_MOST_DEBT} frames in a second that carry nothing")

    # requests

    def _headers_begin(self, number: int, flags: int, payload: bytes) -> None:
        if flags & (PADDED | WITH_PRIORITY):
            payload = unpadded(payload, flags)
        if flags & END_HEADERS:
            self._headers_whole(number, flags, payload)
        else:
            self._block, self._block_since = (number, flags, bytearray(payload)), self._state.tick

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Broken(PROTOCOL_ERROR, "CONTINUATION of no header block")
        self.charge(1 + len(payload) // _BYTES_A_FRAME)
        _, first_flags, block = self._block
        block += payload
        if len(block) > (most := _TOO_LONG_TIMES * self._state.limits.head_bytes):
            raise Broken(ENHANCE_YOUR_CALM, f"a header block has more than {most} bytes")
        if flags & END_HEADERS:
            self._block = None
            self._headers_whole(number, first_flags, bytes(block))

    def _headers_whole(self, number: int, flags: int, block: bytes) -> None:
        request = self._decoder.read(block)
        if not number & 1:
            raise Broken(PROTOCOL_ERROR, "a stream of a client has an odd number")
        if number <= self._last:
            self._trailers(number, flags)
            return
        self._last = number
        if self._final is not None:
            self.charge()
            return
        if len(self.streams) >= self._state.most_streams:
            self.charge(_RESET_COST)
            self.write(numbered(RST_STREAM, number, REFUSED_STREAM))
            return
        stream = self.streams[number] = self._state.open(self, number, request)
        stream.opened()
        if flags & END_STREAM:
            stream.receiving = False
            stream.received(b"", ended=True)

    def _trailers(self, number: int, flags: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self.charge()
        elif stream.receiving and flags & END_STREAM:
            stream.receiving = False
            stream.received(b"", ended=True)
        else:
            raise Broken(PROTOCOL_ERROR, "a request has headers twice")

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        length, ended = len(payload), bool(flags & END_STREAM)
        self._granted -= length
        if self._granted < CONNECTION_BYTES // 2:
            if self._granted < 0:
                raise Broken(FLOW_CONTROL_ERROR, "more DATA than the connection's window")
            self.write(numbered(WINDOW_UPDATE, 0, CONNECTION_BYTES - self._granted))
            self._granted = CONNECTION_BYTES
        stream = self.streams.get(number)
        if stream is None or not stream.receiving:
            if stream is not None or number > self._last or not number & 1:
                raise Broken(PROTOCOL_ERROR, "DATA on a stream that is not open")
            self.charge()  # it was on its way when the stream ended
            return
        if flags & PADDED:
            payload = unpadded(payload, PADDED)
        stream.granted -= length
        if stream.granted < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        if not (payload or ended):
            self.charge()
        stream.receiving = not ended
        if stream.received(payload, ended=ended):
            self.grant(stream)

    def _reset(self, number: int, _flags: int, payload: bytes) -> None:
        number_of(payload)
        if number > self._last or not number:
            raise Broken(PROTOCOL_ERROR, "RST_STREAM of a stream that was never open")
        stream = self.streams.get(number)
        self.charge(1 if stream is None else _RESET_COST)
        if stream is not None:
            self.forget(stream)
            stream.left()

    # the connection

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number or (flags & ACK and payload):
            raise Broken(PROTOCOL_ERROR, "SETTINGS of a stream, or that acknowledges with settings")
        self.charge(1 + len(payload) // 60)
        if flags & ACK:
            return
        for name, value in pairs_of(payload):
            if name == INITIAL_WINDOW:
                self._resize_windows(value)
            elif name == MOST_FRAME_BYTES:
                if not FRAME_BYTES <= value < 2**24:
                    raise Broken(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
                self.longest = min(value, LONGEST_FRAME)
            elif name == HEADER_TABLE_SIZE:
                self.shrinks = self.shrinks or value < TABLE_BYTES
            elif name == ENABLE_PUSH and value > 1:
                raise Broken(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        self.write(SETTINGS_ACK)
        self.pump()

    def _resize_windows(self, size: int) -> None:
        self.charge(len(self.streams) // _STREAMS_A_FRAME)
        for stream in self.streams.values():
            stream.window = _widened(stream.window, size - self.first_window)
        self.first_window = _widened(0, size)

    def _window(self, number: int, _flags: int, payload: bytes) -> None:
        more = number_of(payload)
        if not more:
            raise Broken(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        stream = self.streams.get(number)
        if not number:
            self.charge(1 + len(self._blocked) // _STREAMS_A_FRAME)
            self.window = _widened(self.window, more)
            if self._blocked:
                self.pump()
        elif stream is not None:
            self.charge()
            stream.window = _widened(stream.window, more)
            self.open_window(stream)
        elif number <= self._last:
            self.charge()  # it was on its way when the stream ended
        else:
            raise Broken(PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never open")

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Broken(PROTOCOL_ERROR if number else FRAME_SIZE_ERROR, "PING of a stream, or not of 8 bytes")
        self.charge()
        if flags & ACK:
            self.pinged()
        else:
            self.write(head(PING, ACK, 0, 8) + payload)

    def pinged(self) -> None:
        """Is called when the client has answered a PING."""

    def _priority(self, _number: int, _flags: int, _payload: bytes) -> None:
        self.charge()  # RFC 9113, 5.3: to be ignored

    def _pushed(self, _number: int, _flags: int, _payload: bytes) -> None:
        raise Broken(PROTOCOL_ERROR, "PUSH_PROMISE of a client")


def _widened(window: int, more: int) -> int:
    if window + more > LARGEST:
        raise Broken(FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
    return window + more


_READERS: Final[dict[int, Callable[[Any, int, int, bytes], None]]] = {
    kind: getattr(Input, name)
    for kind, name in {
        PRIORITY: "_priority", RST_STREAM: "_reset", SETTINGS: "_settings", PUSH_PROMISE: "_pushed", PING: "_ping",
        GOAWAY: "_priority", WINDOW_UPDATE: "_window", CONTINUATION: "_continuation",
    }.items()
}  # fmt: skip
