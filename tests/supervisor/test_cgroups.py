from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.supervisor.cgroups import Allowance, allowance, oom_kills

GIB = 2**30
V1_NONE = str(2**63 - 4096)

TREES: list[tuple[str, dict[str, str], Allowance]] = [
    (
        "version 2, limited, own namespace",
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
        },
        Allowance(1.5, GIB),
    ),
    (
        "version 2, no limits",
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"},
        Allowance(None, None),
    ),
    (
        "version 2, the pod's limit is tighter than the container's",
        {
            "proc/self/cgroup": "0::/kubepods/pod1/c1\n",
            "sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kubepods/pod1/c1/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/kubepods/pod1/memory.max": f"{GIB}\n",
        },
        Allowance(0.5, GIB),
    ),
    (
        "version 2, the host's path in /proc, the container's own tree mounted",
        {"proc/self/cgroup": "0::/system.slice/docker-abc.scope\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        Allowance(2.0, None),
    ),
    (
        "version 1, limited, controllers joined",
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{512 * 2**20}\n",
        },
        Allowance(2.0, 512 * 2**20),
    ),
    (
        "version 1, no limits",
        {
            "proc/self/cgroup": "5:memory:/\n4:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{V1_NONE}\n",
        },
        Allowance(None, None),
    ),
    (
        "both versions, the limits in version 1",
        {
            "proc/self/cgroup": "5:memory:/x\n4:cpu:/x\n0::/x\n",
            "sys/fs/cgroup/unified/cgroup.procs": "",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{GIB}\n",
        },
        Allowance(0.5, GIB),
    ),
    ("no control groups", {}, Allowance(None, None)),
    (
        "nonsense",
        {"proc/self/cgroup": "0::/\nx\n", "sys/fs/cgroup/cpu.max": "1 0\n", "sys/fs/cgroup/memory.max": "much\n"},
        Allowance(None, None),
    ),
]


@pytest.mark.parametrize(("files", "want"), [pytest.param(files, want, id=name) for name, files, want in TREES])
def test_the_tightest_limit_is_found(tmp_path: Path, files: dict[str, str], want: Allowance) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert allowance(tmp_path) == want


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1.0, 1), (1.2, 2), (1e6, None), (None, None)])
def test_threads_are_the_quota_rounded_up_but_never_more_than_the_machine_has(
    cores: float | None, threads: int | None
) -> None:
    available = len(os.sched_getaffinity(0))
    assert Allowance(cores, None).threads == min(threads or available, available)


def test_this_machine_can_be_read() -> None:
    assert allowance().threads >= 1


@pytest.mark.parametrize(
    ("tree", "count"),
    [
        ({"proc/self/cgroup": "0::/c\n", "sys/fs/cgroup/c/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
        (
            {
                "proc/self/cgroup": "4:memory:/c\n",
                "sys/fs/cgroup/memory/c/memory.oom_control": "under_oom 0\noom_kill 5\n",
            },
            5,
        ),
        ({"proc/self/cgroup": "0::/c\n", "sys/fs/cgroup/c/memory.max": "max\n"}, 0),
        ({}, 0),
    ],
    ids=["version 2", "version 1", "not counted", "no groups"],
)
def test_the_kernels_own_count_of_processes_without_memory(tmp_path: Path, tree: dict[str, str], count: int) -> None:
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == count
