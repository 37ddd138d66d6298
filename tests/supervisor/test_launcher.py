import os

import pytest

from runtime.settings import Settings
from runtime.supervisor.cgroups import Allowance
from runtime.supervisor.launcher import limits_of

MIB = 2**20


def settings(*options: str) -> Settings:
    return Settings.read(["--kit", "host.example/m:v1", *options], {})


@pytest.mark.parametrize(
    ("options", "memory", "body", "in_flight"),
    [
        pytest.param((), None, 64 * MIB, 256 * MIB, id="no limit"),
        pytest.param((), 1024 * MIB, 64 * MIB, 128 * MIB, id="a gigabyte"),
        pytest.param((), 256 * MIB, 32 * MIB, 32 * MIB, id="less than bodies want"),
        pytest.param(("--workers", "4"), 1024 * MIB, 32 * MIB, 32 * MIB, id="shared by workers"),
        pytest.param(("--max-body-bytes", "1000"), 256 * MIB, 1000, 32 * MIB, id="the operator wants less"),
    ],
)
def test_bodies_take_a_share_of_the_memory_there_is(options, memory, body, in_flight):
    limits = limits_of(settings(*options), Allowance(None, memory))
    assert (limits.body_bytes, limits.in_flight_bytes) == (body, in_flight)


def test_threads_are_the_cores_a_worker_has_or_what_the_operator_says():
    cores = len(os.sched_getaffinity(0))
    assert limits_of(settings(), Allowance(None, None)).threads == cores
    assert limits_of(settings(), Allowance(0.5, None)).threads == 1
    assert limits_of(settings("--workers", "64"), Allowance(None, None)).threads == 1
    assert limits_of(settings("--threads", "3"), Allowance(0.5, None)).threads == 3
