"""All that a collection holds, so that two can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serve_app.deployments.store import connect_store
from serve_app.settings import Settings
from serve_app.types import Document, IndexedDocument, Passage, Scope

# Between vectors of one text in passes of other companions. In int8 padding alone, which decides how an activation is
# rounded, moves a text of seven tokens by 0.0015; another version of it has 0.95.
LEAST_COSINE = 0.995


@dataclass(frozen=True)
class Contents:
    documents: dict[str, IndexedDocument]
    points: tuple[int, int]  # documents and passages, as the store counts them


async def contents(scope: Scope, settings: Settings) -> Contents:
    store = connect_store(settings)
    found: dict[str, IndexedDocument] = {}
    cursor: str | None = None
    while True:
        page = await store.listing(scope, cursor=cursor)
        found |= await store.indexed_documents(scope, [document.id for document in page.documents])
        if (cursor := page.cursor) is None:
            info = await store.count(scope)
            return Contents(found, (info.documents, info.passages))


def require_equal(one: Contents, other: Contents) -> None:
    """Ids, payloads, BM25 terms, and vectors."""
    assert set(one.documents) == set(other.documents)
    assert one.points == other.points == (len(one.documents), sum(len(d.passages) for d in one.documents.values()))
    for id, document in one.documents.items():
        assert plain(document) == plain(other.documents[id])
        for mine, theirs in zip(document.passages, other.documents[id].passages, strict=True):
            cosine = float(mine.dense @ theirs.dense)
            assert cosine > LEAST_COSINE, (id, mine.passage, cosine)
            np.testing.assert_array_equal(mine.sparse.indices, theirs.sparse.indices)
            np.testing.assert_array_equal(mine.sparse.values, theirs.sparse.values)


def plain(indexed: IndexedDocument) -> tuple[Document, str, list[tuple[Passage, str]]]:
    return indexed.document, indexed.fingerprint, [(item.passage, item.digest) for item in indexed.passages]
