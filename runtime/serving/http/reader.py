"""Reads the requests on a connection: heads, bodies, and what the framing of both may cost."""

import re
from collections.abc import Callable
from typing import Final

import httptools

from runtime.link.limits import Limits
from runtime.serving.http.head import Head, Headers, Refused, check_head, target
from runtime.serving.media import too_large

_CHUNK_BYTES: Final = 128
"""What a chunk's size and extensions may take, on average."""
_OTHERS: Final = (
    (b"PRI * HTTP/2", "this port speaks HTTP/1.1; gRPC is served on the port of --grpc-port"),
    (b"\x16\x03", "this port speaks HTTP without TLS"),
)
"""How other protocols begin, and what their client is told."""


class Reader:
    """Calls `asked` with each head, `took` with pieces of the body, `ended` at its end; the parser calls `on_…`."""

    def __init__(self, limits: Limits, *, asked: Callable[[Head], None], took: Callable[[bytes], None],
                 ended: Callable[[], None]) -> None:  # fmt: skip
        self._limits, self._asked, self._took, self._ended = limits, asked, took, ended
        self._parser = self._new_parser()
        self.between = True
        """True between two requests."""
        self.received_bytes = 0
        """What has come of the head or body that is being read."""
        self.headers: Headers = []
        """Headers of the head that is being read, then its trailers."""
        self._url, self._in_body = b"", False
        self._unparsed = b""
        """What has come of a head that is not whole."""
        self._chunks = self._body_bytes = self._raw_body = 0

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # requests behind a `Connection: close` are ours to ignore; the parser would refuse those before them too
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def leave_body(self, received_bytes: int = 1) -> None:
        """Leaves the rest of a request to another reader, which counts `received_bytes` on, until `body_left`."""
        if self._in_body:  # the parser waits for a body that it will never see
            self._parser = self._new_parser()
        self.between, self._in_body, self._raw_body = False, False, 0
        self.received_bytes = received_bytes

    def body_left(self) -> None:
        """Notes that the request is whole, without this reader."""
        self.received_bytes, self.between = 0, True

    def close(self) -> None:
        """Reads no more. Parser and reader hold each other: this breaks the cycle."""
        del self._parser

    def feed(self, data: bytes) -> None:
        """Reads `data`. Raises Refused; what a callback raises else goes through."""
        self.received_bytes += len(data)
        self._unparsed += data
        while data:
            if self._raw_body:
                data = self._take_raw(data)
                continue
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:  # the parser leaves the rest
                data = data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                raise error.__context__ or error from None
            except httptools.HttpParserError as error:
                text = next((text for start, text in _OTHERS if self._unparsed.startswith(start)), error)
                raise Refused(400, f"invalid HTTP request: {text}") from None
        if self.between or self._in_body:
            self._unparsed = b""
        self._check_size()

    def _check_size(self) -> None:
        limits = self._limits
        if not self._in_body:
            if self.received_bytes > limits.head_bytes:
                raise Refused(431, f"request head too large: more than {limits.head_bytes} bytes")
        elif self._body_bytes > limits.body_bytes:
            raise Refused(413, str(too_large(limits.body_bytes)))
        elif self.received_bytes - self._body_bytes > limits.head_bytes + self._chunks * _CHUNK_BYTES:
            raise Refused(431, "chunk extensions or trailers too large")
        elif len(self.headers) > limits.headers:
            raise Refused(431, f"too many trailers: more than {limits.headers}")

    def _take_raw(self, data: bytes) -> bytes:
        """Takes the body of a request that offered an upgrade, which the parser does not read (Java's HttpClient)."""
        body, rest = data[: self._raw_body], data[self._raw_body :]
        self._raw_body -= len(body)
        self.on_body(body)
        self.on_message_complete()
        return rest

    def on_message_begin(self) -> None:
        """Notes that a request begins."""
        self.between, self._url, self.headers = False, b"", []
        self._chunks = self._body_bytes = 0
        self.received_bytes = self.received_bytes or 1  # behind another request in one piece of data

    def on_url(self, url: bytes) -> None:
        """Takes a piece of the request target."""
        self._url += url
        if len(self._url) > self._limits.uri_bytes:
            raise Refused(414, f"URI too long: more than {self._limits.uri_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a whole header, or a trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Checks the head, which is whole."""
        parser, headers = self._parser, self.headers
        version, method, upgrade = parser.get_http_version(), parser.get_method(), parser.should_upgrade()
        # The parser also takes ICE (whose one method is SOURCE) and RTSP, and does not say which it was. What has come
        # may be long: to look for RTSP in all of it takes longer than to read a tensor.
        is_first = self.received_bytes >= len(self._unparsed)
        is_http = is_first and self._unparsed.startswith(b"%b %b HTTP/" % (method, self._url))
        if method == b"SOURCE" or (not is_http and b" RTSP/" in self._unparsed and self._is_rtsp(method)):
            raise Refused(400, "invalid HTTP request: another protocol")
        length, continues = check_head(version, self._url, headers, self._limits, upgrade=upgrade)
        if method == b"CONNECT":
            raise Refused(405, "method not allowed: CONNECT")
        path, query = target(self._url)
        keep_alive = version == "1.1" and parser.should_keep_alive()
        self._raw_body = length if length and upgrade else 0
        self.received_bytes, self._in_body = 0, True
        self.headers = []  # what comes now is a trailer, and none of the application's business
        self._asked(Head(version, method, path, query, headers, length, continues, keep_alive))

    def _is_rtsp(self, method: bytes) -> bool:
        line = rb"(?:\A|\n)%b +%b +RTSP/" % (method, re.escape(self._url))
        return re.search(line, self._unparsed) is not None

    def on_chunk_header(self) -> None:
        """Counts one chunk more."""
        self._chunks += 1
        if self._chunks > self._limits.chunks:
            raise Refused(400, f"invalid chunking: more than {self._limits.chunks} chunks")

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        self._body_bytes += len(body)
        self._took(body)

    def on_message_complete(self) -> None:
        """Notes that the request is whole, unless the parser only says so because it offered an upgrade."""
        if not self._raw_body:
            self.received_bytes, self.between, self._in_body = 0, True, False
            self._ended()
