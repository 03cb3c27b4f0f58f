"""The embedded store on a full disk. A child process fills a small file system of its own to the last byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.errors import StoreFull
from serve_app.settings import StoreSettings
from serve_app.store.edge.free_space import MIB, size_on_disk_bytes, written_bytes
from serve_app.store.edge.store import EdgeStore
from tests.contracts.corpus import SCOPE, SPACE, document, found, query

ROOT = Path(__file__).parents[4]
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]  # they are gone when the process ends
MOUNT = 'mount -t tmpfs -o size=160m tmpfs "$1" && shift && exec "$@"'


def test_a_store_whose_disk_fills_up(tmp_path: Path) -> None:
    mounted = ["sh", "-c", MOUNT, "sh", str(tmp_path)]
    try:
        subprocess.run([*OWN_MOUNTS, *mounted, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine lets no process mount a file system of its own: {error}")
    child = [sys.executable, "-m", "tests.serve_app.store.edge.full_disk_child", str(tmp_path)]
    done = subprocess.run(
        [*OWN_MOUNTS, *mounted, *child], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


async def test_what_is_left_free_is_a_setting(folder: Path) -> None:
    """On any machine: no disk has so much room."""
    store = EdgeStore.open(folder, StoreSettings(min_free_bytes=0))
    await store.write(SCOPE, SPACE, [document("d", "text")])
    await store.close()
    full = EdgeStore.open(folder, StoreSettings(min_free_bytes=2**62))
    with pytest.raises(StoreFull, match="is full"):
        await full.write(SCOPE, SPACE, [document("new", "text")])
    assert await found(full, query("text")) == ["d"]
    await full.close()
    again = EdgeStore.open(folder, StoreSettings(min_free_bytes=0))
    await again.write(SCOPE, SPACE, [document("new", "text")])
    assert set(await found(again, query("text"))) == {"d", "new"}
    await again.close()


async def test_what_a_write_needs_counts_the_metadata_of_every_passage(folder: Path) -> None:
    store = EdgeStore.open(folder, StoreSettings(min_free_bytes=0))
    await store.write(SCOPE, SPACE, [document("first", "text")])
    before_bytes = size_on_disk_bytes(folder)
    texts = [f"text {number}" for number in range(8)]
    heavy = [document(f"d{number}", *texts, metadata={"html": os.urandom(20_000).hex()}) for number in range(20)]
    await store.write(SCOPE, SPACE, heavy)
    taken_bytes = size_on_disk_bytes(folder) - before_bytes
    assert taken_bytes > 10 * MIB
    assert 0.8 * taken_bytes < written_bytes(heavy) < 2 * taken_bytes
    await store.close()
