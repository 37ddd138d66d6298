"""Where workers write: a file that they cannot change, and all of it by the end."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.supervisor.worker_log import WorkerLog
from tests.kit.made import made_kit

KIT = b"""
import os

def load(path, options):
    for number in range(3, 64):
        for change in (lambda: os.ftruncate(number, 0), lambda: os.pwrite(number, b"forged", 0)):
            try:
                change()
            except OSError:
                pass
    raise RuntimeError
"""


def test_workers_get_a_pipe_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = WorkerLog(file.fileno())
        assert stat.S_ISFIFO(os.fstat(log.fd).st_mode)
        os.write(log.fd, b"one\n")
        os.write(log.fd, b"two\n")
        log.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_workers_get_what_is_no_file_itself() -> None:
    end, pipe = os.pipe()
    log = WorkerLog(pipe)
    assert log.fd == pipe
    log.close()
    os.close(end)
    os.close(pipe)


@pytest.mark.slow
def test_a_model_cannot_change_the_log(tmp_path: Path) -> None:
    options = {"entrypoint": "k:load"}
    serving = {"options": options, "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}
    layout = made_kit(tmp_path / "kit", {"model.bin": b"x", "k.py": KIT}, framework="python",
                      parameters={"serving": serving})  # fmt: skip
    command = ["--kit", f"oci:{layout}:v1", "--trust", "unsafe", "--port", "0", "--cache-dir", str(tmp_path / "cache")]
    with (tmp_path / "log").open("wb") as file:
        environ = {**os.environ, "RUNTIME_GRPC_PORT": "off"}
        done = subprocess.run([sys.executable, "-m", "runtime", *command], stderr=file, env=environ, check=False)
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert (done.returncode, events[-1]) == (70, "runtime.failed")
    assert {"kit.resolved", "kit.verified"} < set(events)
