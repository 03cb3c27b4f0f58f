"""How much memory and how many CPUs this process's control groups allow: in a container less than the machine has.

Each group above the process's own limits it too, so the least counts. In a container /proc/self/cgroup may name a
group of the host's that is not in the container's own tree; the tree's root is the container's then.
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
    """None where there is none, or no control groups. v1 without a limit says some 8 EiB."""
    found = (
        limit
        for folder, is_v2 in folders(groups, tree, "memory")
        for limit in read_numbers(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes"))[:1]
    )
    return min(found, default=None)


def cpu_limit(groups: Path = GROUPS, tree: Path = TREE) -> float | None:
    """CPUs' worth of time; None where there is no limit, or no control groups."""
    shares = []
    for folder, is_v2 in folders(groups, tree, "cpu"):
        times_us = read_numbers(folder / "cpu.max") if is_v2 else read_v1_times_us(folder)
        if len(times_us) == 2 and times_us[1]:
            shares.append(times_us[0] / times_us[1])
    return min(shares, default=None)


def usable_cpus() -> int:
    """Those that this process may run on, or its time on them, whichever is less. Not OMP_NUM_THREADS: Ray sets that to
    1 for a replica that reserves less than one CPU."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return cpus if limit is None else min(cpus, max(1, math.ceil(limit)))


def folders(groups: Path, tree: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The groups, there or not, that may limit this process by that controller, and whether each is of v2."""
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
    """Quota and period; the quota is -1 where there is none."""
    return [*read_numbers(folder / "cpu.cfs_quota_us"), *read_numbers(folder / "cpu.cfs_period_us")]


def read_numbers(path: Path) -> list[int]:
    """All that are in the file; none if one of its words is no number, such as "max" and "-1"."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
