"""Converts our types to the request types of Qdrant's client. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from qdrant_client import models

from serve_app.errors import InvalidInput
from serve_app.query_types import FusionMethod, StoreQuery
from serve_app.store.payload import (
    DENSE,
    PASSAGE,
    SPARSE,
    Payload,
    query_fault,
    restrict,
)
from serve_app.store.points import StoredPoint, stored_point
from serve_app.store.qdrant.facet_terms import facet_terms
from serve_app.types import JsonObject, SparseVector

MAX_REQUEST_BYTES = 16 * 1024 * 1024  # a server accepts 32 MiB over HTTP; our sizes are estimates
FLOAT_BYTES = 22  # as JSON, for example 0.051234565675258636,
INDEX_BYTES = 11


def to_filter(filter: JsonObject | None, kind: str) -> models.Filter:
    """Qdrant's filter for the points of this kind that match the canonical filter, which is already Qdrant's JSON. For
    passages, conditions on the mirror narrow the candidates (see facet_terms)."""
    conditions = models.Filter.model_validate(restrict(filter, kind))
    if kind != PASSAGE:
        return conditions
    mirrored = (
        models.FieldCondition(key=terms.path, match=models.MatchAny(any=list(terms.texts)))
        for terms in facet_terms(filter)
    )
    return models.Filter(must=[conditions, *mirrored])


def require_answerable(query: StoreQuery) -> None:
    """Raises InvalidInput for a query without vectors, or with vectors that do not fit its space."""
    if reason := query_fault(query):
        raise InvalidInput(reason)


def to_request(query: StoreQuery, limit: int, offset: int, fields: Sequence[str]) -> models.QueryRequest | None:
    """A request to Qdrant. None for a sparse query without words, which has no hits. fields: of the payload.

    For a hybrid query with diversity, maximal marginal relevance over the dense vectors reorders the fused hits."""
    candidates = max(query.candidates, offset + limit)
    retrievers = list(_retrievers(query, candidates))
    if not retrievers:
        return None
    page: dict[str, Any] = {"limit": limit, "offset": offset, "with_payload": list(fields) or False}
    fusion = _fusion(query) if query.dense is not None and query.sparse is not None else None
    if query.dense is not None and query.diversity is not None:
        mmr = models.Mmr(diversity=query.diversity, candidates_limit=candidates)
        diverse = {"query": models.NearestQuery(nearest=query.dense.tolist(), mmr=mmr), "using": DENSE}
        if fusion is None:
            return models.QueryRequest(filter=retrievers[0].filter, params=retrievers[0].params, **diverse, **page)
        fused = models.Prefetch(prefetch=retrievers, query=fusion, limit=candidates)
        return models.QueryRequest(prefetch=fused, **diverse, **page)
    if fusion is not None:
        return models.QueryRequest(prefetch=retrievers, query=fusion, **page)
    [only] = retrievers
    return models.QueryRequest(query=only.query, using=only.using, filter=only.filter, params=only.params, **page)


def _retrievers(query: StoreQuery, candidates: int) -> Iterator[models.Prefetch]:
    matching = to_filter(query.filter, PASSAGE)
    if query.dense is not None:
        yield models.Prefetch(
            query=query.dense.tolist(), using=DENSE, filter=matching, limit=candidates, params=_params(query)
        )
    if query.sparse is not None and query.sparse.indices.size:
        yield models.Prefetch(query=to_sparse(query.sparse), using=SPARSE, filter=matching, limit=candidates)


def _params(query: StoreQuery) -> models.SearchParams:
    quantization = models.QuantizationSearchParams(
        ignore=query.exact, rescore=query.rescore, oversampling=query.oversampling
    )
    return models.SearchParams(hnsw_ef=query.hnsw_ef, exact=query.exact, quantization=quantization)


def _fusion(query: StoreQuery) -> models.Query:
    if query.fusion.method is FusionMethod.RRF:
        return models.RrfQuery(rrf=models.Rrf(k=query.fusion.rrf_k))
    return models.FusionQuery(fusion=models.Fusion.DBSF)


def to_point(point: StoredPoint) -> models.PointStruct:
    vectors: dict[str, Any] = {}
    if point.dense is not None:
        vectors[DENSE] = point.dense.tolist()
    if point.sparse is not None and point.sparse.indices.size:  # no sparse vector without words
        vectors[SPARSE] = to_sparse(point.sparse)
    return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)


def from_record(record: models.Record) -> StoredPoint:
    vectors: dict[str, Any] = record.vector or {}  # type: ignore[assignment]  # always named vectors here
    return stored_point(str(record.id), record.payload, vectors)


def to_sparse(vector: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def in_requests(
    points: Iterable[models.PointStruct], max_bytes: int = MAX_REQUEST_BYTES
) -> Iterator[list[models.PointStruct]]:
    """Splits the points, in order, into lists that fit into one request each. A larger point is alone in its list."""
    together: list[models.PointStruct] = []
    total_bytes = 0
    for point in points:
        size_bytes = point_bytes(point)
        if together and total_bytes + size_bytes > max_bytes:
            yield together
            together, total_bytes = [], 0
        together.append(point)
        total_bytes += size_bytes
    if together:
        yield together


def point_bytes(point: models.PointStruct) -> int:
    """Estimated size of the point in a request."""
    vectors: dict[str, Any] = point.vector  # type: ignore[assignment]  # always named vectors here
    dense, sparse = vectors.get(DENSE, ()), vectors.get(SPARSE)
    sparse_bytes = len(sparse.indices) * (INDEX_BYTES + FLOAT_BYTES) if sparse else 0
    return len(dense) * FLOAT_BYTES + sparse_bytes + payload_bytes(point.payload or {})


def payload_bytes(payload: Payload) -> int:
    return len(orjson.dumps(payload))
