"""The limits that a container's process has, read from files as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app import control_groups
from serve_app.control_groups import cpu_limit, memory_limit_bytes, usable_cpus

UNLIMITED_V1 = "9223372036854771712"


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "536870912\n"}, 536_870_912),  # v2, in a container
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {}, None),  # the machine's own root has no such file
        ("0::/a/b\n", {"a/memory.max": "300", "a/b/memory.max": "max"}, 300),  # of the group above
        ("0::/a/b\n", {"a/memory.max": "300", "a/b/memory.max": "200"}, 200),
        ("0::/../../pod\n", {"memory.max": "400", "pod/memory.max": "500"}, 400),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": "100\n"}, 100),  # v1
        ("5:cpu,memory:/of/host\n", {"memory/memory.limit_in_bytes": "100\n"}, 100),  # v1, the host's name for it
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": UNLIMITED_V1}, int(UNLIMITED_V1)),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "100"}, None),  # another controller's
        ("", {"memory.max": "100"}, None),
        ("nonsense\n", {"memory.max": "nonsense"}, None),
    ],
)
def test_the_least_limit_of_the_process_s_groups(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    write_groups(tmp_path, groups, files)
    assert memory_limit_bytes(tmp_path / "groups", tmp_path / "tree") == limit


def write_groups(folder: Path, groups: str, files: dict[str, str]) -> None:
    (folder / "groups").write_text(groups)
    for name, content in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # v2
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2.0),  # of the group above
        ("0::/\n", {}, None),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),  # v1
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_least_share_of_cpu_time(tmp_path: Path, groups: str, files: dict[str, str], limit: float | None) -> None:
    write_groups(tmp_path, groups, files)
    assert cpu_limit(tmp_path / "groups", tmp_path / "tree") == limit


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "groups", tmp_path) is None
    assert cpu_limit(tmp_path / "groups", tmp_path) is None


@pytest.mark.parametrize(("limit", "cpus"), [(None, 3), (0.2, 1), (1.5, 2), (2.0, 2), (64.0, 3)])
def test_cpus_are_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch, limit: float | None, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.setattr(control_groups, "cpu_limit", lambda: limit)
    assert usable_cpus() == cpus
