"""Small documents with real BM25 and deterministic dense vectors, for the contract suite of the stores."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve_app.errors import PlatformError
from serve_app.ports import DocumentStore, SearchStore
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import (
    Document,
    IndexedDocument,
    IndexedPassage,
    JsonObject,
    JsonValue,
    Passage,
    Scope,
    Vector,
    VectorSpace,
)

SPACE = VectorSpace("bag-of-words", "1", 8)
SCOPE = Scope("acme", "handbook")
BM25 = Bm25SparseEncoder()


def embed(text: str) -> Vector:
    """Unit vector (8,): the sum of one random vector per word, so that texts with the same words are near."""
    words = text.lower().split() or [""]
    total = np.sum([np.random.default_rng(zlib.crc32(word.encode())).standard_normal(8) for word in words], axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


def passage(number: int, text: str, headings: Sequence[str] = ()) -> IndexedPassage:
    [sparse] = BM25.encode_passages([text])
    return IndexedPassage(Passage(number, text, tuple(headings)), embed(text), sparse)


def document(
    id: str, *texts: str, metadata: JsonObject | None = None, fingerprint: str = "", subject: str = ""
) -> IndexedDocument:
    """A document with one passage per text."""
    whole = Document(id, "\n".join(texts), f"Title of {id}", f"https://x.org/{id}", metadata or {}, subject)
    passages = tuple(passage(number, text, ["Heading"]) for number, text in enumerate(texts))
    return IndexedDocument(whole, fingerprint or f"{id}:{hash(texts)}", passages)


def query(text: str, mode: str = "hybrid", *, scope: Scope = SCOPE, **fields: Any) -> StoreQuery:
    dense = None if mode == "sparse" else embed(text)
    sparse = None if mode == "dense" else BM25.encode_query(text)
    return StoreQuery(scope, SPACE, dense, sparse, **fields)


def where(key: str, value: JsonValue) -> JsonObject:
    """A canonical filter: the field at this payload path has this value."""
    return {"must": [{"key": key, "match": {"value": value}}]}


async def ask(store: SearchStore, query: StoreQuery) -> StoreResult:
    [answer] = await store.query_batch([query])
    if isinstance(answer, PlatformError):
        raise answer
    return answer


async def found(store: SearchStore, query: StoreQuery) -> list[str]:
    """The document of each hit, best first."""
    return [hit.document_id for hit in (await ask(store, query)).hits]


async def listed_ids(
    store: DocumentStore, scope: Scope = SCOPE, *, limit: int = 100, filter: JsonObject | None = None
) -> list[str]:
    """The id of every document, page by page."""
    page = await store.listing(scope, filter=filter, limit=limit)
    ids = [found.id for found in page.documents]
    while page.cursor is not None:
        page = await store.listing(scope, filter=filter, limit=limit, cursor=page.cursor)
        ids += [found.id for found in page.documents]
    return ids
