"""The contract on the client's in-memory mode, and on a real server where QDRANT_URL names an empty one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from qdrant_client import AsyncQdrantClient

from serve_app.settings import StoreSettings
from serve_app.store.qdrant import QdrantStore
from serve_app.store.qdrant_calls import connect
from tests.contracts.vector_store import VectorStoreContract

# The client says once that its in-memory mode needs no indexes.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

SERVER = os.environ.get("QDRANT_URL")


class TestQdrantStoreInMemory(VectorStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[QdrantStore]:  # type: ignore[override]
        store = QdrantStore(AsyncQdrantClient(":memory:"), StoreSettings())
        yield store
        await store.close()


@pytest.mark.skipif(SERVER is None, reason="QDRANT_URL names no Qdrant server to test with")
class TestQdrantStoreOnServer(VectorStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[QdrantStore]:  # type: ignore[override]
        settings = StoreSettings(url=SERVER)
        store, client = QdrantStore.connect(settings), connect(settings)
        if (await client.get_collections()).collections:
            pytest.fail(f"{SERVER} has collections; these tests want a server that is empty")
        yield store
        for left in (await client.get_collections()).collections:
            await client.delete_collection(left.name)
        await client.close()
        await store.close()
