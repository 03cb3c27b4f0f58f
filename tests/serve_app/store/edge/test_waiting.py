"""A call on one collection does not wait for another collection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.errors import NotFound
from serve_app.settings import StoreSettings
from serve_app.store.edge import store as edge
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, document, found, query, where

OTHER = Scope("globex", "handbook")
SOON_S = 5.0  # half of the time that a drop waits for those who use a shard


@pytest.fixture
async def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EdgeStore]:
    monkeypatch.setattr(edge, "READERS", 1)
    store = EdgeStore.open(folder, StoreSettings(timeout_s=2 * SOON_S))
    for scope in (SCOPE, OTHER):
        await store.write(scope, SPACE, [document("d", "text", metadata={"lang": "en"})])
    yield store
    await store.close()


@contextmanager
def busy_writer(store: EdgeStore) -> Iterator[None]:
    """Of SCOPE, as while a whole shard is copied."""
    free = threading.Event()
    store._collections.opened[SCOPE].submit(free.wait)
    try:
        yield
    finally:
        free.set()


async def use(store: EdgeStore, scope: Scope) -> None:
    async with asyncio.timeout(SOON_S):
        await store.write(scope, SPACE, [document("new", "more text")])
        assert set(await found(store, query("text", scope=scope))) == {"d", "new"}


async def test_a_slow_drop_holds_up_nobody_else(store: EdgeStore) -> None:
    with busy_writer(store):
        dropping = asyncio.create_task(store.drop(SCOPE))
        await _until_unknown(store)
        await use(store, OTHER)
        async with asyncio.timeout(SOON_S):
            assert [info.name for info in await store.collections(SCOPE.tenant)] == []
            with pytest.raises(NotFound):
                await store.drop(SCOPE)
        assert not dropping.done()
    await dropping


async def test_a_write_waits_for_the_drop_of_its_own_collection(store: EdgeStore, folder: Path) -> None:
    with busy_writer(store):
        dropping = asyncio.create_task(store.drop(SCOPE))
        await _until_unknown(store)
        writing = asyncio.create_task(store.write(SCOPE, SPACE, [document("new", "text")]))
        await use(store, OTHER)
        assert not writing.done()
    await asyncio.gather(dropping, writing)
    assert await found(store, query("text")) == ["new"]
    assert [path.name for path in (folder / "store" / SCOPE.tenant).iterdir()] == [SCOPE.collection]


async def test_a_filter_on_a_new_field_waits_for_no_index(store: EdgeStore) -> None:
    filtered = query("text", filter=where("metadata.lang", "en"))
    with busy_writer(store):
        async with asyncio.timeout(SOON_S):
            for _ in range(3):
                assert await found(store, filtered) == ["d"]
    await asyncio.wrap_future(store._collections.opened[SCOPE].submit(lambda: None))  # the writer is through
    with store._collections.opened[SCOPE].shard() as shard:
        assert "facets.lang" in shard.info().payload_schema


async def _until_unknown(store: EdgeStore) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                await store.count(SCOPE)
            except NotFound:
                return
            await asyncio.sleep(0.001)
