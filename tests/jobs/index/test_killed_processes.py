"""A run whose processes are killed goes on or ends; it never hangs and never repeats without end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from serve_app.deployments.store import NAMESPACE, connect_store
from serve_app.errors import Unavailable
from serve_app.settings import Settings
from serve_app.types import Scope
from tests.jobs.index.test_run import index
from tests.serve_app.documents.readers.test_pdf import pdf

DEADLINE_S = 120.0


async def kill(is_victim: Callable[[psutil.Process], bool], run: asyncio.Task[object], at_most: int) -> int:
    """How many of this session's processes it killed until the run ended, or their number was reached."""
    deadline_s = time.monotonic() + DEADLINE_S
    killed: set[psutil.Process] = set()
    while not run.done() and len(killed) < at_most:
        assert time.monotonic() < deadline_s, f"{len(killed)} were killed and the run goes on"
        for process in psutil.Process().children(recursive=True):
            try:
                if process not in killed and is_victim(process):
                    process.kill()
                    killed.add(process)
            except psutil.NoSuchProcess:
                continue
        await asyncio.sleep(0.05)
    return len(killed)


def parses(process: psutil.Process) -> bool:
    """It has started long ago and works."""
    return "multiprocessing" in " ".join(process.cmdline()) and process.cpu_times().user > 2


def is_read_stage(process: psutil.Process) -> bool:
    return process.name().startswith("ray::") and "ReadStage" in " ".join(process.cmdline())


async def test_a_file_that_kills_its_reader_is_a_dead_letter(settings: Settings, tmp_path: Path) -> None:
    source, letters, scope = tmp_path / "source", tmp_path / "letters.jsonl", Scope("local", "killed-reader")
    source.mkdir()
    (source / "1.md").write_text("# Before\n\nA page.")
    (source / "2.pdf").write_bytes(pdf(*("A page of many words. " * 20 for _ in range(8_000))))  # many seconds
    (source / "3.html").write_text("<p>After")
    run = asyncio.create_task(index(source, scope, settings, letters))
    assert await kill(parses, run, at_most=1) == 1
    total = await run
    assert (total.indexed, total.failed) == (2, 1)
    (letter,) = [json.loads(line) for line in letters.read_text().splitlines()]
    assert letter["source"] == "2.pdf"
    assert "the process that read it died" in letter["error"]
    assert (await connect_store(settings).count(scope)).documents == 2


async def in_store(settings: Settings, job: Callable[[Any], Any]) -> Any:
    """What the job says of the running store, in its own process."""
    actor = ray.get_actor(f"store {settings.data_dir}", namespace=NAMESPACE)
    return await actor.__ray_call__.remote(lambda store_actor: job(store_actor._store))


async def test_a_store_that_refuses_writes_for_a_while_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    """As on a full disk; it goes on reading. How long it is waited for: test_patience.py."""
    source, scope = tmp_path / "source", Scope("local", "refused")
    rows = [{"id": str(number), "text": f"Piston {number} moves up and down."} for number in range(200)]
    source.mkdir()
    (source / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "first.md").write_text("# First\n\nIt makes the collection.")
    await index(tmp_path / "first.md", scope, settings, tmp_path / "first-letters.jsonl")

    def set_free_bytes(size_bytes: int) -> Callable[[Any], None]:
        def change(store: Any) -> None:
            collection = store._collections.opened[scope]
            collection._settings = collection._settings.model_copy(update={"min_free_bytes": size_bytes})

        return change

    def count_writes(store: Any) -> None:
        collection = store._collections.opened[scope]
        write, collection.tried = collection.write, 0

        def counted(documents: Any, **how: Any) -> None:
            collection.tried += 1
            write(documents, **how)

        collection.write = counted

    await in_store(settings, count_writes)
    await in_store(settings, set_free_bytes(2**62))
    run = asyncio.create_task(index(source, scope, settings, tmp_path / "letters.jsonl"))
    deadline_s = time.monotonic() + DEADLINE_S
    while await in_store(settings, lambda store: store._collections.opened[scope].tried) < 3:
        assert not run.done() and time.monotonic() < deadline_s
        await asyncio.sleep(0.1)
    assert (await connect_store(settings).count(scope)).documents == 1
    await in_store(settings, set_free_bytes(0))
    total = await run
    assert (total.indexed, total.failed) == (200, 0)
    assert (await connect_store(settings).count(scope)).documents == 201


async def test_a_stage_that_dies_every_time_ends_the_run(settings: Settings, tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": "Pistons move up and down. " * 60} for number in range(3_000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = asyncio.create_task(index(tmp_path, Scope("local", "dying-stage"), settings, tmp_path / "letters.jsonl"))
    killed = await kill(is_read_stage, run, at_most=20)
    with pytest.raises(Unavailable, match="Ray ended the run"):
        await run
    assert 1 < killed < 20
