"""`runtime unpack` of the last LAYOUT, killed before every STRIDE-th of its changes to a file system in turn; the first
one is there before: python -m tests.kit.crashing_unpack STRIDE DIR LAYOUT [LAYOUT]. Prints what a server would make of
the folder each time.

A process of its own, since it forks and the process of a test may have threads.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import runtime.commands.unpack  # noqa: F401 - imported once here, and not in each fork
from runtime.cli import main
from runtime.errors import Failure
from runtime.kit.disk.folder import FolderKit
from runtime.kit.files import remove
from runtime.kit.installed.receipt import installed
from runtime.kit.installed.recheck import recheck

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def killed_before(step: int) -> None:
    """End this process right before the change number `step` (from 1) to a file system."""
    left = [step]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or written:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def forked(call: Callable[[], int]) -> int:
    """The exit code of a call in a process of its own; negative if it was killed."""
    sys.stdout.flush()
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(call())


def unpacked(layout: str, folder: Path) -> int:
    return main(["unpack", f"oci:{layout}:v1", str(folder)])


def unpacked_until(step: int, layout: str, folder: Path) -> int:
    killed_before(step)
    return unpacked(layout, folder)


def state(folder: Path) -> str:
    """What a server finds: a whole kit with a receipt, or nothing to serve. A plain folder would be a fault."""
    try:
        receipt = installed(folder)
        if receipt is None:
            FolderKit.open(folder)
    except Failure:
        return "refused"
    assert receipt is not None
    recheck(folder, receipt, lambda *_: None)
    return "whole"


def crashed(step: int, folder: Path, layout: str, before: Path) -> int:
    """The exit code of the unpack that was to be killed; after it a second one has mended the folder."""
    remove(folder)
    if before.exists():
        shutil.copytree(before, folder)
    code = forked(partial(unpacked_until, step, layout, folder))
    sys.stdout.write(state(folder) + "\n")
    assert forked(partial(unpacked, layout, folder)) == 0
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"Kitfile", ".modelkit-receipt.json", "m/a", "new/x"}, found
    assert state(folder) == "whole"
    return code


if __name__ == "__main__":
    stride, place, names = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    unpacked(names[-1], place)  # imports once what each of the children would import
    os.dup2(out, 1)
    copied = place.with_name("before")
    for name in names[:-1]:
        assert forked(partial(unpacked, name, copied)) == 0
    ends = (crashed(step, place, names[-1], copied) for step in count(1, stride))
    assert next(code for code in ends if code != -signal.SIGKILL) == 0
