"""A worker process as the supervisor sees it: started clean, spoken to, watched, ended.

Starting one is the first thing a server does, so nothing is imported before that can wait: not even `typing`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping

_CONTROL = 3
"""Where a worker finds its end of the channel."""
_START = """\
import gc
gc.disable()  # until the model is loaded: nothing that is imported is ever garbage
from {module} import main
main({control}, {supervisor})
"""
_KEPT_VARIABLES = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
)
_KEPT_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "CUDA_", "NVIDIA_", "PYTHONDONTWRITE")


class WorkerProcess:
    """A running worker. `pidfd` becomes readable when it has ended."""

    def __init__(self, slot: int, module: str = "runtime.worker.main") -> None:
        """Starts it: it imports, and waits for its first order. `module` has its `main`."""
        self.slot, self.ready, self._reaped = slot, False, False
        ours, theirs = socket.socketpair()
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", _START.format(module=module, supervisor=os.getpid(), control=_CONTROL)],
                _cleaned(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL),
                ],
                setsid=True,
            )
        self.pidfd = os.pidfd_open(self.pid)

        from runtime.link.channel import Channel

        self.channel = Channel(ours)

    def kill(self) -> None:
        """Ends it now, if it has not ended already."""
        if not self._reaped:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """After its end: frees what it held here and says how it ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reaped = True
        os.close(self.pidfd)
        self.channel.close()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker may know of our environment: nothing that could be a credential."""
    kept = {
        name: value for name, value in environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    source = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib is one more import
    if sys.path[0] in {"", source}:  # run from a checkout that is not installed
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (source, kept.get("PYTHONPATH"))))
    return kept
