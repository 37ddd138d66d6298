"""What the container may use: cores and memory, from the limits of control groups version 1 and 2.

Everything is read below `root`, so that tests can show it the trees of other machines. Sources: cgroup-v2.rst and
cgroup-v1/memory.rst, scheduler/sched-bwc.rst in the kernel's documentation.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_UNLIMITED_FROM: Final = 2**60  # version 1 writes "no limit" as the largest multiple of the page size below 2**63


class Allowance(NamedTuple):
    """What this process may use; None: no limit."""

    cores: float | None
    memory_bytes: int | None

    @property
    def threads(self) -> int:
        """How many threads can run at once: this process's cores, or its quota rounded up; at least 1."""
        available = len(os.sched_getaffinity(0))
        return max(1, available if self.cores is None else min(available, -int(-self.cores // 1)))


def allowance(root: Path = Path("/")) -> Allowance:
    """Returns the lowest limits among this process's control groups and all their ancestors."""
    cores = [limit for group in _groups(root, "cpu") if (limit := _cores(group)) is not None]
    memory = [limit for group in _groups(root, "memory") if (limit := _memory(group)) is not None]
    return Allowance(min(cores, default=None), min(memory, default=None))


def oom_kills(root: Path = Path("/")) -> int:
    """Returns how many processes of this control group the kernel has killed for lack of memory; 0 if unknown."""
    for group in _groups(root, "memory"):
        events = _text(group / "memory.events") or _text(group / "memory.oom_control")
        for name, _, count in (line.partition(" ") for line in events.splitlines()):
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders whose limits hold for this process, of both versions: its own group, then the ancestors."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        base = root / "sys/fs/cgroup"
        if number == "0" and not controllers:
            names = ["unified", ""]
        elif controller in controllers.split(","):
            names = [controllers, controller]
        else:
            continue
        mount = next((base / name for name in names if (base / name).is_dir()), base / controller)
        # without a cgroup namespace the path is the host's, while the mount shows the container's own groups
        folder = mount / group.strip("/")
        folder = folder if folder.is_dir() else mount
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(mount))


def _cores(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").partition(" ")  # version 2: "max 100000" or "150000 100000"
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")  # version 1: -1 is none
    set_ = quota.isdigit() and period.isdigit() and int(quota) and int(period)
    return int(quota) / int(period) if set_ else None


def _memory(group: Path) -> int | None:
    text = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < _UNLIMITED_FROM else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # no such controller, or not visible here: no limit that this process can know
        return ""
