"""Process 1 of a container: orphans are waited for, and exit codes reach those who wait for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.as_init import UNSHARE, require_unshare

HELPER = """#!/bin/sh
read -r registry
for _ in 1 2 3 4 5; do (sleep 0.0$_ &) ; done
case "$registry" in
known*) echo '{"Username": "u", "Secret": "s"}' ;;
*) echo "credentials not found"; exit 1 ;;
esac
"""
PULLING = """
import asyncio, json, sys, threading
from runtime.supervisor.orphans import leave_to_process_1

leave_to_process_1()

import os, psutil
from runtime.kit.registry.credentials import find_credential

answers = []

def pull():
    for number in range(30):
        for host in (f"known{number}.example.com", f"other{number}.example.com"):
            answers.append(find_credential(host).username)

def zombies_and_orphans():
    found = [process.info for process in psutil.process_iter(["status", "ppid"])]
    return sum(info["status"] == "zombie" for info in found), sum(info["ppid"] == 1 for info in found)

async def main():
    thread = threading.Thread(target=pull)
    thread.start()
    while thread.is_alive() or zombies_and_orphans() != (0, 1):
        await asyncio.sleep(0.02)

asyncio.run(main())
print(json.dumps({"pid": os.getpid(), "answers": answers}))
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def namespace() -> None:
    require_unshare()


@pytest.mark.slow
def test_sixty_credential_helpers_end_with_their_own_codes_among_three_hundred_orphans(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-x"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "x"}')
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", PULLING],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    said = json.loads(done.stdout)
    assert said["pid"] != 1
    assert said["answers"] == ["u", ""] * 30


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        ("os.kill(os.getpid(), signal.SIGTERM)", 128 + 15),
        ("os.kill(1, signal.SIGTERM); signal.pause()", 128 + 15),
        ("os.kill(1, signal.SIGKILL); sys.exit(5)", 5),
        ("sys.exit(0)", 0),
    ],
)
def test_process_1_passes_signals_on_and_ends_as_its_child_does(end: str, code: int) -> None:
    program = (
        f"from runtime.supervisor.orphans import leave_to_process_1 as leave; leave()\nimport os, signal, sys; {end}"
    )
    assert subprocess.run([*UNSHARE, sys.executable, "-c", program], timeout=60, check=False).returncode == code
