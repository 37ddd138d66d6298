"""The environments of the real clients, of a registry (`drayage`) and of packages with real models (`models`): one for
each file of requirements/, since their pins conflict.

`python -m tests.clients.environments` (`make clients`) makes those that are not there, below build/clients.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.places import ROOT

FOLDER = ROOT / "build/clients"
REQUIREMENTS = Path(__file__).parent / "requirements"
NAMES = ("triton", "kserve", "mlserver", "models", "drayage")
_WHOLE = "whole"
"""A file that is written last: an environment without it was left half made."""


def place(name: str) -> Path:
    """The folder of the environment for these very requirements and this Python."""
    made_of = (REQUIREMENTS / f"{name}.txt").read_bytes() + sys.version.encode()
    return FOLDER / f"{name}-{hashlib.sha256(made_of).hexdigest()[:12]}"


def python(name: str) -> str:
    """The interpreter of an environment that is there."""
    folder = place(name)
    if not (folder / _WHOLE).exists():
        raise RuntimeError(f"no environment of the client {name}: make clients")
    return str(folder / "bin/python")


def make(name: str) -> None:
    """Makes the environment unless it is there; whoever comes meanwhile waits. Removes its predecessors."""
    folder = place(name)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _WHOLE).exists():
            return
        sys.stdout.write(f"Making the environment of {name}: a minute, once.\n")
        sys.stdout.flush()
        for old in FOLDER.glob(f"{name}-*"):
            shutil.rmtree(old)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        install = ["install", "--quiet", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin/python")]
        subprocess.run([*pip, *install, "--requirement", str(REQUIREMENTS / f"{name}.txt")], check=True)
        (folder / _WHOLE).touch()


if __name__ == "__main__":
    for each in NAMES:
        make(each)
