import contextlib
import fcntl
import os
import resource
import select
import signal

import psutil
import pytest

from runtime.link.messages import Stop
from runtime.supervisor.process import WorkerProcess
from tests.descriptors import open_descriptors
from tests.e2e.server import PATIENCE_SECONDS


@pytest.fixture
def worker():
    process = WorkerProcess(1)
    yield process
    process.kill()
    with contextlib.suppress(OSError):
        process.reap()


def ended(process):
    assert select.select([process.pidfd], [], [], PATIENCE_SECONDS)[0]


@contextlib.contextmanager
def free_descriptors(count):
    """Room for `count` descriptors and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - names only
    fillers = [os.dup(0)]
    while fillers[-1] < top:
        fillers.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(top, *fillers) + 1 + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_start_without_descriptors_fails_and_leaves_nothing(count):
    me = psutil.Process()
    before, children = open_descriptors(), me.children()
    with free_descriptors(count), pytest.raises(OSError, match="Too many open files"):
        WorkerProcess(1)
    assert open_descriptors() <= before
    assert me.children() == children


def test_a_descriptor_above_the_limit_is_not_handed_on():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = fcntl.fcntl(0, fcntl.F_DUPFD, 900)
    os.set_inheritable(high, True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (800, limits[1]))
    try:
        process = WorkerProcess(1, "tests.supervisor.descriptors")
        assert os.read(process.streams[0], 100) == b"[0, 1, 2, 3]"
        ended(process)
        process.reap()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(high)


def test_an_end_is_told_in_words(worker):
    os.kill(worker.pid, 40)
    ended(worker)
    assert worker.reap() == "signal 40"
    worker.kill()  # the number may be another's by now: nothing happens


def test_a_worker_that_ended_by_itself_is_not_said_to_be_killed():
    process = WorkerProcess(1, "runtime.no_such_module")
    assert select.select([process.channel], [], [], PATIENCE_SECONDS)[0]  # closed, while Python still ends
    process.tell(Stop("m", 1.0))
    ended(process)
    assert process.reap() == "exit code 1"


def test_a_worker_that_takes_no_message_is_ended(worker):
    worker.channel.close()
    worker.tell(Stop("m", 1.0))
    ended(worker)
    assert worker.reap() == "SIGKILL by this server"


def test_a_worker_that_somebody_else_killed_may_have_been_out_of_memory(worker):
    os.kill(worker.pid, signal.SIGKILL)
    ended(worker)
    worker.kill()  # too late to be the cause
    assert worker.reap() == "SIGKILL, perhaps out of memory"
