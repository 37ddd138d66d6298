"""A client that sends what it likes: frames written here, header blocks by the library hpack."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hpack import Decoder, Encoder

from runtime.serving.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    head,
    settings,
)

PATIENCE_SECONDS = 30.0
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of GOAWAY or RST_STREAM."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return head(kind, flags, stream, len(payload)) + payload


def message(body: bytes, *, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(body)) + body


class Raw:
    """One connection; it has sent preface and SETTINGS unless `greets` is False."""

    def __init__(self, port: int, *pairs: tuple[int, int], greets: bool = True, buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.encoder, self.decoder, self._data, self._stream = Encoder(), Decoder(), b"", -1
        if greets:
            self.send(PREFACE, settings(*pairs))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def block(self, *more: tuple[str, str], path: str = INFER, method: str = "POST") -> bytes:
        fields = [(":method", method), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
        huffman = sum(map(len, sum(more, ()))) < 1000  # which takes a second for 100 kB
        return bytes(self.encoder.encode([*fields, *more], huffman))

    def request(self, body: bytes | None, *more: tuple[str, str], path: str = INFER, method: str = "POST",
                flags: int = END_STREAM) -> int:  # fmt: skip
        """Sends a call in one piece, without DATA if `body` is None; gives its stream."""
        stream = self.next()
        sent = frame(HEADERS, END_HEADERS, stream, self.block(*more, path=path, method=method))
        self.send(sent, b"" if body is None else frame(DATA, flags, stream, message(body)))
        return stream

    def next(self) -> int:
        self._stream += 2
        return self._stream

    def frames(self) -> Iterator[Frame]:
        """What the server sends, to the end of the connection."""
        while True:
            while len(self._data) < 9 or len(self._data) < 9 + int.from_bytes(self._data[:3]):
                try:
                    more = self.socket.recv(2**18)
                except ConnectionResetError:
                    return
                if not more:
                    return
                self._data += more
            length, end = int.from_bytes(self._data[:3]), 9 + int.from_bytes(self._data[:3])
            kind, flags, stream = self._data[3], self._data[4], int.from_bytes(self._data[5:9])
            payload, self._data = self._data[9 : 9 + length], self._data[end:]
            yield Frame(kind, flags, stream, payload)

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of that kind."""
        for found in self.frames():
            if found.kind == kind and stream in (None, found.stream) and not (kind == SETTINGS and found.flags):
                return found
        raise AssertionError(f"the connection ended without a frame {kind}")

    def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """Headers and trailers of a whole answer, and its body; an answer that is reset has none."""
        seen, body = dict[str, str](), b""
        for found in self.frames():
            if found.kind == HEADERS:
                fields = dict(self.decoder.decode(found.payload))
                if found.stream == stream:
                    seen |= fields
            elif found.kind == DATA and found.stream == stream:
                body += found.payload
            if found.stream == stream and (found.flags & END_STREAM if found.kind < 2 else found.kind == RST_STREAM):
                return seen, body
            assert found.kind != GOAWAY, found.payload
        raise AssertionError("the connection ended within the answer")

    def ended(self) -> list[Frame]:
        """Everything that still comes, to the end."""
        return list(self.frames())
