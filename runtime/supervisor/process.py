"""A worker process as the supervisor sees it: starts it with a clean environment, sends messages, ends and reaps it.

Starting one is the first thing a server does, so nothing is imported before that can wait: not `typing`, and not
`signal` and `socket`, which make enums of what `_signal` and `_socket` have.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys
from collections.abc import Callable, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.link.messages import Message

_OOM_SCORE = 500  # of 1000: as if it used half of all memory more, https://docs.kernel.org/filesystems/proc.html
_END_SECONDS = 0.5  # for a worker that has closed its channel to end by itself
_CONTROL = 3  # file descriptor of a worker's end of the channel
_START = """\
import gc
gc.disable()  # until the model is loaded: nothing that is imported is ever garbage
from {module} import main
main({control}, {supervisor})
"""
_KEPT_NAMES = """
PATH LANG LANGUAGE TZ NO_COLOR TMPDIR LD_LIBRARY_PATH LD_PRELOAD GLIBC_TUNABLES VIRTUAL_ENV
LC_ALL LC_CTYPE LC_COLLATE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME
PYTHONPATH PYTHONHOME PYTHONNOUSERSITE PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONUTF8 PYTHONUNBUFFERED
PYTHONHASHSEED PYTHONFAULTHANDLER PYTHONWARNINGS PYTHONMALLOC PYTHONDEVMODE
MALLOC_ARENA_MAX MALLOC_ARENA_TEST MALLOC_CONF MALLOC_MMAP_MAX_ MALLOC_MMAP_THRESHOLD_ MALLOC_PERTURB_ MALLOC_TOP_PAD_
MALLOC_TRIM_THRESHOLD_ MALLOC_CHECK_ TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES TCMALLOC_RELEASE_RATE
OMP_NUM_THREADS OMP_THREAD_LIMIT OMP_PROC_BIND OMP_PLACES OMP_WAIT_POLICY OMP_SCHEDULE OMP_DYNAMIC OMP_NESTED
OMP_MAX_ACTIVE_LEVELS OMP_STACKSIZE OMP_DISPLAY_ENV OMP_DISPLAY_AFFINITY OMP_CANCELLATION
GOMP_CPU_AFFINITY GOMP_SPINCOUNT GOMP_STACKSIZE GOMP_DEBUG KMP_AFFINITY KMP_BLOCKTIME KMP_SETTINGS KMP_STACKSIZE
KMP_DUPLICATE_LIB_OK KMP_INIT_AT_FORK KMP_LIBRARY KMP_HW_SUBSET KMP_TPAUSE
OPENBLAS_NUM_THREADS OPENBLAS_MAIN_FREE OPENBLAS_CORETYPE OPENBLAS_VERBOSE OPENBLAS_DEFAULT_NUM_THREADS
OPENBLAS_THREAD_TIMEOUT BLIS_NUM_THREADS BLIS_ARCH_TYPE
MKL_NUM_THREADS MKL_DYNAMIC MKL_THREADING_LAYER MKL_INTERFACE_LAYER MKL_DEBUG_CPU_TYPE MKL_ENABLE_INSTRUCTIONS MKL_CBWR
MKL_SERVICE_FORCE_INTEL MKL_VERBOSE MKL_DOMAIN_NUM_THREADS
ONEDNN_MAX_CPU_ISA ONEDNN_VERBOSE ONEDNN_DEFAULT_FPMATH_MODE ONEDNN_PRIMITIVE_CACHE_CAPACITY ONEDNN_CPU_ISA_HINTS
DNNL_MAX_CPU_ISA DNNL_VERBOSE DNNL_DEFAULT_FPMATH_MODE DNNL_PRIMITIVE_CACHE_CAPACITY
NUMEXPR_NUM_THREADS NUMEXPR_MAX_THREADS NPY_DISABLE_CPU_FEATURES NPY_PROMOTION_STATE NPY_RELAXED_STRIDES_CHECKING
NUMBA_NUM_THREADS NUMBA_DISABLE_JIT NUMBA_THREADING_LAYER NUMBA_CPU_NAME NUMBA_CPU_FEATURES
LOKY_MAX_CPU_COUNT SKLEARN_ASSUME_FINITE SKLEARN_WORKING_MEMORY SKLEARN_PAIRWISE_DIST_CHUNK_SIZE
ORT_DISABLE_TELEMETRY ORT_LOGGING_LEVEL ATEN_CPU_CAPABILITY
TORCH_NUM_THREADS TORCH_LOGS TORCH_CPP_LOG_LEVEL TORCH_SHOW_CPP_STACKTRACES TORCH_CUDNN_V8_API_DISABLED
TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_CUDA_ARCH_LIST TORCHINDUCTOR_CACHE_DIR TORCH_COMPILE_DISABLE
PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF PYTORCH_NO_CUDA_MEMORY_CACHING PYTORCH_NVML_BASED_CUDA_CHECK PYTORCH_JIT
CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_HOME CUDA_PATH CUDA_CACHE_DISABLE
CUDA_CACHE_PATH CUDA_CACHE_MAXSIZE CUDA_FORCE_PTX_JIT CUDA_DEVICE_MAX_CONNECTIONS CUDA_MPS_PIPE_DIRECTORY
NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES NVIDIA_TF32_OVERRIDE
HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION HSA_ENABLE_SDMA
"""
_KEPT_VARIABLES = frozenset(_KEPT_NAMES.split())
"""Environment variables that a worker gets, by exact names: any other may hold a secret."""

_HASH_SEED = str(int.from_bytes(os.urandom(4), "little") or 1)
"""The same for all workers, which compare hashes of requests (runtime/serving/in_hand.py)."""


class WorkerProcess:
    """A running worker. `pidfd` becomes readable when it has ended."""

    def __init__(self, slot: int, module: str = "runtime.worker.main") -> None:
        """Starts `main` of `module`, which waits for its first order. Raises OSError if the machine has no
        process or file descriptor left."""
        self.slot, self._reaped, self._killed = slot, False, False
        self.accepts = False  # connections, before it serves a model: live, not ready
        self.loading: dict[str, float] = {}  # models that it is loading, and since when
        self.ready: set[str] = set()  # models that it serves
        self.learnt: set[str] = set()  # those of them whose outputs it has told
        self.not_understood = 0  # how often it sent what is no message
        self.traced = 0  # messages about traced requests in this second
        self.waiting = self.stuck_looks = 0  # connections to be accepted; for how many looks they have not become fewer
        self.blameless = False  # ended for what another one did: no sign of a crash loop
        self.finish_output: Callable[[], None] | None = None  # waits until all that it wrote is reported
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            self.pid, self.pidfd = _spawned(module, theirs.fileno(), pipes[1], pipes[3])
        except OSError:
            ours.close()
            for fd in pipes:
                os.close(fd)
            raise
        finally:
            theirs.close()
        self.streams = pipes[0], pipes[2]
        os.close(pipes[1])
        os.close(pipes[3])

        import socket

        from runtime.link.channel import Channel

        end = socket.socket(fileno=ours.detach())
        end.setblocking(False)
        self.channel = Channel(end)

    def tell(self, message: "Message", files: Sequence[int] = ()) -> None:
        """Sends a message. Ends a worker that cannot take it because it does not read."""
        try:
            self.channel.send(message, files)
        except OSError as error:
            if not isinstance(error, BrokenPipeError) or not self.ends_within(_END_SECONDS):
                self.kill()

    def ends_within(self, seconds: float) -> bool:
        """Waits up to `seconds` for the worker to end by itself: its exit code says why. Returns True if it did."""
        import select

        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def kill(self) -> None:
        """Kills the worker, if it runs, and its process group."""
        if not self._reaped:
            self._killed |= not self.ends_within(0)
            _kill_group(self.pid)

    def reap(self) -> str:
        """Frees what belongs to a worker that has ended; returns how it ended."""
        _kill_group(self.pid)  # before `waitpid`: until then no other process gets this number
        if self.finish_output:
            self.finish_output()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reaped = True
        os.close(self.pidfd)
        self.channel.close()
        if code >= 0:
            return f"exit code {code}"
        if code == -_signal.SIGKILL:
            return "SIGKILL by this server" if self._killed else "SIGKILL, perhaps out of memory"
        import signal

        return signal.Signals(-code).name if -code < signal.SIGRTMIN else f"signal {-code}"


def _spawned(module: str, channel: int, out: int, err: int) -> tuple[int, int]:
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - pathlib is one more import
        if fd > 2:  # left open by a shell or a service manager, too, even above RLIMIT_NOFILE
            try:
                os.set_inheritable(fd, False)
            except OSError:  # another thread has closed it
                continue
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-c", _START.format(module=module, supervisor=os.getpid(), control=_CONTROL)],
        _cleaned(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
            (os.POSIX_SPAWN_DUP2, channel, _CONTROL),
        ],
        setsid=True,
    )
    _rather_ended(pid)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        _kill_group(pid)
        os.waitpid(pid, 0)
        raise


def _rather_ended(pid: int) -> None:
    """Has the kernel end the worker `pid` rather than this process where memory runs out: this one says why.

    The worker does not do it itself: where memory is short, it may not get that far.
    """
    try:
        with open(f"/proc/{pid}/oom_score_adj", "r+b", 0) as score:  # noqa: PTH123 - pathlib is one more import
            score.write(b"%d" % min(int(score.read()) + _OOM_SCORE, 1000))
    except OSError:  # a /proc that is read-only
        pass


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, _signal.SIGKILL)
    except OSError:  # no process of the group is left, or none of this user
        return


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name in _KEPT_VARIABLES}
    kept.setdefault("PYTHONHASHSEED", _HASH_SEED)
    source = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib is one more import
    if sys.path[0] in {"", source}:  # a checkout that is not installed
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (source, kept.get("PYTHONPATH"))))
    return kept
