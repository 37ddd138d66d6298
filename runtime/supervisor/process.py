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
    from runtime.log import Log
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
        self._output: Output | None = None
        self._out, out, self._err, err = _two_pipes()
        ours, theirs = socket.socketpair()
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", _START.format(module=module, supervisor=os.getpid(), control=_CONTROL)],
                _cleaned(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL),
                ],
                setsid=True,
            )
        os.close(out)
        os.close(err)
        self.pidfd = os.pidfd_open(self.pid)

        from runtime.link.channel import Channel

        self.channel = Channel(ours)

    def report_output(self, log: Log, *, own_stdout: bool = False) -> None:
        """From now on what it writes to its standard streams is reported to `log` (`runtime.supervisor.output`)."""
        from runtime.supervisor.output import Output

        self._output = Output(self._out, self._err, self.pidfd, log, self.slot, own_stdout=own_stdout)

    def finish_output(self) -> None:
        """While it ends: waits until all of its output is reported."""
        if self._output:
            self._output.finish()

    def kill(self) -> None:
        """Ends it now, if it has not ended already."""
        if not self._reaped:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """After its end: frees what it held here and says how it ended."""
        self.finish_output()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reaped = True
        os.close(self.pidfd)
        self.channel.close()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


def _two_pipes() -> tuple[int, int, int, int]:
    first = os.pipe()
    try:
        return (*first, *os.pipe())
    except OSError:
        for fd in first:
            os.close(fd)
        raise


def _inheritable() -> list[int]:
    """Descriptors that a shell or service manager left open here, and that every child would inherit."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - pathlib is one more import
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # closed by now, as the one of the listing is
            continue
    return found


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
