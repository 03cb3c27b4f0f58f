"""The memory and CPU limits of this process's control groups. In a container they are lower than the machine's.

Every ancestor of the process's group limits it too, so the lowest limit counts. In a container, /proc/self/cgroup may
name a group of the host that is missing in the container's tree; the root of that tree is then the container's group.
Formats: cgroups(7); memory.max and cpu.max (v2), memory.limit_in_bytes and cpu.cfs_quota_us (v1) in the kernel's admin
guide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
TREE = Path("/sys/fs/cgroup")


def memory_limit_bytes(groups: Path = GROUPS, tree: Path = TREE) -> int | None:
    """None without a limit or without control groups. Unlimited v1 groups report about 8 EiB."""
    found = (
        limit
        for folder, is_v2 in folders(groups, tree, "memory")
        for limit in read_numbers(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes"))[:1]
    )
    return min(found, default=None)


def cpu_limit(groups: Path = GROUPS, tree: Path = TREE) -> float | None:
    """CPU time a second, in CPUs. None without a limit or without control groups."""
    limits = []
    for folder, is_v2 in folders(groups, tree, "cpu"):
        times_us = read_numbers(folder / "cpu.max") if is_v2 else read_v1_times_us(folder)
        if len(times_us) == 2 and times_us[1]:
            limits.append(times_us[0] / times_us[1])
    return min(limits, default=None)


def usable_cpus() -> int:
    """The CPUs that this process may run on, or its limit of CPU time if that is less. Does not read OMP_NUM_THREADS,
    because Ray sets that to 1 for a replica that reserves less than one CPU."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return cpus if limit is None else min(cpus, max(1, math.ceil(limit)))


def folders(groups: Path, tree: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folder of each group that may limit this process by this controller, and whether the group is v2. A folder
    may not exist."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # number:controllers:/path
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        is_v2 = not controllers
        if not is_v2 and controller not in controllers.split(","):
            continue
        root = tree if is_v2 else tree / controller
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield root.joinpath(*parts[:depth]), is_v2


def read_v1_times_us(folder: Path) -> list[int]:
    """Quota and period. The quota is -1 without a limit."""
    return [*read_numbers(folder / "cpu.cfs_quota_us"), *read_numbers(folder / "cpu.cfs_period_us")]


def read_numbers(path: Path) -> list[int]:
    """The numbers in the file. Empty if any word of it is not a natural number, such as "max" or "-1"."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
