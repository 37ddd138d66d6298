"""A `runtime` command in a process that has the modules of this one, and need not import them again."""

from __future__ import annotations

import os
import signal
import subprocess
import traceback
import warnings
from tempfile import TemporaryFile
from typing import NoReturn

from runtime.cli import main
from runtime.commands import cache, inspect, pull, unpack, verify  # noqa: F401 - the process need not import them
from runtime.kit.registry.client import import_oras

import_oras()


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `tests.e2e.server.run` does, in a third of its time: for what a command says, and not how it starts."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on: this process has threads
            pid = os.fork()
        if not pid:
            _end(arguments, environ, out.fileno(), err.fileno())
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def _end(arguments: tuple[str, ...], environ: dict[str, str], out: int, err: int) -> NoReturn:
    """Runs the command, and ends the process."""
    code = 1
    try:
        warnings.resetwarnings()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.environ.update(environ)
        code = main(arguments)
    except BaseException:  # noqa: BLE001 - what it was is printed, and the process ends
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
