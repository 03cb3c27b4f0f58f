"""The payload of stored points, which is the same in Qdrant Edge and on a Qdrant server.

    passage   vectors dense (cosine) and sparse (IDF), id = passage_point_id
              kind="passage" document_id number text headings digest title url metadata subject facets dates
    document  no vectors, so no search finds it, id = document_point_id
              kind="document" document_id title url metadata subject dates text fingerprint passages

A document without `fingerprint` is not completely stored; `passages` is then an upper bound of its stored passages.
`facets` and `dates` mirror `metadata`, because a payload index has one type, while a metadata field may have values of
several types. `facets` has every number and boolean as text (see facet_texts); `dates` has only texts that begin like a
date. `facet_path` and `date_path` turn a metadata path into the path of the mirror.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from serve_app.errors import InvalidInput
from serve_app.query_types import FacetCounts, Hit, StoreQuery
from serve_app.types import (
    Document,
    IndexedDocument,
    IndexedPassage,
    JsonObject,
    JsonValue,
    ListedDocument,
    SparseVector,
    StoredVersion,
)
from serve_app.validation import metadata_fault, text_fault

Payload = dict[str, Any]

DENSE, SPARSE = "dense", "sparse"  # names of the vectors
KIND, PASSAGE, DOCUMENT = "kind", "passage", "document"
KEYWORD_FIELDS = (KIND, "document_id", "subject")  # these and INTEGER_FIELDS are indexed from the start
INTEGER_FIELDS = ("number",)
HIT_FIELDS = ("document_id", "text", "headings", "title", "url", "metadata")  # for a Hit
LISTED_FIELDS = ("document_id", "title", "url", "metadata", "subject")  # for a ListedDocument
DOCUMENT_FIELDS = (*LISTED_FIELDS, "text")  # for a Document
RECORD_FIELDS = (*DOCUMENT_FIELDS, "fingerprint", "passages")  # for an IndexedDocument, without its passages
VERSION_FIELDS = ("document_id", "fingerprint", "passages")  # for a StoredVersion
DATE = re.compile(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")  # the begin of every text that Qdrant reads as a date
LITERAL = re.compile(r'".*|true|false|-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?', re.DOTALL)
MAX_FACET_VALUES = 1_000  # of one field; the most frequent values are returned


OF_KIND: Mapping[str, JsonObject] = {
    kind: {"key": KIND, "match": {"value": kind}} for kind in (PASSAGE, DOCUMENT)
}  # filter conditions


def restrict(filter: JsonObject | None, kind: str) -> JsonObject:
    """The filter, restricted to points of this kind."""
    conditions: list[JsonValue] = [dict(OF_KIND[kind])]
    if filter:
        conditions.append(dict(filter))
    return {"must": conditions}


def passage_payload(document: Document, item: IndexedPassage) -> Payload:
    passage = item.passage
    return {
        KIND: PASSAGE,
        "document_id": document.id,
        "number": passage.number,
        "text": passage.text,
        "headings": list(passage.headings),
        "digest": item.digest,
        "facets": facet_texts(dict(document.metadata)),
        **_described(document),
    }


def document_payload(document: Document, passages: int, fingerprint: str | None) -> Payload:
    """The record of a document. passages: upper bound of its stored passages; fingerprint: None while they are being
    written."""
    payload: Payload = {
        KIND: DOCUMENT,
        "document_id": document.id,
        "text": document.text,
        "passages": passages,
        **_described(document),
    }
    if fingerprint is not None:
        payload["fingerprint"] = fingerprint
    return payload


def _described(document: Document) -> Payload:
    """The fields that a document's record and its passages have in common."""
    metadata = dict(document.metadata)
    return {
        "title": document.title,
        "url": document.url,
        "subject": document.subject,
        "metadata": metadata,
        "dates": dates_in(metadata) or {},
    }


def to_document(payload: Mapping[str, Any]) -> Document:
    return Document(
        id=payload["document_id"],
        text=payload["text"],
        title=payload["title"],
        url=payload["url"],
        metadata=payload["metadata"],
        subject=payload["subject"],
    )


def to_version(payload: Mapping[str, Any]) -> StoredVersion:
    return StoredVersion(payload["document_id"], payload.get("fingerprint"), payload["passages"])


def to_listed(payload: Mapping[str, Any]) -> ListedDocument:
    return ListedDocument(
        id=payload["document_id"],
        title=payload["title"],
        url=payload["url"],
        metadata=payload["metadata"],
        subject=payload["subject"],
    )


def to_hit(point_id: str, score: float, payload: Mapping[str, Any]) -> Hit:
    return Hit(
        document_id=payload["document_id"],
        passage_id=point_id,
        score=score,
        title=payload["title"],
        text=payload["text"],
        url=payload["url"],
        metadata=payload["metadata"],
        headings=tuple(payload["headings"]),
    )


def facet_path(path: str) -> str:
    """The path whose values are counted for a facet on `path`: `metadata.year` → `facets.year`, others unchanged."""
    inside = path.removeprefix("metadata.")
    return path if inside == path else f"facets.{inside}"


def date_path(path: str) -> str:
    """The path of the dates at `path`: `metadata.at` → `dates.at`; `number` → `dates.number`, which never exists;
    others unchanged."""
    inside = path.removeprefix("metadata.")
    return f"dates.{inside}" if inside != path or path == "number" else path


def dates_in(value: JsonValue) -> Any:
    """The value, reduced to the texts that begin like a date. Lists keep their length. None if there is no such text,
    as in most documents."""
    if isinstance(value, dict):
        return {key: dates for key, inner in value.items() if (dates := dates_in(inner)) is not None} or None
    if isinstance(value, list):
        dates = [dates_in(inner) for inner in value]
        return dates if any(inner is not None for inner in dates) else None
    return value if isinstance(value, str) and DATE.match(value) else None


def facet_texts(value: JsonValue) -> Any:
    """The value with each scalar as text: 2024 → `2024`, True → `true`. A text that reads like one of those, or begins
    with a quote, is put in quotes; so two texts are equal only if the values are equal. None stays None."""
    if isinstance(value, dict):
        return {key: facet_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [facet_texts(inner) for inner in value]
    if isinstance(value, str):
        return f'"{value}"' if LITERAL.fullmatch(value) else value
    return value if value is None else json.dumps(value)


def facet_counts(path: str, found: Iterable[tuple[str, int]]) -> FacetCounts:
    """The counts as users see them. found: text and count of each value at `facet_path(path)`. A number and a text that
    reads like it are counted together."""
    mirrored = facet_path(path) != path
    counts: Counter[str] = Counter()
    for text, passages in found:
        counts[text[1:-1] if mirrored and text.startswith('"') else text] += passages
    return dict(counts.most_common())


def require_storable(documents: Sequence[IndexedDocument], dim: int) -> None:
    """Stores call this before they write, so that a bad document leaves nothing half-written. Raises InvalidInput,
    which names the document, for text or metadata that `validation` refuses, for a passage whose number is not its
    place, and for invalid vectors."""
    for indexed in documents:
        document = indexed.document
        if reason := text_fault(document) or metadata_fault(document.metadata):
            raise InvalidInput(f"document {document.id[:80]!r}: {reason}")
        for place, item in enumerate(indexed.passages):
            if item.passage.number != place:
                raise InvalidInput(f"document {document.id[:80]!r}: passage {place} has number {item.passage.number}")
            if reason := vector_fault(item.dense, item.sparse, dim):
                raise InvalidInput(f"document {document.id[:80]!r}, passage {place}: {reason}")


def query_fault(query: StoreQuery) -> str | None:
    """What is wrong with the query; empty or None if nothing is."""
    if query.dense is None and query.sparse is None:
        return "a query has a dense vector, a sparse vector or both"
    if query.dense is None and query.diversity is not None:
        return "diversity is measured between dense vectors: use mode dense or hybrid"
    if query.diversity is not None and not 0 <= query.diversity <= 1:
        return f"diversity is from 0 to 1, not {query.diversity}"
    return vector_fault(query.dense, query.sparse, query.space.dim)


def vector_fault(dense: np.ndarray[Any, Any] | None, sparse: SparseVector | None, dim: int) -> str:
    """What is wrong with the vectors of a passage or query; empty if nothing is."""
    if dense is not None:
        if dense.shape != (dim,):
            return f"the dense vector has shape {dense.shape}, the collection needs ({dim},)"
        if not np.isfinite(dense).all():
            return "the dense vector has NaN or infinity"
    if sparse is not None:
        if sparse.indices.shape != sparse.values.shape or sparse.indices.ndim != 1:
            return f"the sparse vector has {sparse.indices.shape} indices for {sparse.values.shape} values"
        if not np.isfinite(sparse.values).all():
            return "the sparse vector has NaN or infinity"
        if len(np.unique(sparse.indices)) != len(sparse.indices):
            return "the sparse vector has an index twice"
    return ""
