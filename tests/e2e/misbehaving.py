"""What stands in for `runtime.worker.examine` after a file has taken it over. `--adapter` chooses what it does."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable

CHOICE = {"adapter": "onnx", "reason": "by the file m.onnx"}
FILE = {"path": "m.onnx", "adapter": "onnx", "refused": None}


def main(control: int, *_: int) -> None:
    end = socket.socket(fileno=control)
    order = json.loads(end.makefile("rb").readline())

    def say(*messages: object) -> None:
        end.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    ATTACKS[order["adapter"]](end, say)


def flood(end: socket.socket, say: Callable[..., None]) -> None:
    while True:
        say(CHOICE, *[FILE] * 1000)


def endless_line(end: socket.socket, _: object) -> None:
    while True:
        end.sendall(b'{"path":"' + b"x" * 65_536)


def descriptors(end: socket.socket, say: Callable[..., None]) -> None:
    for _ in range(500):
        socket.send_fds(end, [b" "], [1] * 8)
    say(CHOICE, FILE)


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
    say(CHOICE, {**FILE, "refused": "\x1b[2J\u202e\n" + "x" * 1_000_000})


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
    "no JSON": lambda end, say: end.sendall(b"{]\n"),
    "no object": lambda end, say: say(7),
    "nested": lambda end, say: end.sendall(b"[" * 100_000 + b"\n"),
    "another file": lambda end, say: say(CHOICE, {**FILE, "path": "../../../etc/passwd"}),
    "file twice": lambda end, say: say(CHOICE, FILE, FILE),
    "choice twice": lambda end, say: say(CHOICE, CHOICE),
    "another adapter": lambda end, say: say(CHOICE, {**FILE, "adapter": "evil"}),
    "wrong types": lambda end, say: say({"adapter": ["onnx"], "reason": {}}),
    "path of no text": lambda end, say: say(CHOICE, {**FILE, "path": ["m.onnx"]}),
}
