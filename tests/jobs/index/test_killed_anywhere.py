"""A run that is killed anywhere and repeated leaves what an undisturbed run leaves, of a corpus that changes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from ray.exceptions import RayError

from jobs.index.run import index_source
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.inputs import inputs_of
from jobs.pipeline.tally import Tally
from serve_app.errors import PlatformError
from serve_app.settings import Settings
from serve_app.types import Scope
from tests.jobs.contents import Contents, contents, require_equal

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120.0
DOCUMENTS = 400
LATEST_KILL_S = 4.0  # after the part is first seen; a run takes longer
# Part of the run's own processes' names; the driver's is that of the command.
DRIVER = "jobs.index"
PARTS = (DRIVER, "ray::MapWorker", "ray::StoreActor")


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


def kill_at(is_over: Callable[[], bool], part: str, delay_s: float) -> bool:
    """Kills that part so long after it is first seen; False if the run was over before."""
    deadline_s = time.monotonic() + DEADLINE_S
    at_s = deadline_s
    while time.monotonic() < deadline_s and not is_over():
        there = processes(part)
        at_s = min(at_s, time.monotonic() + delay_s) if there else at_s
        if there and time.monotonic() >= at_s:
            random.Random(delay_s).choice(there).kill()
            return True
        time.sleep(0.02)
    return False


def run_here(corpus: Path, collection: str, settings: Settings) -> None:
    """In this process: only a driver that is killed needs one of its own."""
    with DeadLetterFile(corpus.with_suffix(".letters")) as letters:
        index_source(inputs_of(str(corpus)), Scope("local", collection), settings, Tally(letters), prunes=True)


def run_and_kill(part: str, delay_s: float, corpus: Path, collection: str, *, settings: Settings, address: str) -> bool:
    """Whether it was killed before it was over. A run may fail if a part of it is killed; it must not hang."""
    if part == DRIVER:
        with start(corpus, collection, settings, address) as run:
            try:
                killed = kill_at(lambda: run.poll() is not None, part, delay_s)
                run.wait(timeout=DEADLINE_S)
                return killed
            finally:
                run.kill()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run_here, corpus, collection, settings)
        killed = kill_at(running.done, part, delay_s)
        error = running.exception(timeout=DEADLINE_S)
    assert error is None or isinstance(error, PlatformError | RayError), error
    return killed


@pytest.fixture(scope="module")
def clean(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What an undisturbed run of the last version leaves."""
    corpus = tmp_path_factory.mktemp("clean") / "corpus.jsonl"
    write_version(corpus, len(PARTS) - 1)
    run_here(corpus, "clean", settings)
    return asyncio.run(contents(Scope("local", "clean"), settings))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_anywhere_and_repeated_ends_as_a_clean_one(
    seed: int, clean: Contents, settings: Settings, ray_cluster: str, tmp_path: Path
) -> None:
    chance, corpus, collection, killed = random.Random(seed), tmp_path / "corpus.jsonl", f"killed-{seed}", []
    for version, part in enumerate(chance.sample(PARTS, len(PARTS))):
        write_version(corpus, version)
        killed.append(
            run_and_kill(
                part, chance.uniform(0, LATEST_KILL_S), corpus, collection, settings=settings, address=ray_cluster
            )
        )
    assert sum(killed) >= 2, "they were over before they could be killed"
    run_here(corpus, collection, settings)
    assert len(clean.documents) == DOCUMENTS
    require_equal(asyncio.run(contents(Scope("local", collection), settings)), clean)
