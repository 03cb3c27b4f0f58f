"""How much memory this process's control groups allow: in a container less than the machine has.

Each group above the process's own limits it too, so the least counts. In a container /proc/self/cgroup may name a
group of the host's that is not in the container's own tree; the tree's root is the container's then.
Formats: cgroups(7); memory.max (v2) and memory.limit_in_bytes (v1) in the kernel's admin guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
TREE = Path("/sys/fs/cgroup")


def memory_limit_bytes(groups: Path = GROUPS, tree: Path = TREE) -> int | None:
    """None where there is none, or no control groups. v1 without a limit says some 8 EiB."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    return min(
        (limit for line in lines for path in limit_files(line, tree) for limit in read_limit(path)), default=None
    )


def limit_files(line: str, tree: Path) -> Iterator[Path]:
    """The files, there or not, that may limit the group of a line `number:controllers:/path`."""
    _, _, rest = line.partition(":")
    controllers, _, group = rest.partition(":")
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        if not controllers:
            yield tree.joinpath(*parts[:depth], "memory.max")
        elif "memory" in controllers.split(","):
            yield tree.joinpath("memory", *parts[:depth], "memory.limit_in_bytes")


def read_limit(path: Path) -> Iterator[int]:
    """One number, or none."""
    try:
        content = path.read_text().strip()
    except OSError:
        return
    if content.isdecimal():  # v2 says "max" for none
        yield int(content)
