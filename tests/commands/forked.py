"""A `runtime` command in a fork of a process that has imported the runtime already: for what a command says and leaves,
and not how it starts. `python -m tests.commands.forked` is that process; it has one thread, so no fork finds a lock that
nobody will release."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NoReturn

from tests.places import ROOT


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `tests.e2e.server.run` does, in a third of its time."""
    with NamedTemporaryFile("r") as out, NamedTemporaryFile("r") as err:
        forks, order = _forks(), [str(Path.cwd()), arguments, {**os.environ, **environ}, out.name, err.name]
        try:
            print(json.dumps(order), file=forks.stdin, flush=True)
            code = int(forks.stdout.readline())
        except BaseException:
            _forks.cache_clear()
            forks.kill()
            raise
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


@cache
def _forks() -> subprocess.Popen[str]:
    """The process that forks: one for this process, with which it ends."""
    command = [sys.executable, "-m", "tests.commands.forked"]
    forks = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(forks.__exit__, None, None, None)
    return forks


def _end(folder: str, arguments: list[str], environ: dict[str, str], *outputs: str) -> NoReturn:
    """Runs the command, and ends the process."""
    code = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, path in enumerate(outputs, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
        code = main(arguments)
    except BaseException:  # noqa: BLE001 - what it was is printed, and the process ends
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    from runtime.cli import main
    from runtime.kit.registry.client import import_oras

    import_oras()
    for name in ("cache", "inspect", "pull", "unpack", "verify"):
        import_module(f"runtime.commands.{name}")
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _end(*json.loads(line))
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
