"""What a connection writes: an answer in one piece where it fits, DATA as far as the client's windows let it go."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from runtime.serving.base_server import Accounts
from runtime.serving.http2.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    head,
    numbered,
)
from runtime.serving.http2.stream import Stream

STREAM_BYTES: Final = 4 * 2**20
CONNECTION_BYTES: Final = 16 * 2**20
"""What a client may send before it hears that it may send more. It hears so when half of it has come: a body is
bounded by what it may take in memory, not by a client that waits."""
TURNS: Final = 8
"""Calls that are answered before other connections have their turn."""
_SHARE_BYTES: Final = 2**20
"""What is written before other streams, and other connections, have their turn."""
_SHRUNK: Final = b"\x20"
"""Says that header blocks will use a table of 0 bytes, which ours never use: RFC 7541, 4.2."""
ANSWER_CREDIT: Final = 4
"""Frames that an answer, or one message of a stream of them, makes up for: a client opens windows, and pings."""
_WORTH_BYTES: Final = 1024
"""A frame of less, sent since the client opened a window a little, makes up for nothing."""
_LEAST_DEBT: Final = -10_000


class Output:
    """The half of a connection that writes."""

    transport: asyncio.Transport

    def __init__(self, state: Accounts) -> None:
        self._accounts = state
        self.streams: dict[int, Stream] = {}
        """Those that are not answered yet, or whose answer is not written yet."""
        self.window, self.first_window, self.longest = WINDOW_BYTES, WINDOW_BYTES, FRAME_BYTES
        """What may be sent on the connection, on a stream at first, and in a frame."""
        self.shrinks = False
        """True if the client has asked for a smaller table of headers, and no header block has said so yet."""
        self.unsent_bytes = 0
        """Bytes of answers that wait for a window, or for the transport."""
        self._blocked: dict[int, Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._due: deque[Stream] = deque()
        self._turns = TURNS
        self._inside = False
        """True while a piece of data is read: what is written meanwhile leaves in one piece."""
        self._paused = self._ended = False
        """While the client does not read; once our half of the connection has ended."""
        self._debt = 0
        """What the client has asked beyond what it was answered: see `Input`."""

    def write(self, data: bytes | memoryview) -> None:
        """Writes now, or when the piece of data that is being read has been."""
        self._out.append(data)
        self._flush_outside()

    def _flush_outside(self) -> None:
        if not self._inside:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._ended or self.transport.is_closing():
            return
        if len(out) == 1:
            self.transport.write(out[0])
        elif out:
            self.transport.writelines(out)

    def answer(self, stream: Stream, begin: bytes, body: Sequence[bytes | memoryview], length: int,
               trailers: bytes) -> None:  # fmt: skip
        """Writes a whole answer: two header blocks, and between them a body of `length` bytes."""
        if length > self.window or length > stream.window or length > self.longest or self._blocked or self.shrinks:
            self.begin(stream, begin)
            self.send(stream, body)
            self.end(stream, trailers)
            return
        self.window -= length
        number = stream.number
        self.write(b"".join((
            head(HEADERS, END_HEADERS, number, len(begin)), begin, head(DATA, 0, number, length), *body,
            head(HEADERS, END_HEADERS | END_STREAM, number, len(trailers)), trailers,
        )))  # fmt: skip
        self._finish(stream)

    def begin(self, stream: Stream, block: bytes) -> None:
        """Writes the headers of an answer."""
        self._headers(stream.number, block, END_HEADERS)

    def send(self, stream: Stream, body: Sequence[bytes | memoryview]) -> None:
        """Writes DATA; what does not fit now, as soon as it does."""
        stream.pending += [memoryview(piece) for piece in body if piece]
        self.unsent_bytes += sum(map(len, body))
        if stream.pending and stream.number not in self._blocked:
            self._blocked[stream.number] = stream
            stream.since = self._accounts.tick
            self.open_window(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """Ends an answer; to one that has not begun, these are all its headers."""
        if stream.pending:
            stream.trailers = trailers
            return
        self._headers(stream.number, trailers, END_HEADERS | END_STREAM)
        self._finish(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """Ends a stream without an answer, or without the rest of it."""
        self.write(numbered(RST_STREAM, stream.number, code))
        self.forget(stream)
        stream.left()

    def forget(self, stream: Stream) -> None:
        """Lets go of a stream."""
        self.streams.pop(stream.number, None)
        self.drop(stream)
        if not self.streams:
            self.rested()

    def drop(self, stream: Stream) -> None:
        """Lets go of what waits to be written."""
        if self._blocked.pop(stream.number, None) is not None:
            self.unsent_bytes -= sum(map(len, stream.pending))
            stream.pending.clear()

    def rested(self) -> None:
        """Is called when no stream is left."""

    def _headers(self, number: int, block: bytes, flags: int) -> None:
        if self.shrinks:
            self.shrinks, block = False, _SHRUNK + block
        self.write(head(HEADERS, flags, number, len(block)) + block)

    def _finish(self, stream: Stream) -> None:
        if stream.receiving:  # a client that still sends may stop
            self.write(numbered(RST_STREAM, stream.number, NO_ERROR))
        self.credit(ANSWER_CREDIT)
        self.forget(stream)

    def credit(self, count: int) -> None:
        """Notes that the client has got what it may react to."""
        self._debt = max(self._debt - count, _LEAST_DEBT)

    def grant(self, stream: Stream) -> None:
        """Lets a client send as much on a stream as it could at first."""
        if stream.granted <= STREAM_BYTES // 2 and stream.receiving:
            self.write(numbered(WINDOW_UPDATE, stream.number, STREAM_BYTES - stream.granted))
            stream.granted = STREAM_BYTES

    def due(self, stream: Stream) -> None:
        """Has a request answered that is whole: now, or when others had their turn."""
        if self._turns and not self._due:
            self._turns -= 1
            stream.run()
        else:
            self._due.append(stream)
            if len(self._due) == 1:
                asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._inside = True
        try:
            for _ in range(min(TURNS, len(self._due))):
                stream = self._due.popleft()
                if self.streams.get(stream.number) is stream:
                    stream.run()
        finally:
            self._inside = False
            if self._due:
                asyncio.get_running_loop().call_soon(self._go_on)
        self._flush()

    # what waits

    def open_window(self, stream: Stream) -> None:
        """Writes what waits of a stream, whose window is larger now."""
        if stream.number in self._blocked and not self._paused:
            self._pump(stream)
            self._flush_outside()

    def pump(self) -> None:
        """Writes what waits, as far as it may go now; what is left after a share goes when others had their turn."""
        for stream in list(self._blocked.values()):
            if self._paused or self.window <= 0 or self.transport.is_closing():
                break
            if stream.number in self._blocked:
                self._pump(stream)
        self._flush_outside()

    def _pump(self, stream: Stream) -> None:
        pending, share = stream.pending, _SHARE_BYTES
        while pending and share > 0:
            piece = pending[0]
            length = min(len(piece), self.window, stream.window, self.longest)
            if length <= 0:
                break
            if length == len(piece):
                del pending[0]
            else:
                pending[0] = piece[length:]
            self._out += (head(DATA, 0, stream.number, length), piece[:length])
            self.window -= length
            stream.window -= length
            self.unsent_bytes -= length
            share -= length
            stream.since = self._accounts.tick
            if length >= _WORTH_BYTES:
                self.credit(2)
        if not pending:
            del self._blocked[stream.number]
            stream.sent()
            if stream.trailers is not None:
                self.end(stream, stream.trailers)
        elif share <= 0:
            self._blocked[stream.number] = self._blocked.pop(stream.number)
            asyncio.get_running_loop().call_soon(self.pump)

    def pause_writing(self) -> None:
        """Stops reading from a client that does not read."""
        self._paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Goes on with a client that reads again."""
        self._paused = False
        self.transport.resume_reading()
        self.pump()

    def _reset_stalled(self, seconds: float) -> None:
        """Ends answers whose client has opened no window for `seconds`."""
        for stream in list(self._blocked.values()):
            if self._accounts.tick - stream.since > seconds:
                self.reset(stream, CANCEL)
