"""A run that is killed anywhere and repeated leaves what an undisturbed run leaves, of a corpus that changes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serve_app.settings import Settings
from serve_app.types import Scope
from tests.jobs.contents import contents, require_equal

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120.0
DOCUMENTS = 400
# Part of the run's own processes' names; the driver's is that of the command.
PARTS = ("jobs.index", "ray::MapWorker", "ray::StoreActor")


def write_version(corpus: Path, version: int) -> None:
    """Of each version a third is new, a third changes in its middle, and as many as are new are gone."""
    rows = []
    for number in range(version * DOCUMENTS // 3, version * DOCUMENTS // 3 + DOCUMENTS):
        middle = version if number % 3 == 0 else 0
        text = "\n\n".join(
            f"Document {number}, part {part} in version {middle if part == 1 else 0}. " + "It turns and turns. " * 40
            for part in range(3)
        )
        rows.append(json.dumps({"id": f"d{number}", "text": text}))
    corpus.write_text("\n".join(rows))


def start(corpus: Path, collection: str, settings: Settings, address: str) -> subprocess.Popen[bytes]:
    arguments = [
        "--source",
        str(corpus),
        "--collection",
        collection,
        "--address",
        address,
        "--prune",
        "--concurrency",
        "1",
    ]
    environ = {**os.environ, "AIDOCS_DATA_DIR": str(settings.data_dir)}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.index", *arguments],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip


def processes(part: str) -> list[psutil.Process]:
    """Those of this session's processes that are that part of a run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if part in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def kill_at(run: subprocess.Popen[bytes], part: str, delay_s: float) -> bool:
    """Kills that part so long after it is first seen; False if the run was over before."""
    deadline_s = time.monotonic() + DEADLINE_S
    at_s = deadline_s
    while time.monotonic() < deadline_s and run.poll() is None:
        there = processes(part)
        at_s = min(at_s, time.monotonic() + delay_s) if there else at_s
        if there and time.monotonic() >= at_s:
            random.Random(delay_s).choice(there).kill()
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_anywhere_and_repeated_ends_as_a_clean_one(
    seed: int, settings: Settings, ray_cluster: str, tmp_path: Path
) -> None:
    chance, corpus, killed = random.Random(seed), tmp_path / "corpus.jsonl", []
    for version, part in enumerate(chance.sample(PARTS, len(PARTS))):
        write_version(corpus, version)
        with start(corpus, f"killed-{seed}", settings, ray_cluster) as run:
            try:
                killed.append(kill_at(run, part, chance.uniform(0, 8)))
                run.wait(timeout=DEADLINE_S)
            finally:
                run.kill()
    assert sum(killed) >= 2, "they were over before they could be killed"
    for collection in (f"killed-{seed}", f"clean-{seed}"):
        with start(corpus, collection, settings, ray_cluster) as run:
            try:
                assert run.wait(timeout=DEADLINE_S) == 0
            finally:
                run.kill()
    after, clean = (
        asyncio.run(contents(Scope("local", name), settings)) for name in (f"killed-{seed}", f"clean-{seed}")
    )
    assert len(clean.documents) == DOCUMENTS
    require_equal(after, clean)
