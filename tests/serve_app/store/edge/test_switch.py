"""Switching the active index of the embedded store: after a kill, and during concurrent reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.errors import NotFound, StoreBroken, StoreUnavailable
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.store import EdgeStore
from serve_app.types import FIRST_INDEX, Recipe
from tests.contracts.corpus import SCOPE, SPACE, document, found, listed_ids, query
from tests.contracts.indexes import FINE, LEASE_S, switch

BUILT = SCOPE.at("fine")


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[EdgeStore]:
    store = EdgeStore.open(folder, StoreSettings())
    await store.write(SCOPE, SPACE, [document("old", "old text")])
    await store.make_index(BUILT, FINE)
    await store.write(BUILT, SPACE, [document("new", "new text")])
    yield store
    await store.close()


async def reopened(store: EdgeStore, folder: Path) -> EdgeStore:
    await store.close()
    return EdgeStore.open(folder, StoreSettings())


async def test_it_is_there_after_a_restart(store: EdgeStore, folder: Path) -> None:
    await switch(store, BUILT)
    again = await reopened(store, folder)
    try:
        assert await listed_ids(again) == ["new"]
        assert (await again.active_index(SCOPE)).recipe == FINE
        assert {one.scope.index: one.is_active for one in await again.indexes(SCOPE)} == {"fine": True, "first": False}
        with pytest.raises(StoreUnavailable):  # it is closed: nothing of it was used
            await store.count(SCOPE)
    finally:
        await again.close()


@pytest.mark.parametrize("written", [False, True])
async def test_a_pointer_that_cannot_be_written_leaves_the_old_or_the_new_one(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Of a full disk, say; the error may come when it is written already."""
    activate = folders.activate

    def fail(*arguments: object) -> None:
        if written:
            activate(*arguments)  # type: ignore[arg-type]
        raise OSError("no space left on device")

    monkeypatch.setattr(folders, "activate", fail)
    held = await store.hold(SCOPE, LEASE_S)
    if written:
        await store.switch(BUILT, held)
    else:
        with pytest.raises(StoreUnavailable, match="no space left"):
            await store.switch(BUILT, held)
    async with asyncio.timeout(20):  # writes go on
        await store.write(SCOPE, SPACE, [document("later", "later text")])
    assert sorted(await listed_ids(store)) == (["later", "new"] if written else ["later", "old"])


async def test_a_pointer_that_cannot_be_read_either_ends_the_process(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process will read which index is active, so this one must acknowledge no write to either of them."""

    def fail(*_: object) -> None:
        raise OSError("input/output error")

    held = await store.hold(SCOPE, LEASE_S)
    monkeypatch.setattr(folders, "activate", fail)
    monkeypatch.setattr(folders, "active_index", fail)
    with pytest.raises(StoreBroken, match="input/output error"):
        await store.switch(BUILT, held)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.write(SCOPE, SPACE, [document("later", "later text")])


async def test_an_index_that_is_dropped_just_before_does_not_become_active(store: EdgeStore) -> None:
    held = await store.hold(SCOPE, LEASE_S)
    dropped, switched = await asyncio.gather(store.drop(BUILT), store.switch(BUILT, held), return_exceptions=True)
    assert dropped is None and isinstance(switched, NotFound)
    assert await listed_ids(store) == ["old"]
    await store.release(BUILT, held)
    async with asyncio.timeout(20):
        await store.write(SCOPE, SPACE, [document("later", "later text")])
    assert sorted(await listed_ids(store)) == ["later", "old"]


async def test_a_collection_that_is_dropped_just_before_stays_dropped(store: EdgeStore) -> None:
    held = await store.hold(SCOPE, LEASE_S)
    dropped, switched, _ = await asyncio.gather(
        store.drop(SCOPE),
        store.switch(BUILT, held),
        asyncio.wait_for(store.write(SCOPE, SPACE, [document("anew", "new text")]), 20),
        return_exceptions=True,
    )
    assert dropped is None and isinstance(switched, NotFound)
    assert await listed_ids(store) == ["anew"]


async def test_a_drop_that_is_killed_leaves_the_collection_or_nothing(store: EdgeStore, folder: Path) -> None:
    """One index after another goes, the active one last, then the file that names the active one."""
    await switch(store, BUILT)
    await store.make_index(SCOPE.at("third"), FINE)
    root, states = folder / "store", []
    order = [SCOPE.at(FIRST_INDEX), SCOPE.at("third"), BUILT]
    for ended in order:
        folders.end_index(folders.index_folder(root, ended))
        store = await reopened(store, folder)
        states.append([info.name for info in await store.collections(SCOPE.tenant)])
    assert states == [["handbook"], ["handbook"], []]
    with pytest.raises(NotFound):
        await store.count(SCOPE)
    assert list((root / SCOPE.tenant).iterdir()) == []
    await store.write(SCOPE, SPACE, [document("anew", "text")])
    assert (await store.active_index(SCOPE)).recipe == Recipe(SPACE)
    await store.close()


async def test_searches_that_go_on_see_one_or_the_other(store: EdgeStore) -> None:
    """However often it is switched meanwhile: no error, and never hits of both."""
    seen: set[tuple[str, ...]] = set()
    ended = asyncio.Event()

    async def search() -> None:
        while not ended.is_set():
            seen.add(tuple(await found(store, query("text"))))

    searches = [asyncio.create_task(search()) for _ in range(3)]
    for index in [BUILT, SCOPE.at(FIRST_INDEX)] * 10:
        await switch(store, index)
        await asyncio.sleep(0.005)
    ended.set()
    await asyncio.gather(*searches)
    assert seen == {("old",), ("new",)}
