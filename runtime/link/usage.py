"""What this process uses of the machine, read from /proc, for the metrics that Prometheus' own clients call process_*.

https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics. Each process reads itself: one that is not
dumpable shows its file descriptors to nobody else.
"""

import os
import resource
import time

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STARTED = 19  # its place in /proc/self/stat behind the name, which may have spaces and brackets: proc_pid_stat(5)


def usage() -> dict[str, float]:
    """Returns the values by metric; none where the process has no file descriptor left to look."""
    try:
        with open("/proc/self/stat") as stat, open("/proc/self/statm") as memory:  # noqa: PTH123 - one import less
            fields, pages = stat.read().rpartition(")")[2].split(), int(memory.read().split()[1])
        opened = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - names only; without that of the list
    except OSError:
        return {}
    times, age = os.times(), time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_STARTED]) / _TICKS
    return {
        "process_cpu_seconds_total": times.user + times.system,
        "process_resident_memory_bytes": pages * _PAGE_BYTES,
        "process_open_fds": opened,
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "process_start_time_seconds": time.time() - age,
    }
