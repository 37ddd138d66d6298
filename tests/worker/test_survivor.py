"""Clients of a worker that has ended, whatever ended it."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from runtime.link.board import WAITING, Board
from runtime.worker.survivor import start

LATE = '504 Gateway Timeout\r\n|{"error":"deadline exceeded: no answer within 5 s"}'
PATIENCE_SECONDS = 30
WORKER = """
import os, signal, sys, time
from runtime.link.board import Board
from runtime.worker.survivor import start

control, metrics, deadline, *waits = map(int, sys.argv[1:-1])
signs = Board(control, metrics).signs(1)
signs.waiting[waits[0]] = 1.0  # of a worker before this one
start(signs, deadline)
signs.waiting[0] = 7.0  # no connection, whatever a model writes here
for descriptor, seconds in zip(waits[::2], waits[1::2]):
    signs.waiting[descriptor] = seconds and time.monotonic() - seconds
exec(sys.argv[-1])
"""


def after(end: str, *ages: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[str]:
    """What clients get that have waited for `ages` seconds (0: for nothing) when a worker runs `end`."""
    pairs = [socket.socketpair(type=kind) for _ in ages]
    board = Board.create(2, 1)
    files = [*board.files, *(theirs.fileno() for _, theirs in pairs)]
    waits = [str(number) for (_, theirs), age in zip(pairs, ages, strict=True) for number in (theirs.fileno(), age)]
    command = [sys.executable, "-c", WORKER, *map(str, board.files), "5", *waits, end]
    with subprocess.Popen(command, pass_fds=files, start_new_session=True, stdin=subprocess.DEVNULL) as worker:
        for _, theirs in pairs:
            theirs.close()
        assert worker.wait(PATIENCE_SECONDS) is not None
        got = [received(ours) for ours, _ in pairs]
    for file in board.files:
        os.close(file)
    return got


def received(client: socket.socket) -> str:
    """The status line and the body of what comes until the connection ends."""
    client.settimeout(PATIENCE_SECONDS)
    answer = b"".join(iter(lambda: client.recv(4096), b"")).decode()
    client.close()
    head, _, body = answer.partition("\r\n\r\n")
    if head.startswith("HTTP"):
        assert f"content-length: {len(body)}\r\nconnection: close" in head
        return f"{head.removeprefix('HTTP/1.1 ').partition(chr(10))[0]}\n|{body}"
    return answer


@pytest.mark.parametrize("end", ["os.abort()", "os.killpg(0, signal.SIGKILL)", "os._exit(0)", "1 / 0"])
def test_each_that_has_waited_for_too_long_is_told_and_nobody_else(end):
    assert after(end, 9, 0, 1) == [LATE, "", ""]


def test_what_is_no_connection_gets_nothing():
    assert after("os.abort()", 9, kind=socket.SOCK_SEQPACKET) == [""]


def test_a_connection_that_takes_nothing_keeps_no_other_waiting():
    full = "import socket; s = socket.socket(fileno=waits[0]); s.setblocking(False)\nwhile True: s.send(bytes(65536))"
    first, second = after(full, 9, 9)  # a BlockingIOError ends it
    assert (set(first), second) == ({"\0"}, LATE)


def test_it_keeps_no_descriptor_that_the_worker_has_closed():
    ours, theirs = socket.socketpair()
    board = Board.create(2, 1)
    command = [sys.executable, "-c", WORKER, *map(str, board.files), "5", str(theirs.fileno()), "0",
               "os.close(waits[0]); signal.pause()"]  # fmt: skip
    files = [*board.files, theirs.fileno()]
    with ours, subprocess.Popen(command, pass_fds=files, start_new_session=True) as worker:
        theirs.close()
        ours.settimeout(PATIENCE_SECONDS)
        try:
            assert ours.recv(1) == b""
        finally:
            worker.kill()


def test_a_kernel_that_starts_none_is_no_fault(monkeypatch):
    monkeypatch.setattr("runtime.worker.survivor._CLONE", {})
    signs = Board.create(2, 1).signs(1)
    signs.waiting[WAITING - 1] = time.monotonic()
    start(signs, 5.0)
    assert not any(signs.waiting)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
