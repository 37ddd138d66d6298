"""What stands in for `runtime.worker.examine` after a file has taken it over. `--adapter` chooses what it does."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable

CHOICE = ["Verdict", None, "onnx", "by the file m.onnx"]
FILE = ["Verdict", "m.onnx", "onnx", None]
LOUD = "\x1b[2J\u202e\n" + "x" * 10_000


def main(control: int, *_: int) -> None:
    end = socket.socket(fileno=control)
    _, _, _, (adapter, *_) = json.loads(end.recv(65_536))

    def say(*messages: object) -> None:
        for message in messages:
            end.sendall(json.dumps(message).encode())

    ATTACKS[adapter](end, say)


def flood(end: socket.socket, say: Callable[..., None]) -> None:
    while True:
        say(CHOICE, *[FILE] * 1000)


def endless_line(end: socket.socket, _: object) -> None:
    while True:
        end.sendall(b'["Verdict","' + b"x" * 100_000)


def descriptors(end: socket.socket, _: object) -> None:
    for message in (CHOICE, FILE):
        socket.send_fds(end, [json.dumps(message).encode()], [1] * 250)


def hang(_: object, say: Callable[..., None]) -> None:
    say(CHOICE, FILE)
    threading.Event().wait()


def deaf(end: socket.socket, say: Callable[..., None]) -> None:
    """The socket is closed, the process goes on."""
    end.close()
    threading.Event().wait()


def grandchild(end: socket.socket, say: Callable[..., None]) -> None:
    """A process that nobody knows keeps the socket open after the end."""
    if os.fork():
        say(CHOICE, FILE)
        os._exit(0)
    end.recv(1)  # until the parent closes its own end
    os._exit(0)


def half(end: socket.socket, say: Callable[..., None]) -> None:
    say(CHOICE)
    end.sendall(json.dumps(FILE).encode()[:-5])


def loud(_: object, say: Callable[..., None]) -> None:
    say(CHOICE, [*FILE[:3], LOUD])


ATTACKS: dict[str, Callable[..., None]] = {
    "flood": flood,
    "endless line": endless_line,
    "descriptors": descriptors,
    "hang": hang,
    "deaf": deaf,
    "grandchild": grandchild,
    "half": half,
    "loud": loud,
    "nothing": lambda end, say: None,
    "no JSON": lambda end, say: end.sendall(b"{]"),
    "no object": lambda end, say: say(7),
    "nested": lambda end, say: end.sendall(b"[" * 50_000),
    "another file": lambda end, say: say(CHOICE, ["Verdict", "../../../etc/passwd", "onnx", None]),
    "file twice": lambda end, say: say(CHOICE, FILE, FILE),
    "choice twice": lambda end, say: say(CHOICE, CHOICE),
    "another adapter": lambda end, say: say(CHOICE, ["Verdict", "m.onnx", "evil", None]),
    "wrong types": lambda end, say: say(["Verdict", None, ["onnx"], {}]),
    "path of no text": lambda end, say: say(CHOICE, ["Verdict", ["m.onnx"], "onnx", None]),
}
