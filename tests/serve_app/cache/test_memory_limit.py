"""The limits that a container's process has, read from files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.cache.memory_limit import memory_limit_bytes

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
    (tmp_path / "groups").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert memory_limit_bytes(tmp_path / "groups", tmp_path / "tree") == limit


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "groups", tmp_path) is None
