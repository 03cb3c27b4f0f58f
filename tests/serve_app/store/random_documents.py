"""Any number of documents with random vectors, for tests of the embedded store."""

from __future__ import annotations

import asyncio

import numpy as np

from serve_app.query_types import StoreQuery, StoreResult
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Document, IndexedDocument, IndexedPassage, Passage, Scope, SparseVector, Vector, VectorSpace
from tests.contracts.corpus import listed_ids

DIM = 64
SPACE = VectorSpace("random", "1", DIM)
SCOPE = Scope("acme", "random")


def random_vector(rng: np.random.Generator) -> Vector:
    vector = rng.standard_normal(DIM, dtype=np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def random_sparse(rng: np.random.Generator) -> SparseVector:
    indices = np.unique(rng.integers(0, 5_000, 8)).astype(np.uint32)
    return SparseVector(indices, np.ones(len(indices), np.float32))


def random_document(id: str, passages: int, version: int = 1) -> IndexedDocument:
    """The same arguments give the same document, whose text and fingerprint are its version."""
    rng = np.random.default_rng([version, *id.encode()])
    parts = [
        IndexedPassage(Passage(number, f"{id} v{version}"), random_vector(rng), random_sparse(rng))
        for number in range(passages)
    ]
    return IndexedDocument(Document(id, f"{version}"), f"{version}", tuple(parts))


def random_query(rng: np.random.Generator) -> StoreQuery:
    return StoreQuery(SCOPE, SPACE, random_vector(rng), random_sparse(rng))


async def passages_of(store: EdgeStore, *ids: str) -> list[list[str]]:
    """For each document the texts of all its passages that a search can find."""
    anywhere = random_vector(np.random.default_rng(0))
    wheres = [{"must": [{"key": "document_id", "match": {"value": id}}]} for id in ids]
    found = await store.query_batch([StoreQuery(SCOPE, SPACE, anywhere, limit=1_000, filter=where) for where in wheres])
    return [[hit.text for hit in answer.hits] for answer in found if isinstance(answer, StoreResult)]


async def texts_of(store: EdgeStore) -> dict[str, str]:
    """Of every document."""
    ids = await listed_ids(store, SCOPE, limit=200)
    documents = await asyncio.gather(*(store.document(SCOPE, id) for id in ids))
    return {document.id: document.text for document in documents}


async def require_whole(store: EdgeStore, stored: dict[str, tuple[int, int]]) -> None:
    """stored: id → version and number of passages. Each of these documents is stored, completely, and no more."""
    versions = {id: f"{version}" for id, (version, _) in stored.items()}
    assert await store.fingerprints(SCOPE, [*stored]) == versions
    texts = await texts_of(store)
    assert {id: texts.get(id) for id in stored} == versions
    found = await passages_of(store, *stored)
    assert found == [[f"{id} v{version}"] * passages for id, (version, passages) in stored.items()]
