"""A worker process as the supervisor sees it: started clean, spoken to, watched, ended.

Starting one is the first thing a server does, so nothing is imported before that can wait: not even `typing`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.supervisor.output import Output

_CONTROL = 3
"""Where a worker finds its end of the channel."""
_START = """\
import gc
gc.disable()  # until the model is loaded: nothing that is imported is ever garbage
from {module} import main
main({control}, {supervisor})
"""
_KEPT_VARIABLES = {
    *("PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES", "VIRTUAL_ENV"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUTF8"),
    *("PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHONFAULTHANDLER", "PYTHONWARNINGS", "PYTHONMALLOC", "PYTHONDEVMODE"),
}
_KEPT_PREFIXES = (
    *("LC_", "MALLOC_", "TCMALLOC_", "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "BLIS_", "MKL_", "ONEDNN_", "DNNL_"),
    *("NUMEXPR_", "NPY_", "NUMBA_", "LOKY_", "SKLEARN_", "ORT_", "ATEN_", "TORCH_", "PYTORCH_", "CUDA_", "NVIDIA_"),
    *("HIP_", "ROCR_", "HSA_"),
)
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSW", "CREDENTIAL", "API_KEY")
"""Names with these are not kept, whatever they begin with."""


class WorkerProcess:
    """A running worker. `pidfd` becomes readable when it has ended."""

    def __init__(self, slot: int, module: str = "runtime.worker.main") -> None:
        """Starts it: it imports, and waits for its first order. `module` has its `main`."""
        self.slot, self.ready, self._reaped = slot, False, False
        self.output: Output | None = None
        """Reads `streams`, once somebody wants to know."""
        self.streams, (out, err) = _pipes()
        ours, theirs = socket.socketpair()
        others = (int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib is one more import
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", _START.format(module=module, supervisor=os.getpid(), control=_CONTROL)],
                _cleaned(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                    # what a shell or a service manager left open here, too
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in others if fd > 2 and fd != theirs.fileno()),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL),
                ],
                setsid=True,
            )
        os.close(out)
        os.close(err)
        self.pidfd = os.pidfd_open(self.pid)

        from runtime.link.channel import Channel

        self.channel = Channel(ours)

    def kill(self) -> None:
        """Ends it now, if it has not ended already."""
        if not self._reaped:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """After its end: frees what it held here and says how it ended."""
        if self.output:
            self.output.finish()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reaped = True
        os.close(self.pidfd)
        self.channel.close()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


def _pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pipes: the ends to read from, and those to write to."""
    first = os.pipe()
    try:
        second = os.pipe()
    except OSError:
        os.close(first[0])
        os.close(first[1])
        raise
    return (first[0], second[0]), (first[1], second[1])


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker may know of our environment: nothing that could be a credential."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT_VARIABLES
        or (name.startswith(_KEPT_PREFIXES) and not any(word in name for word in _SECRET_WORDS))
    }
    source = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib is one more import
    if sys.path[0] in {"", source}:  # run from a checkout that is not installed
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (source, kept.get("PYTHONPATH"))))
    return kept
