"""Batches of queries over several collections."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from serve_app.errors import StoreUnavailable
from serve_app.query_types import StoreResult
from serve_app.settings import StoreSettings
from serve_app.store.qdrant.active_index import physical_name
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import FIRST_INDEX, Scope
from tests.contracts.corpus import SCOPE, SPACE, document, query

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


async def test_a_collection_that_does_not_answer_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose shards are down, say; where none answers, it is the server."""
    client = AsyncQdrantClient(":memory:")
    store, second = QdrantStore(client, StoreSettings()), Scope("globex", "handbook")
    for scope in (SCOPE, second):
        await store.write(scope, SPACE, [document("d", "text")])
    search = client.query_batch_points

    async def without_one(**arguments: Any) -> Any:
        if arguments["collection_name"] == physical_name(SCOPE.at(FIRST_INDEX)):
            raise UnexpectedResponse(500, "Internal Server Error", b"no shard answers", httpx.Headers())
        return await search(**arguments)

    monkeypatch.setattr(client, "query_batch_points", without_one)
    bad, good = await store.query_batch([query("text"), query("text", scope=second)])
    assert isinstance(bad, StoreUnavailable)
    assert isinstance(good, StoreResult)
    assert good.hits
    with pytest.raises(StoreUnavailable):
        await store.query_batch([query("text")])
    await store.close()
