"""How many connections a server takes: never more than it has file descriptors for; and the time in its answers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from runtime.serving.http.state import date_of
from tests.serving.wire import Wire, ask, request

ONE_MORE = "import resource; from runtime.serving.base_server import affordable; print(affordable({}), resource.getrlimit(7)[0])"


def shell(limits: str, *command: str) -> list[str]:
    return ["sh", "-c", f'{limits}; exec "$@"', "sh", *command]


@pytest.mark.parametrize(
    ("limits", "wanted", "most", "soft"),
    [
        pytest.param("ulimit -n 4096", 1024, 1024, 4096, id="enough"),
        pytest.param("ulimit -Hn 2048; ulimit -Sn 256", 1024, 1024, 1088, id="soft limit raised as far as needed"),
        pytest.param("ulimit -n 1024", 1024, 960, 1024, id="hard limit"),
        pytest.param("ulimit -n 64", 1024, 21, 64, id="very low"),
    ],
)
def test_there_are_descriptors_for_all_connections_and_some_are_left(limits: str, wanted: int, most: int, soft: int):
    command = shell(limits, sys.executable, "-c", ONE_MORE.format(wanted))
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.split() == [str(most), str(soft)]


def test_a_date_is_that_of_http():
    month = 2_629_746
    for seconds in (0, 951_782_400, *range(1_800_000_000, 1_800_000_000 + 13 * month, month)):
        assert date_of(seconds) == formatdate(seconds, usegmt=True).encode()


@pytest.fixture
def narrow_port() -> Iterator[int]:
    """A server in a process that may have 64 descriptors."""
    program = """
import sys, time
from runtime.link.limits import Limits
from tests.serving.support import model, serving
with serving(model()) as served:
    print(served.port, flush=True)
    sys.stdin.read()
print([event["connections"] for event in served.lines.events("connections.limited")])
"""
    command = shell("ulimit -n 64", sys.executable, "-c", program)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            assert process.stdout.read().strip() == "[21]"
            assert process.wait(20) == 0


@pytest.mark.slow
def test_with_few_descriptors_idle_connections_do_not_shut_others_out(narrow_port: int):
    """120 idle connections at 64 descriptors: stock uvicorn resets the next client."""
    with contextlib.ExitStack() as stack:
        for _ in range(120):
            wire = stack.enter_context(Wire(narrow_port))
            with contextlib.suppress(OSError, EOFError):
                wire.send(request("GET", "/v2/health/live", None)).answer()
        for _ in range(5):
            assert ask(narrow_port, request("GET", "/v2/health/live", None), request())[1].status == 200
