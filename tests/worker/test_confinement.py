from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.worker.confinement import landlock_abi

pytestmark = pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")

PROGRAM = """
import os, socket, sys, time
from pathlib import Path
from runtime.worker.confinement import confine, interpreter_paths
kit, other = Path(sys.argv[1]), Path(sys.argv[2])
begin = time.perf_counter()
abi = confine((*interpreter_paths(), kit))
print("ms", round((time.perf_counter() - begin) * 1000, 2), file=sys.stderr)
assert abi >= 1
def said(act):
    try:
        act()
        return "done"
    except OSError as error:
        return type(error).__name__
print(said(lambda: (kit / "model").read_bytes()), said(lambda: (other / "secret").read_bytes()))
print(said(lambda: (kit / "new").write_bytes(b"")), said(lambda: (kit / "model").write_bytes(b"")))
print(said(lambda: Path("/etc/passwd").read_bytes()), said(lambda: os.execv("/bin/true", ["true"])))
print(said(lambda: open("/dev/null", "w").write("x")), said(lambda: os.listdir(other)))
if abi >= 4:
    print(said(lambda: socket.create_connection(("127.0.0.1", 9), 1)))
import numpy
print(numpy.arange(3).sum())
"""


def test_only_the_given_folders_can_be_read(tmp_path: Path) -> None:
    for folder, name in (("kit", "model"), ("other", "secret")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "kit"), str(tmp_path / "other")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "done PermissionError", "PermissionError PermissionError", "PermissionError PermissionError", "done PermissionError",
    ]  # fmt: skip
    assert lines[4:-1] in ([], ["PermissionError"])
    assert lines[-1] == "3"


def test_a_process_with_threads_is_not_confined() -> None:
    program = (
        "import threading, runtime.worker.confinement as c\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "try: c.confine(c.interpreter_paths())\n"
        "except OSError as error: print(error.strerror, open('/etc/passwd').read() != '')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "Landlock would not bind the threads that run already True"
