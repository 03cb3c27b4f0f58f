"""Payload indexes. The client's in-memory mode has none, so a wrapper around it handles them as a server does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from serve_app.errors import InvalidInput
from serve_app.settings import StoreSettings
from serve_app.store.payload import INTEGER_FIELDS, KEYWORD_FIELDS
from serve_app.store.qdrant.collections import MAX_INDEXES, MAX_INDEXES_FOR_FILTERS, write_quorum
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import FIRST_INDEX, JsonValue, Recipe
from tests.contracts.corpus import SCOPE, SPACE, ask, document, query, where

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

FROM_THE_START = [*KEYWORD_FIELDS, *INTEGER_FIELDS]
CATS = document("cats", "cats purr", metadata={"lang": "en", "year": 2020})


class MindsIndexes:
    """Counts facets of indexed fields only, and makes at most `room` indexes."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client
        self.indexes: list[str] = []
        self.room = 100

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def get_collection(self, **arguments: Any) -> Any:
        info = await self._client.get_collection(**arguments)
        return info.model_copy(update={"payload_schema": dict.fromkeys(self.indexes)})

    async def delete_collection(self, **arguments: Any) -> Any:
        self.indexes.clear()
        return await self._client.delete_collection(**arguments)

    async def create_payload_index(self, **arguments: Any) -> Any:
        if len(self.indexes) >= self.room:
            raise UnexpectedResponse(400, "Bad Request", b"too many indexes", httpx.Headers())
        self.indexes.append(arguments["field_name"])
        return await self._client.create_payload_index(**arguments)

    async def facet(self, **arguments: Any) -> Any:
        if arguments["key"] not in self.indexes:
            raise UnexpectedResponse(400, "Bad Request", b"no index", httpx.Headers())
        return await self._client.facet(**arguments)


@pytest.fixture
async def client() -> AsyncIterator[MindsIndexes]:
    client = AsyncQdrantClient(":memory:")
    yield MindsIndexes(client)
    await client.close()


@pytest.fixture
async def store(client: MindsIndexes) -> QdrantStore:
    store = QdrantStore(cast("AsyncQdrantClient", client), StoreSettings())
    await store.write(SCOPE, SPACE, [CATS])
    return store


async def test_a_new_collection_has_its_indexes_once(client: MindsIndexes, store: QdrantStore) -> None:
    await store.write(SCOPE, SPACE, [CATS])
    assert client.indexes == FROM_THE_START


async def test_a_facet_makes_its_index_when_first_asked_for(client: MindsIndexes, store: QdrantStore) -> None:
    for _ in range(2):
        answer = await ask(store, query("cats", facets=("metadata.year", "metadata.nothing")))
        assert answer.facets == {"metadata.year": {"2020": 1}, "metadata.nothing": {}}
    assert client.indexes == [*FROM_THE_START, "facets.year"]  # and none for a field that no passage has


async def test_a_filter_makes_its_index_when_first_asked_for(client: MindsIndexes, store: QdrantStore) -> None:
    for _ in range(2):
        assert (await ask(store, query("cats", filter=where("metadata.year", 2020)))).hits
        assert (await ask(store, query("cats", filter=where("document_id", "cats")))).hits
    assert client.indexes == [*FROM_THE_START, "facets.year"]


async def test_a_filter_is_answered_without_an_index_too(client: MindsIndexes, store: QdrantStore) -> None:
    client.room = len(client.indexes)
    assert (await ask(store, query("cats", filter=where("metadata.year", 2020)))).hits
    with pytest.raises(InvalidInput, match="too many indexes"):
        await ask(store, query("cats", facets=("metadata.lang",)))


async def test_indexes_have_a_limit(client: MindsIndexes, store: QdrantStore) -> None:
    """And filters leave room for facets."""
    fields: dict[str, JsonValue] = {f"f{number}": 1 for number in range(MAX_INDEXES)}
    await store.write(SCOPE, SPACE, [document("dogs", "dogs bark", metadata=fields)])
    for field in fields:
        assert (await ask(store, query("dogs", filter=where(f"metadata.{field}", 1)))).hits
    assert len(client.indexes) == MAX_INDEXES_FOR_FILTERS
    for number in range(MAX_INDEXES - MAX_INDEXES_FOR_FILTERS):
        path = f"metadata.f{MAX_INDEXES - 1 - number}"
        assert (await ask(store, query("dogs", facets=(path,)))).facets[path] == {"1": 1}
    assert len(client.indexes) == MAX_INDEXES
    with pytest.raises(InvalidInput, match=f"on {MAX_INDEXES} fields"):
        await ask(store, query("cats", facets=("metadata.lang",)))


async def test_made_up_names_get_no_index(client: MindsIndexes, store: QdrantStore) -> None:
    for number in range(MAX_INDEXES):
        assert not (await ask(store, query("cats", filter=where(f"metadata.no{number}", 1)))).hits
    assert client.indexes == FROM_THE_START


async def test_facets_of_a_collection_that_another_process_made_anew(client: MindsIndexes, store: QdrantStore) -> None:
    """Before this one looks again, and after."""
    other = QdrantStore(cast("AsyncQdrantClient", client), StoreSettings())
    for look_again in (False, True):
        assert (await ask(store, query("cats", facets=("metadata.year",)))).facets["metadata.year"] == {"2020": 1}
        await other.drop(SCOPE)
        await other.write(SCOPE, SPACE, [CATS])
        if look_again:
            assert await store._collections.recipe(SCOPE.at(FIRST_INDEX)) == Recipe(SPACE)
        assert (await ask(store, query("cats", facets=("metadata.year",)))).facets["metadata.year"] == {"2020": 1}
        assert client.indexes == [*FROM_THE_START, "facets.year"]


@pytest.mark.parametrize(("replicas", "quorum"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)])
def test_write_quorum(replicas: int, quorum: int) -> None:
    assert write_quorum(replicas) == quorum
