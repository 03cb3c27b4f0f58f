"""The embedded store keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from tests.contracts.vector_store import VectorStoreContract


class TestEdgeStore(VectorStoreContract):
    @pytest.fixture
    async def store(self, folder: Path) -> AsyncIterator[EdgeStore]:  # type: ignore[override]
        store = EdgeStore.open(folder, StoreSettings())
        yield store
        await store.close()
