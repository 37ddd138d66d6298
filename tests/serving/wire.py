"""A client that sends exactly the bytes it is told to, and reads answers as they are."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.serving.support import BODY, INFER


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The text of an error, which has to be all that the body is."""
        assert self.headers["content-type"] == "application/json"
        document = json.loads(self.body)
        assert list(document) == ["error"]
        assert "\n" not in document["error"]
        return document["error"]  # type: ignore[no-any-return]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a port, or to the path of a Unix socket."""

    def __init__(self, port: int | str, timeout: float = 10.0) -> None:
        self.socket = socket.socket(socket.AF_INET if isinstance(port, int) else socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", port) if isinstance(port, int) else port)
        except OSError:
            self.socket.close()
            raise
        self._buffer = bytearray()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Wire:
        self.socket.sendall(data)
        return self

    def answer(self, *, head: bool = False) -> Answer:
        """The next whole answer; EOFError if the connection ends before it does."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        raw = self._taken(self._buffer.index(b"\r\n\r\n") + 4).removesuffix(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if head or first.startswith("HTTP/1.1 100") else int(headers["content-length"])
        while len(self._buffer) < length:
            self._more()
        return Answer(int(first.split()[1]), headers, self._taken(length))

    def closed(self) -> bool:
        """Whether the server ends the connection, without another byte."""
        try:
            return not self._buffer and not self.socket.recv(65536)
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(f"the connection ended after {bytes(self._buffer[-1000:])!r}")
        self._buffer += piece

    def _taken(self, length: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return taken


def request(
    method: str = "POST", path: str = INFER, body: bytes | None = BODY, headers: dict[str, str] | None = None
) -> bytes:
    """The bytes of a well-formed request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def ask(port: int, *requests: bytes) -> list[Answer]:
    """The answers to requests sent one after another on one connection."""
    with Wire(port) as wire:
        return [wire.send(data).answer() for data in requests]
