"""docs/sandbox.md, line by line: what a confined process cannot do, tried by one that is."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.worker.confinement import landlock_abi
from tests.places import ROOT

pytestmark = pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
REFUSALS = {"EPERM", "EACCES", "ENOSYS", "not allowed to raise maximum limit"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process in the sandbox met."""
    folder = tmp_path_factory.mktemp("sandbox")
    for kit in ("kits/one", "kits/two"):
        (folder / kit).mkdir(parents=True)
        (folder / kit / "model").write_bytes(b"x")
    (folder / "secret").write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = [str(folder / name) for name in ("kits", "kits/one", "kits/two", ".")]
        done = subprocess.run(
            [sys.executable, "-m", "tests.worker.sandboxed", *names, str(listener.fileno())],
            capture_output=True, text=True, timeout=60, cwd=ROOT, pass_fds=(listener.fileno(),),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_all_of_it_is_in_place(report: dict[str, Any]) -> None:
    assert re.fullmatch(r"landlock-\d+\+seccomp", report["level"])


def test_what_predicting_never_needs_is_refused_in_every_thread(report: dict[str, Any]) -> None:
    assert {name: report["met"][name] for name in report["must"] if report["met"][name] not in REFUSALS} == {}


def test_what_predicting_needs_goes_on(report: dict[str, Any]) -> None:
    assert {report["met"][name] for name in report["may"]} == {"done"}


def test_each_attempt_is_in_the_documentation(report: dict[str, Any]) -> None:
    page = (ROOT / "docs/sandbox.md").read_text()
    assert [name for name in (*report["must"], *report["may"]) if f"`{name}`" not in page] == []


FILTER = """
import ctypes, os, sys
from runtime.worker import seccomp
seccomp.install = lambda steps: (_ for _ in ()).throw(OSError(1, os.strerror(1)))
from runtime.worker import confinement
if sys.argv[1] == "neither":
    confinement.landlock_abi = lambda: 0
from runtime.worker.harden import shut_in
print(shut_in("auto", "/usr"))
"""


@pytest.mark.parametrize(("what", "said"), [
    ("no seccomp", r"landlock-\d+ \(no seccomp: Operation not permitted\)"),
    ("neither", r"none: no Landlock: this kernel .*; no seccomp: Operation not permitted"),
])  # fmt: skip
def test_a_kernel_that_cannot_is_named(what: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", FILTER, what], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert re.fullmatch(said, done.stdout.strip()), done


BLOCKED = """
import signal, sys, threading
from runtime.worker.harden import narrow, shut_in
import runtime.worker.confinement as confinement
confinement.FIRST_WITH_ALL_THREADS = 10**6
import runtime.worker.every_thread as every_thread
every_thread._THREAD_SECONDS = 0.05
level = shut_in("auto", "/usr")
begun, end = threading.Event(), threading.Event()
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    begun.set()
    end.wait()
thread = threading.Thread(target=deaf)
thread.start()
begun.wait()
print(narrow(level, "/usr"))
end.set()
"""


def test_a_thread_that_cannot_be_reached_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert re.fullmatch(r"landlock-\d+\+seccomp \(reads all kits of the cache: thread \d+ takes no signals\)",
                        done.stdout.strip()), done  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to keep")
def test_root_keeps_the_capability_to_read_where_files_belong_to_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    program = (
        "import sys; from runtime.worker.harden import shut_in; print(shut_in('auto', sys.argv[1]));"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')][0].lstrip('0'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout.splitlines()[1] == "4", done
