"""What a stored point carries beside its vectors; the same in Qdrant Edge and in a Qdrant cluster.

    passage   vectors dense (cosine) and sparse (IDF), id = passage_point_id
              kind="passage" document_id number text headings title url metadata subject facets
    document  no vectors, so that no search finds it, id = document_point_id
              kind="document" document_id title url metadata subject text fingerprint passages

A document without `fingerprint` is not completely stored; `passages` is then the most that may be there.
`facets` mirrors `metadata` with every number and boolean as its JSON text: a keyword index counts text only, and one
field may hold several types, so `facet_path` turns a path into metadata to one into the mirror.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serve_app.errors import InvalidInput
from serve_app.types import Document, Hit, IndexedDocument, JsonObject, JsonValue, Passage, SparseVector

Payload = dict[str, Any]

DENSE, SPARSE = "dense", "sparse"  # the vectors' names
KIND, PASSAGE, DOCUMENT = "kind", "passage", "document"
KEYWORD_FIELDS = (KIND, "document_id", "subject")  # indexed from the start …
INTEGER_FIELDS = ("number",)
HIT_FIELDS = ("document_id", "text", "headings", "title", "url", "metadata")  # what a Hit is made of
DOCUMENT_FIELDS = ("document_id", "text", "title", "url", "metadata", "subject")  # what a Document is made of
MAX_METADATA_DEPTH = 32  # Edge writes 128 levels to its log but then cannot read it again
MAX_FACET_VALUES = 1_000  # the most frequent values of one field that are returned

OF_KIND: Mapping[str, JsonObject] = {
    kind: {"key": KIND, "match": {"value": kind}} for kind in (PASSAGE, DOCUMENT)
}  # filter conditions


def restrict(filter: JsonObject | None, kind: str) -> JsonObject:
    """The filter, for points of this kind only."""
    conditions: list[JsonValue] = [dict(OF_KIND[kind])]
    if filter:
        conditions.append(dict(filter))
    return {"must": conditions}


def passage_payload(document: Document, passage: Passage) -> Payload:
    return {
        KIND: PASSAGE,
        "document_id": document.id,
        "number": passage.number,
        "text": passage.text,
        "headings": list(passage.headings),
        "title": document.title,
        "url": document.url,
        "metadata": dict(document.metadata),
        "subject": document.subject,
        "facets": facet_texts(dict(document.metadata)),
    }


def document_payload(document: Document, passages: int, fingerprint: str | None) -> Payload:
    """The record of a document. passages: how many may be stored; fingerprint: None while they are being written."""
    payload: Payload = {
        KIND: DOCUMENT,
        "document_id": document.id,
        "text": document.text,
        "title": document.title,
        "url": document.url,
        "metadata": dict(document.metadata),
        "subject": document.subject,
        "passages": passages,
    }
    if fingerprint is not None:
        payload["fingerprint"] = fingerprint
    return payload


def to_document(payload: Mapping[str, Any]) -> Document:
    return Document(
        id=payload["document_id"],
        text=payload["text"],
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
    """Where the values of this payload path are counted: `metadata.year` → `facets.year`, others unchanged."""
    inside = path.removeprefix("metadata.")
    return path if inside == path else f"facets.{inside}"


def facet_texts(value: JsonValue) -> Any:
    """The value with each number and boolean in it as JSON text: 2024 → "2024", True → "true"; None stays."""
    if isinstance(value, dict):
        return {key: facet_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [facet_texts(inner) for inner in value]
    return value if value is None or isinstance(value, str) else json.dumps(value)


def require_storable(documents: Sequence[IndexedDocument], dim: int) -> None:
    """Called before anything is written, so that nothing is half-written. Raises InvalidInput, which names the
    document, for a vector that `vector_fault` finds wrong, a passage whose number is not its place, and text or
    metadata that is not JSON (NaN, a lone surrogate) or too deep."""
    for indexed in documents:
        document = indexed.document
        try:
            json.dumps(document_payload(document, 0, None), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"document {document.id[:80]!r} cannot be stored as JSON: {error}") from error
        if is_deeper(dict(document.metadata), MAX_METADATA_DEPTH):
            raise InvalidInput(
                f"document {document.id[:80]!r}: metadata is nested deeper than {MAX_METADATA_DEPTH} levels"
            )
        for place, item in enumerate(indexed.passages):
            if item.passage.number != place:
                raise InvalidInput(f"document {document.id[:80]!r}: passage {place} has number {item.passage.number}")
            if reason := vector_fault(item.dense, item.sparse, dim):
                raise InvalidInput(f"document {document.id[:80]!r}, passage {place}: {reason}")


def is_deeper(value: JsonValue, levels: int) -> bool:
    """Whether lists and objects are nested in each other more than so many levels deep."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(item, levels - 1) for item in inner)


def vector_fault(dense: np.ndarray[Any, Any] | None, sparse: SparseVector | None, dim: int) -> str:
    """What is wrong with these vectors of one passage or query; empty if nothing is."""
    if dense is not None:
        if dense.shape != (dim,):
            return f"the dense vector has shape {dense.shape}, the collection wants ({dim},)"
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
