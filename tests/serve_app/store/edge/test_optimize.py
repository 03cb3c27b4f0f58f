"""Optimising disturbs no other call and loses no write."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from serve_app.errors import PlatformError, StoreUnavailable
from serve_app.query_types import StoreResult
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.optimize import FIRST_RETRY_S, LAST_RETRY_S, retry_delay_s, should_optimize
from serve_app.store.edge.store import EdgeStore
from serve_app.types import FIRST_INDEX
from tests.serve_app.store.random_documents import SCOPE, SPACE, random_document, random_query, require_whole

PASSAGES = 20
NEVER = StoreSettings(optimize_after_passages=1_000_000_000, hnsw_m=8, hnsw_ef_construct=64)


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(folder, NEVER)
    yield store
    await store.close()


async def fill(store: EdgeStore, documents: int) -> dict[str, tuple[int, int]]:
    """Version and passages of each."""
    ids = [f"d{number}" for number in range(documents)]
    for at in range(0, documents, 50):
        await store.write(SCOPE, SPACE, [random_document(id, PASSAGES) for id in ids[at : at + 50]])
    return dict.fromkeys(ids, (1, PASSAGES))


async def repeat(step: Callable[[], Awaitable[object]], until: asyncio.Event) -> list[float]:
    """Seconds that each took."""
    took_s = []
    while not until.is_set():
        started = time.perf_counter()
        await step()
        took_s.append(time.perf_counter() - started)
        await asyncio.sleep(0.005)
    return took_s


@pytest.mark.slow
async def test_searches_writes_and_checks_go_on(store: EdgeStore) -> None:
    """On 10,000 passages. Edge's own optimize would hold each of them up for the whole of its run."""
    expected = await fill(store, 500)
    rng = np.random.default_rng(0)
    versions = {f"d{number}": 1 for number in range(40)}

    async def search() -> None:
        [answer] = await store.query_batch([random_query(rng)])
        assert isinstance(answer, StoreResult)
        assert len(answer.hits) == 10

    async def write() -> None:
        id = min(versions, key=lambda id: versions[id])
        versions[id] += 1
        await store.write(SCOPE, SPACE, [random_document(id, versions[id] % 30, versions[id])])

    done = asyncio.Event()
    going_on = [asyncio.create_task(repeat(step, done)) for step in (search, write, store.check)]
    started = time.perf_counter()
    await store.optimize(SCOPE)
    whole_s = time.perf_counter() - started
    done.set()
    for took_s in await asyncio.gather(*going_on):
        assert len(took_s) > 20
        assert max(took_s) < whole_s / 3
    expected |= {id: (version, version % 30 if version > 1 else PASSAGES) for id, version in versions.items()}
    await require_whole(store, expected)
    assert (await store.count(SCOPE)).passages == sum(passages for _, passages in expected.values())


async def test_an_optimised_store_answers_as_before(store: EdgeStore) -> None:
    expected = await fill(store, 100)
    rng = np.random.default_rng(1)
    queries = [random_query(rng) for _ in range(20)]
    before = await store.query_batch(queries)
    await store.optimize(SCOPE)
    overlap = 0
    for old, new in zip(before, await store.query_batch(queries), strict=True):
        assert isinstance(old, StoreResult)
        assert isinstance(new, StoreResult)
        overlap += len({hit.passage_id for hit in old.hits} & {hit.passage_id for hit in new.hits})
    assert overlap >= 0.9 * 20 * 10  # the graph is approximate
    await require_whole(store, expected)
    await store.write(SCOPE, SPACE, [random_document("d1", 3, version=2)])
    assert await store.delete_documents(SCOPE, ["d2"]) == 1
    await store.optimize(SCOPE)
    del expected["d2"]
    await require_whole(store, expected | {"d1": (2, 3)})


async def test_facets_and_filters_made_meanwhile_stay(store: EdgeStore) -> None:
    await fill(store, 100)
    optimizing = asyncio.create_task(store.optimize(SCOPE))
    query = random_query(np.random.default_rng(2))
    faceted = [type(query)(query.scope, query.space, query.dense, facets=("title", "document_id"), limit=1)]
    while not optimizing.done():
        await store.query_batch(faceted)
    await optimizing
    [answer] = await store.query_batch(faceted)
    assert isinstance(answer, StoreResult)
    assert answer.facets["title"] == {"": 2_000}
    assert set(answer.facets["document_id"].values()) == {PASSAGES}


def optimizers(folder: Path) -> list[int]:
    """Process ids of the children that optimise something in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if "optimize_child" in line and str(folder) in line:
            found.append(int(path.parent.name))
    return found


async def child_of(optimizing: asyncio.Task[None], folder: Path) -> list[int]:
    """Waits until there is one."""
    while not (children := optimizers(folder)):
        assert not optimizing.done()
        await asyncio.sleep(0.005)
    return children


async def test_a_killed_child_leaves_all_as_it_was(store: EdgeStore, folder: Path) -> None:
    expected = await fill(store, 100)
    optimizing = asyncio.create_task(store.optimize(SCOPE))
    children = await child_of(optimizing, folder)
    await store.write(SCOPE, SPACE, [random_document("d1", 3, version=2)])
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(StoreUnavailable, match="-9"):
        await optimizing
    await require_whole(store, expected | {"d1": (2, 3)})
    await store.optimize(SCOPE)
    await require_whole(store, expected | {"d1": (2, 3)})


async def test_a_copy_that_fails_leaves_no_files(
    store: EdgeStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await fill(store, 2)
    copy_file, copied = folders._copy_file, list[Path]()

    def until_the_disk_is_full(source: Path, target: Path) -> None:
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy_file(source, target)
        copied.append(target)

    monkeypatch.setattr(folders, "_copy_file", until_the_disk_is_full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.optimize(SCOPE)
    assert len(copied) == 3
    assert len(list(folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX)).glob("generation-*"))) == 1
    monkeypatch.undo()
    await store.optimize(SCOPE)
    await require_whole(store, expected)


async def test_close_and_drop_end_the_child(store: EdgeStore, folder: Path) -> None:
    for end in (lambda: store.drop(SCOPE), store.close):
        await fill(store, 100)
        optimizing = asyncio.create_task(store.optimize(SCOPE))
        await child_of(optimizing, folder)
        await end()
        with pytest.raises(PlatformError):
            await optimizing
        assert optimizers(folder) == []


async def first_record(caplog: pytest.LogCaptureFixture, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not caplog.records:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_it_optimises_by_itself_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was written is indexed when it is enough, and a tail that is too small is left alone."""
    caplog.set_level(logging.INFO, "serve_app.store.edge.optimize")
    store = EdgeStore.open(folder, StoreSettings(optimize_after_passages=1_000))
    try:
        expected = await fill(store, 50)
        await first_record(caplog, timeout_s=60)
        await store.write(SCOPE, SPACE, [random_document("d1", 3, version=2)])
        await require_whole(store, expected | {"d1": (2, 3)})
    finally:
        await store.close()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    again = EdgeStore.open(folder, StoreSettings(optimize_after_passages=1_000))  # and knows it after a restart
    try:
        await again.write(SCOPE, SPACE, [random_document("d1", 3, version=3)])
        assert optimizers(folder) == []
    finally:
        await again.close()


async def test_a_failing_child_is_logged_and_not_tried_again_at_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    store = EdgeStore.open(folder, StoreSettings(optimize_after_passages=100))
    try:
        expected = await fill(store, 20)
        await first_record(caplog, timeout_s=30)
        await store.write(SCOPE, SPACE, [random_document("d1", 3, version=2)])
        await require_whole(store, expected | {"d1": (2, 3)})
    finally:
        await store.close()
    [record] = caplog.records
    assert "the optimiser ended with 1" in record.getMessage()


@pytest.mark.parametrize(
    ("points", "unindexed", "after", "expected"),
    [
        (0, 0, 10, False),
        (9, 9, 10, False),
        (10, 10, 10, True),
        (1_000, 10, 10, False),  # a hundredth is not worth it
        (1_000, 100, 10, True),
        (20_000, 10_000, 10_000, True),
    ],
)
def test_when_it_is_worth_it(points: int, unindexed: int, after: int, expected: bool) -> None:
    assert should_optimize(points, unindexed, after) is expected


def test_retries_come_less_and_less_often() -> None:
    delays_s = [retry_delay_s(failures) for failures in range(1, 60)]
    assert delays_s[0] == FIRST_RETRY_S
    assert delays_s == sorted(delays_s)
    assert delays_s[-1] == LAST_RETRY_S
