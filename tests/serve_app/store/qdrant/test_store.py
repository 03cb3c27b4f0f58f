"""The contract on the client's in-memory mode, and on a real, empty server if QDRANT_URL names one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from serve_app.settings import StoreSettings
from serve_app.store.qdrant import active_index as qdrant_active_index
from serve_app.store.qdrant.active_index import physical_name
from serve_app.store.qdrant.calls import connect
from serve_app.store.qdrant.collections import QUANTIZATIONS
from serve_app.store.qdrant.store import QdrantStore
from serve_app.types import FIRST_INDEX, Quantization
from tests.contracts.corpus import SCOPE, SPACE
from tests.contracts.vector_queries import VectorQueryContract
from tests.contracts.vector_store import VectorStoreContract

# The client says once that its in-memory mode needs no indexes, and that it is exact.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

SERVER = os.environ.get("QDRANT_URL")
on_a_real_server = pytest.mark.skipif(SERVER is None, reason="QDRANT_URL names no Qdrant server to test with")


class TestQdrantStoreInMemory(VectorStoreContract):
    @pytest.fixture
    async def store(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QdrantStore]:  # type: ignore[override]
        monkeypatch.setattr(qdrant_active_index, "ACTIVE_INDEX_TTL_S", 0.02)  # there is one process
        monkeypatch.setattr(qdrant_active_index, "CLOCK_SKEW_S", 0.01)  # with one clock
        store = QdrantStore(AsyncQdrantClient(":memory:"), StoreSettings())
        yield store
        await store.close()


@on_a_real_server
class TestQdrantStoreOnServer(VectorStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[QdrantStore]:  # type: ignore[override]
        async with on_server(StoreSettings(url=SERVER)) as store:
            yield store


@on_a_real_server
class TestQuantizedQdrantStoreOnServer(VectorQueryContract):
    @pytest.fixture(params=[Quantization.INT8, Quantization.BINARY, Quantization.TURBO])
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[QdrantStore]:  # type: ignore[override]
        async with on_server(StoreSettings(url=SERVER, quantization=request.param)) as store:
            yield store


@asynccontextmanager
async def on_server(settings: StoreSettings) -> AsyncIterator[QdrantStore]:
    store, client = QdrantStore.connect(settings), connect(settings)
    if (await client.get_collections()).collections:
        pytest.fail(f"{SERVER} has collections; these tests want a server that is empty")
    yield store
    for left in (await client.get_collections()).collections:
        await client.delete_collection(left.name)
    await client.close()
    await store.close()


@pytest.mark.parametrize("quantization", Quantization)
async def test_a_collection_is_made_with_the_quantisation_that_is_set(quantization: Quantization) -> None:
    client = AsyncQdrantClient(":memory:")
    store = QdrantStore(client, StoreSettings(quantization=quantization))
    await store.write(SCOPE, SPACE, [])
    vectors = (await client.get_collection(physical_name(SCOPE.at(FIRST_INDEX)))).config.params.vectors
    assert isinstance(vectors, dict)
    asked = vectors["dense"].quantization_config
    assert asked == QUANTIZATIONS[quantization]
    if asked is not None:  # and has a form on the wire
        assert GrpcToRest.convert_quantization_config(RestToGrpc.convert_quantization_config(asked)) == asked
    await store.close()
