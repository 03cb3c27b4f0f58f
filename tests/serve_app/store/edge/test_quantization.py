"""The quantised embedded store keeps the contract, and it searches the quantised vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.query_types import StoreQuery
from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Quantization
from tests.contracts.corpus import ask
from tests.contracts.vector_queries import VectorQueryContract
from tests.serve_app.store.random_documents import DIM, SCOPE, SPACE, random_document, random_vector, require_whole

DOCUMENTS, PASSAGES = 40, 20
LEAST_RECALL = {Quantization.INT8: 0.95, Quantization.BINARY: 0.45, Quantization.TURBO: 0.95}  # random directions
MOST_CODE_BYTES = {Quantization.INT8: DIM + 8, Quantization.BINARY: 16, Quantization.TURBO: DIM // 2 + 16}  # each


class TestBinaryEdgeStore(VectorQueryContract):
    """The coarsest codes, and never optimised: Edge makes them for what was just written, too."""

    @pytest.fixture
    async def store(self, folder: Path) -> AsyncIterator[EdgeStore]:
        store = EdgeStore.open(folder, settings(Quantization.BINARY))
        yield store
        await store.close()


def settings(quantization: Quantization) -> StoreSettings:
    return StoreSettings(optimize_after_passages=1_000_000_000, hnsw_ef_construct=64, quantization=quantization)


async def fill(store: EdgeStore) -> dict[str, tuple[int, int]]:
    """Version and passages of each."""
    ids = [f"d{number}" for number in range(DOCUMENTS)]
    await store.write(SCOPE, SPACE, [random_document(id, PASSAGES) for id in ids])
    return dict.fromkeys(ids, (1, PASSAGES))


def queries(count: int) -> list[StoreQuery]:
    rng = np.random.default_rng(7)
    return [StoreQuery(SCOPE, SPACE, dense=random_vector(rng)) for _ in range(count)]


def cosines(query: StoreQuery) -> list[float]:
    """Of the ten passages that are nearest, computed here."""
    stored = [part.dense for number in range(DOCUMENTS) for part in random_document(f"d{number}", PASSAGES).passages]
    return sorted((np.stack(stored) @ np.asarray(query.dense)).tolist(), reverse=True)[:10]


async def scores(store: EdgeStore, query: StoreQuery) -> list[float]:
    return [hit.score for hit in (await ask(store, query)).hits]


async def searches_codes(store: EdgeStore) -> bool:
    """Whether scores that are not rescored differ from the cosine."""
    [query] = queries(1)
    return max(abs(np.subtract(await scores(store, replace(query, rescore=False)), cosines(query)))) > 1e-4


def code_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("quantized.data"))


@pytest.mark.parametrize("quantization", list(LEAST_RECALL))
@pytest.mark.parametrize("optimised", [False, True])
async def test_codes_find_what_is_near_and_float32_orders_it(
    folder: Path, quantization: Quantization, optimised: bool
) -> None:
    store = EdgeStore.open(folder, settings(quantization))
    try:
        await fill(store)
        if optimised:
            await store.optimize(SCOPE)
            assert 0 < code_bytes(folder) <= MOST_CODE_BYTES[quantization] * DOCUMENTS * (PASSAGES + 1)
        recalled = 0
        for query in queries(20):
            expected = cosines(query)
            assert await scores(store, replace(query, exact=True)) == pytest.approx(expected, abs=1e-5)
            found = await scores(store, replace(query, hnsw_ef=200, oversampling=4.0))
            recalled += sum(any(abs(score - cosine) < 1e-5 for cosine in expected) for score in found)
        assert recalled >= LEAST_RECALL[quantization] * 20 * 10
    finally:
        await store.close()


async def test_a_collection_takes_another_quantisation_when_it_is_next_optimised(folder: Path) -> None:
    written: dict[str, tuple[int, int]] = {}
    before = False
    for quantization in (Quantization.NONE, Quantization.BINARY, Quantization.TURBO, Quantization.NONE):
        store = EdgeStore.open(folder, settings(quantization))
        try:
            written = written or await fill(store)
            assert await searches_codes(store) == before
            await store.optimize(SCOPE)
            before = quantization is not Quantization.NONE
            assert await searches_codes(store) == before
            await require_whole(store, written)
        finally:
            await store.close()
