"""Converts documents to the points of both stores, and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve_app.store.payload import DENSE, SPARSE, Payload, document_payload, passage_payload, to_document
from serve_app.types import (
    IndexedDocument,
    IndexedPassage,
    Passage,
    Scope,
    SparseVector,
    Vector,
    document_point_id,
    passage_point_id,
)

NO_TERMS = SparseVector(np.empty(0, np.uint32), np.empty(0, np.float32))
STORED_PRECISION = 1e-6  # stores normalise every vector, which changes even one of unit length a little


@dataclass(frozen=True, slots=True, eq=False)
class StoredPoint:
    """A point in the form that both stores use. A document's record has no vectors."""

    id: str
    payload: Payload
    dense: Vector | None = None
    sparse: SparseVector | None = None


def stored_point(id: str, payload: Payload | None, vectors: Mapping[str, Any]) -> StoredPoint:
    """A point as a store returned it. vectors: by name; the dense vector is a list, the sparse vector an object with
    `indices` and `values`."""
    dense, sparse = vectors.get(DENSE), vectors.get(SPARSE)
    return StoredPoint(
        id,
        payload or {},
        None if dense is None else np.asarray(dense, np.float32),
        None
        if sparse is None
        else SparseVector(np.asarray(sparse.indices, np.uint32), np.asarray(sparse.values, np.float32)),
    )


def record_point(scope: Scope, indexed: IndexedDocument, passages: int, fingerprint: str | None) -> StoredPoint:
    payload = document_payload(indexed.document, passages, fingerprint)
    return StoredPoint(document_point_id(scope, indexed.document.id), payload)


def passage_points(scope: Scope, indexed: IndexedDocument) -> Iterator[StoredPoint]:
    for item in indexed.passages:
        id = passage_point_id(scope, indexed.document.id, item.passage.number)
        yield StoredPoint(id, passage_payload(indexed.document, item), item.dense, item.sparse)


def to_indexed(record: Payload, passages: Iterable[StoredPoint]) -> IndexedDocument | None:
    """The document made of its record and passages. None if it is not completely stored. passages: in any order."""
    by_number = {point.payload["number"]: point for point in passages}
    numbers = range(record["passages"])
    if "fingerprint" not in record or sorted(by_number) != [*numbers]:
        return None
    items = tuple(to_indexed_passage(by_number[number]) for number in numbers)
    return IndexedDocument(to_document(record), record["fingerprint"], items)


def to_indexed_passage(point: StoredPoint) -> IndexedPassage:
    payload = point.payload
    assert point.dense is not None, "every passage has a dense vector"
    return IndexedPassage(
        Passage(payload["number"], payload["text"], tuple(payload["headings"])),
        point.dense,
        point.sparse or NO_TERMS,
        payload.get("digest", ""),  # earlier versions did not store it
    )


def is_same(point: StoredPoint, stored: StoredPoint | None) -> bool:
    """Whether the stored passage is the same, so that writing it again would change nothing."""
    if stored is None or point.payload != stored.payload:
        return False
    assert point.dense is not None and stored.dense is not None
    (indices, values), stored_terms = sorted_terms(point), sorted_terms(stored)
    return (
        np.array_equal(indices, stored_terms[0])
        and np.array_equal(values, stored_terms[1])
        and np.allclose(point.dense, stored.dense, rtol=0, atol=STORED_PRECISION)
    )


def sorted_terms(point: StoredPoint) -> tuple[np.ndarray, np.ndarray]:
    """Indices in ascending order, and the values in the order of their indices."""
    terms = point.sparse or NO_TERMS
    order = np.argsort(terms.indices)
    return terms.indices[order], terms.values[order]
