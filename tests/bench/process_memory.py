"""Proportional memory (PSS) of an indexing run, by the role of its processes. Linux only.

PSS divides a page among the processes that map it, so a sum over processes counts the page once. The kernel reports PSS
for anonymous memory, files and shared memory separately (/proc/PID/smaps_rollup, see the kernel's filesystems/proc).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

KIB = 1024


class Role(StrEnum):
    DRIVER = "driver"
    READING = "reading"
    EMBEDDING = "embedding"
    WRITING = "writing"
    LEDGER = "ledger"
    OBJECTS = "Ray's object store"  # shared memory of all processes
    RAY = "Ray's own processes"
    STORE = "store"
    STORE_FILES = "store: mapped files"  # page cache, which the kernel reclaims when needed
    OPTIMIZER = "store: its optimiser"  # runs from time to time


ACTORS = {
    "ReadStage": Role.READING,
    "EmbedStage": Role.EMBEDDING,
    "StoreStage": Role.WRITING,
    "StoreActor": Role.STORE,
    "Ledger": Role.LEDGER,
}
OPTIMIZER_MODULE = "serve_app.store.edge.optimize_child"


@dataclass(frozen=True, slots=True)
class Pss:
    """In bytes."""

    anonymous: int = 0
    files: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    command: str


def sampled(root: psutil.Process) -> dict[Role, int]:
    """Bytes by role of the process and all its descendants. Roles without a process are missing."""
    sizes: dict[int, Pss] = {}
    processes = []
    for each in [root, *root.children(recursive=True)]:
        try:
            processes.append(Process(each.pid, each.ppid(), " ".join(each.cmdline())))
            sizes[each.pid] = parse_pss(Path(f"/proc/{each.pid}/smaps_rollup").read_text())
        except (psutil.Error, OSError):  # the process has ended
            continue
    return by_role(roles_of(processes), sizes)


def parse_pss(rollup: str) -> Pss:
    """Parses the text of a smaps_rollup file. All values are 0 for a process that has ended."""
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in rollup.splitlines()[1:])}
    return Pss(*(kib.get(f"Pss_{kind}", 0) * KIB for kind in ("Anon", "File", "Shmem")))


def roles_of(processes: Iterable[Process]) -> dict[int, Role]:
    """Roles by pid. processes: parents before their children, the driver first."""
    roles: dict[int, Role] = {}
    for each in processes:
        roles[each.pid] = role_of(each.command, roles.get(each.parent))
    return roles


def role_of(command: str, parent: Role | None) -> Role:
    """The role of a process. Ray's workers have titles such as `ray::MapWorker(MapBatches(ReadStage))`. A child of an
    actor, such as the process that reads files, has the role of the actor."""
    if parent is None:
        return Role.DRIVER
    if command.startswith("ray::"):
        return next((role for name, role in ACTORS.items() if name in command), Role.RAY)
    if OPTIMIZER_MODULE in command:
        return Role.OPTIMIZER
    return Role.RAY if parent is Role.DRIVER else parent


def by_role(roles: Mapping[int, Role], sizes: Mapping[int, Pss]) -> dict[Role, int]:
    found: dict[Role, int] = {}

    def add(role: Role, size_bytes: int) -> None:
        found[role] = found.get(role, 0) + size_bytes

    for pid, size in sizes.items():
        role = roles[pid]
        add(Role.OBJECTS, size.shared)
        add(role, size.anonymous + (size.files if role is not Role.STORE else 0))
        if role is Role.STORE:
            add(Role.STORE_FILES, size.files)
    return found
