from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from qdrant_client import AsyncQdrantClient

from serve_app.ports import VectorStore
from serve_app.settings import StoreSettings
from serve_app.store.qdrant import QdrantStore
from tests.contracts.vector_store import VectorStoreContract

# The client says once that its in-memory mode needs no indexes.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


class TestQdrantStoreInMemory(VectorStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[VectorStore]:
        store = QdrantStore(AsyncQdrantClient(":memory:"), StoreSettings())
        yield store
        await store.close()
