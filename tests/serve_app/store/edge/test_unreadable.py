"""A collection that cannot be read does not affect other collections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.errors import NotFound, StoreUnavailable
from serve_app.query_types import StoreResult
from serve_app.settings import StoreSettings
from serve_app.store.edge import folders
from serve_app.store.edge.store import EdgeStore
from serve_app.types import FIRST_INDEX, Scope
from tests.contracts.corpus import SCOPE, SPACE, document, found, query

OTHER = Scope("globex", "handbook")
SECOND = Scope(SCOPE.tenant, "second")


def unknown_schema(collection: Path) -> None:
    (collection / folders.COLLECTION).write_text('{"schema": 99}')


def no_json(collection: Path) -> None:
    (collection / folders.COLLECTION).write_text("{")


def no_description(collection: Path) -> None:
    (collection / folders.COLLECTION).unlink()


def no_generation(collection: Path) -> None:
    (collection / folders.CURRENT).write_text("generation-gone\n")


@pytest.fixture(params=[unknown_schema, no_json, no_description, no_generation])
async def store(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[EdgeStore]:
    before = EdgeStore.open(folder, StoreSettings())
    for scope in (SCOPE, SECOND, OTHER):
        await before.write(scope, SPACE, [document("d", "text")])
    await before.close()
    request.param(folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX)))
    store = EdgeStore.open(folder, StoreSettings())
    yield store
    await store.close()


async def test_its_queries_fail_alone(store: EdgeStore) -> None:
    bad, good = await store.query_batch([query("text"), query("text", scope=OTHER)])
    assert isinstance(bad, StoreUnavailable)
    assert isinstance(good, StoreResult)
    assert [hit.document_id for hit in good.hits] == ["d"]
    await store.check()


async def test_it_is_left_out_of_the_list(store: EdgeStore, caplog: pytest.LogCaptureFixture) -> None:
    assert [info.name for info in await store.collections(SCOPE.tenant)] == [SECOND.collection]
    assert f"collection {SCOPE.collection} of tenant {SCOPE.tenant} is not listed" in caplog.text


async def test_it_can_be_dropped_and_made_anew(store: EdgeStore, folder: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await store.write(SCOPE, SPACE, [document("new", "text")])
    await store.drop(SCOPE)
    assert not folders.index_folder(folder / "store", SCOPE.at(FIRST_INDEX)).exists()
    with pytest.raises(NotFound):
        await store.count(SCOPE)
    await store.write(SCOPE, SPACE, [document("new", "text")])
    assert await found(store, query("text")) == ["new"]
