"""A small registry over real sockets that serves an OCI layout truthfully, and lies on request.

    with LyingRegistry(kits / "iris-onnx") as registry:
        registry.lie(r"/blobs/", flipped(at=10), times=1)
        pull(f"{registry.host}/kits/iris-onnx:v1")
        registry.seen("/blobs/")          # every request, with its headers

A lie is a function of an `Exchange`; it answers instead of the truth. Every repository name leads to the one layout.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

Headers = dict[str, str]
REF_NAME = "org.opencontainers.image.ref.name"
_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs|tags)/(?P<name>[^/]+)")


@dataclass(frozen=True)
class Seen:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Exchange:
    """One request, and the truth about it; `whole` is the body without regard to a range.

    `send` answers; `wire` is the bare connection for worse than that.
    """

    seen: Seen
    status: int
    headers: Headers
    body: bytes
    whole: bytes
    wire: BaseHTTPRequestHandler
    closing: threading.Event

    def send(self, status: int | None = None, headers: Headers | None = None, body: bytes | None = None) -> None:
        """Answer; what is not given is the truth. Content-Length fits the body unless it is given."""
        body = self.body if body is None else body
        self.head(status, {"Content-Length": str(len(body)), **(self.headers if headers is None else headers)})
        if self.seen.method != "HEAD":
            self.write(body)

    def head(self, status: int | None = None, headers: Headers | None = None) -> None:
        """Send status line and headers alone."""
        self.wire.send_response_only(status or self.status)
        for name, value in (self.headers if headers is None else headers).items():
            self.wire.send_header(name, value)
        self.wire.end_headers()

    def write(self, data: bytes) -> None:
        """Send raw bytes of the body."""
        self.wire.wfile.write(data)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection after this answer; `reset` sends RST instead of FIN."""
        self.wire.close_connection = True
        if reset:
            self.wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Lie = Callable[[Exchange], None]


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    lie: Lie
    left: float


class LyingRegistry:
    """Serves one layout folder (or nothing) on an ephemeral loopback port until closed; `requests` has all it saw."""

    def __init__(self, layout: Path | None = None, address: str = "127.0.0.1", certificate: Path | None = None) -> None:
        self.requests: list[Seen] = []
        self.closing = threading.Event()
        self._layout = layout
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            do_HEAD = do_POST = do_GET  # noqa: N815 - names that http.server gives

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self._server = _Server((address, 0), Handler)
        if certificate is not None:  # and its key, in one file
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def lie(self, pattern: str, lie: Lie, times: float = float("inf")) -> None:
        """Answer the next `times` requests whose `METHOD path` matches with `lie`; the first rule counts."""
        with self._lock:
            self._rules.append(_Rule(re.compile(pattern), lie, times))

    def seen(self, pattern: str = "") -> list[Seen]:
        """Requests whose path matches."""
        return [request for request in self.requests if re.search(pattern, request.path)]

    def close(self) -> None:
        """Stop, and release whoever is being kept waiting."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, wire: BaseHTTPRequestHandler) -> None:
        body = wire.rfile.read(int(wire.headers.get("Content-Length", 0)))
        seen = Seen(wire.command, wire.path, {name.lower(): value for name, value in wire.headers.items()}, body)
        lie = self._choose(seen)
        status, headers, true_body = self._truth(seen)
        whole = self._truth(Seen(seen.method, seen.path, {}))[2] if "range" in seen.headers else true_body
        exchange = Exchange(seen, status, headers, true_body, whole, wire, self.closing)
        try:
            lie(exchange)
        except OSError:  # the client has gone, as clients do
            wire.close_connection = True

    def _choose(self, seen: Seen) -> Lie:
        with self._lock:
            self.requests.append(seen)
            for rule in self._rules:
                if rule.left > 0 and rule.pattern.search(f"{seen.method} {seen.path}"):
                    rule.left -= 1
                    return rule.lie
        return Exchange.send

    def _truth(self, seen: Seen) -> tuple[int, Headers, bytes]:
        match = _PATH.fullmatch(seen.path.partition("?")[0])
        if match is None or self._layout is None:
            return _error(404, "NAME_UNKNOWN")
        if match["kind"] == "tags":
            names = [each["annotations"][REF_NAME] for each in self._index() if "annotations" in each]
            return 200, {"Content-Type": "application/json"}, json.dumps({"name": "x", "tags": names}).encode()
        return self._manifest(match["name"]) if match["kind"] == "manifests" else self._blob(match["name"], seen)

    def _index(self) -> list[dict[str, dict[str, str]]]:
        assert self._layout is not None
        manifests: list[dict[str, dict[str, str]]] = json.loads((self._layout / "index.json").read_bytes())["manifests"]
        return manifests

    def _manifest(self, name: str) -> tuple[int, Headers, bytes]:
        for each in self._index():
            if name in (each.get("annotations", {}).get(REF_NAME), each["digest"]):
                kind, digest = str(each["mediaType"]), str(each["digest"])
                return 200, {"Content-Type": kind, "Docker-Content-Digest": digest}, self._read(digest)
        return _error(404, "MANIFEST_UNKNOWN")

    def _blob(self, digest: str, seen: Seen) -> tuple[int, Headers, bytes]:
        try:
            data = self._read(digest)
        except FileNotFoundError:
            return _error(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
        if wanted is None:
            return 200, headers, data
        start = int(wanted[1])
        if start >= len(data):
            return 416, {**headers, "Content-Range": f"bytes */{len(data)}"}, b""
        data, size = data[: int(wanted[2] or len(data)) + 1], len(data)
        return 206, {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{size}"}, data[start:]

    def _read(self, digest: str) -> bytes:
        assert self._layout is not None
        algorithm, _, digits = digest.partition(":")
        return (self._layout / "blobs" / algorithm / digits).read_bytes()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients break off; that is what the tests are about."""


@dataclass
class Gate:
    """Where a lie waits for the test: `reached` when the lie stands there, `open` to let it go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)


# --- lies


def _error(status: int, code: str) -> tuple[int, Headers, bytes]:
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
    return status, {"Content-Type": "application/json"}, body


def truth() -> Lie:
    """No lie: to use up one turn of a pattern."""
    return Exchange.send


def refusal(status: int, code: str = "UNKNOWN", **headers: str) -> Lie:
    """An error of the distribution spec; headers by keyword, `Retry_After="1"`."""
    own = {name.replace("_", "-"): value for name, value in headers.items()}

    def lie(exchange: Exchange) -> None:
        _, more, body = _error(status, code)
        exchange.send(status, {**more, **own}, body)

    return lie


def challenge(header: str) -> Lie:
    """401 with this WWW-Authenticate header."""
    return refusal(401, "UNAUTHORIZED", WWW_Authenticate=header)


def other(body: bytes, **headers: str) -> Lie:
    """200 with other bytes of any length; headers by keyword replace the true ones."""
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send(200, {**exchange.headers, **own}, body)


def flipped(at: int = 0) -> Lie:
    """The truth with one bit of one byte changed."""

    def lie(exchange: Exchange) -> None:
        body = bytearray(exchange.body)
        body[at] ^= 1
        exchange.send(body=bytes(body))

    return lie


def short(by: int = 1) -> Lie:
    """Fewer bytes, and a Content-Length that admits it."""
    return lambda exchange: exchange.send(body=exchange.body[:-by])


def long(by: int = 1) -> Lie:
    """More bytes, and a Content-Length that admits it."""
    return lambda exchange: exchange.send(body=exchange.body + b"x" * by)


def claiming(**headers: str) -> Lie:
    """The true body under other headers; an empty value leaves the header out."""
    own = {name.replace("_", "-"): value for name, value in headers.items()}

    def lie(exchange: Exchange) -> None:
        named = {**exchange.headers, **own}
        exchange.send(headers={name: value for name, value in named.items() if value})

    return lie


def redirect(to: str | Callable[[Exchange], str], status: int = 307) -> Lie:
    """To another address; a function makes it from the exchange."""

    def lie(exchange: Exchange) -> None:
        location = to(exchange) if callable(to) else to
        exchange.send(status, {"Location": location}, b"")

    return lie


def cut(after: int, *, reset: bool = False, length: bool = True, ranges: bool = True) -> Lie:
    """Hang up after so many bytes of the body; without `length` nothing tells the client that there was more.

    Without `ranges` every answer starts with the first byte, whatever was asked for.
    """

    def lie(exchange: Exchange) -> None:
        if not ranges:
            exchange.headers.pop("Content-Range", None)
            exchange.status, exchange.body = 200, exchange.whole
        exchange.hang_up(reset=reset)
        exchange.head(headers=exchange.headers | ({"Content-Length": str(len(exchange.body))} if length else {}))
        exchange.write(exchange.body[:after])

    return lie


def endless(chunk: bytes = b"\0" * 65536) -> Lie:
    """No Content-Length and no end, until the client or the test has had enough."""

    def lie(exchange: Exchange) -> None:
        exchange.hang_up()
        exchange.head()
        while not exchange.closing.is_set():
            exchange.write(chunk)

    return lie


def stalled(after: int, gate: Gate | None = None) -> Lie:
    """Stop in the middle of the body; go on with the rest if the test opens the gate."""
    gate = gate or Gate()

    def lie(exchange: Exchange) -> None:
        exchange.head(headers=exchange.headers | {"Content-Length": str(len(exchange.body))})
        exchange.write(exchange.body[:after])
        exchange.wire.wfile.flush()
        gate.reached.set()
        while not gate.open.wait(0.05):
            if exchange.closing.is_set():
                return exchange.hang_up()
        return exchange.write(exchange.body[after:])

    return lie


def held(gate: Gate) -> Lie:
    """No byte at all before the gate is opened, then the truth."""

    def lie(exchange: Exchange) -> None:
        gate.reached.set()
        while not gate.open.wait(0.05):
            if exchange.closing.is_set():
                return exchange.hang_up()
        return exchange.send()

    return lie


def slow(chunk: int, seconds: float) -> Lie:
    """The truth, `chunk` bytes every `seconds`."""

    def lie(exchange: Exchange) -> None:
        exchange.head(headers=exchange.headers | {"Content-Length": str(len(exchange.body))})
        for start in range(0, len(exchange.body), chunk):
            exchange.write(exchange.body[start : start + chunk])
            if exchange.closing.wait(seconds):
                return exchange.hang_up()
        return None

    return lie


def unsized() -> Lie:
    """The truth without a Content-Length; the end of the connection is the end of the body."""

    def lie(exchange: Exchange) -> None:
        exchange.hang_up()
        exchange.head()
        exchange.write(exchange.body)

    return lie


def whole() -> Lie:
    """All bytes with status 200, whatever range was asked for, as caches do."""

    def lie(exchange: Exchange) -> None:
        bare = {name: value for name, value in exchange.headers.items() if name != "Content-Range"}
        exchange.send(200, bare, exchange.whole)

    return lie


def web_page() -> Lie:
    """A login page, as proxies and portals like to send."""
    return lambda exchange: exchange.send(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>log in</html>")


def gzipped() -> Lie:
    """The truth, compressed in transit though identity was asked for."""

    def lie(exchange: Exchange) -> None:
        exchange.send(headers={**exchange.headers, "Content-Encoding": "gzip"}, body=gzip.compress(exchange.body))

    return lie


def nothing(*, reset: bool = True) -> Lie:
    """Hang up without a word."""
    return lambda exchange: exchange.hang_up(reset=reset)
