"""Runs search queries on one shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from serve_app.errors import Conflict, InvalidInput, PlatformError, StoreBroken
from serve_app.query_types import FacetCounts, FusionMethod, Hit, StoreQuery, StoreResult
from serve_app.store.edge.fields import has_field
from serve_app.store.edge.payload_indexes import MAX_INDEXES, edge_filter
from serve_app.store.edge.shard import dense_vector, edge_errors, sparse_vector
from serve_app.store.feedback import depth, is_plain, smoothed, smoothing_of, wants_feedback, with_feedback
from serve_app.store.grouping import first_of_each, values_at
from serve_app.store.payload import (
    DENSE,
    HIT_FIELDS,
    MAX_FACET_VALUES,
    PASSAGE,
    SPARSE,
    facet_counts,
    facet_path,
    query_fault,
    to_hit,
)
from serve_app.types import JsonObject, Vector, VectorSpace

MAX_CANDIDATES = 10_000  # searched for groups
MAX_DIVERSE_CANDIDATES = 500  # with diversity, whose cost grows with the square of the candidates
MAX_EQUAL_RANKS = 8  # passages with an equal RRF score; usually two, with the same rank in different rankings
MAX_QUERIES_AT_ONCE = 4  # in one call into the shard, which holds the GIL; larger batches were not faster


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A point with its score after smoothing."""

    id: int | UUID | str
    score: float
    payload: Mapping[str, Any] | None


Found = edge.ScoredPoint | Smoothed


def answer(
    shard: edge.EdgeShard, space: VectorSpace, queries: Sequence[StoreQuery]
) -> list[StoreResult | PlatformError]:
    """One result per query, in order. Plain queries run in batches, because the shard then shares work among them."""
    answers: list[StoreResult | PlatformError | None] = [_fault(space, query) for query in queries]
    plain = [i for i, query in enumerate(queries) if answers[i] is None and is_plain(query)]
    for at in range(0, len(plain), MAX_QUERIES_AT_ONCE):
        together = plain[at : at + MAX_QUERIES_AT_ONCE]
        hits = _search_together(shard, [queries[i] for i in together])
        for i, found in zip(together, hits, strict=True):
            answers[i] = found if isinstance(found, PlatformError) else _with_facets(shard, queries[i], found)
    return [_answer_alone(shard, queries[i]) if answer is None else answer for i, answer in enumerate(answers)]


def _fault(space: VectorSpace, query: StoreQuery) -> PlatformError | None:
    if query.space != space:
        return Conflict(
            f"collection {query.scope.collection!r} was made with {space.model} ({space.revision}, {space.dim} "
            f"dimensions), the query with {query.space.model} ({query.space.revision}, {query.space.dim} dimensions)"
        )
    if reason := query_fault(query):
        return InvalidInput(reason)
    return None


def _search_together(shard: edge.EdgeShard, queries: Sequence[StoreQuery]) -> list[tuple[Hit, ...] | PlatformError]:
    try:
        with edge_errors():
            found = shard.query_batch(edge.QueryBatchRequest([_page_request(query) for query in queries]))
        return [tuple(map(_hit, _page(query, points))) for query, points in zip(queries, found, strict=True)]
    except StoreBroken:
        raise
    except PlatformError as error:
        if len(queries) == 1:
            return [error]
    return [hits for query in queries for hits in _search_together(shard, [query])]  # so only the faulty query fails


def _page_request(query: StoreQuery) -> edge.QueryRequest:
    if _has_ties(query):
        return _request(query, query.offset + query.limit + MAX_EQUAL_RANKS, 0, HIT_FIELDS)
    return _request(query, query.limit, query.offset, HIT_FIELDS)


def _page(query: StoreQuery, points: Sequence[edge.ScoredPoint]) -> Sequence[edge.ScoredPoint]:
    return _in_order(points)[query.offset :][: query.limit] if _has_ties(query) else points


def _has_ties(query: StoreQuery) -> bool:
    """Whether hits may have equal scores. Edge returns hits with equal RRF scores in a different order each time, so
    without sorting a hit could be on two pages or on none."""
    hybrid = query.dense is not None and query.sparse is not None
    return hybrid and query.fusion.method is FusionMethod.RRF and query.diversity is None


def _in_order(points: Sequence[edge.ScoredPoint]) -> list[edge.ScoredPoint]:
    return sorted(points, key=lambda point: (-point.score, str(point.id)))


def _with_facets(shard: edge.EdgeShard, query: StoreQuery, hits: tuple[Hit, ...]) -> StoreResult | PlatformError:
    if not query.facets:
        return StoreResult(hits)
    try:
        with edge_errors():
            passages = edge_filter(query.filter, PASSAGE)
            total = shard.count(edge.CountRequest(exact=True, filter=passages))
        return StoreResult(hits, {path: _facet(shard, path, query.filter) for path in query.facets}, total)
    except StoreBroken:
        raise
    except PlatformError as error:
        return error


def _facet(shard: edge.EdgeShard, path: str, filter: JsonObject | None) -> FacetCounts:
    counted = facet_path(path)
    if counted not in (existing := shard.info().payload_schema):
        if len(existing) < MAX_INDEXES or not has_field(shard, counted):  # else its index would exist
            return {}
        raise InvalidInput(f"facet {path!r}: this collection has facets or filters on {MAX_INDEXES} fields, the most")
    only_passages_have_it = counted != path
    where = None if only_passages_have_it and not filter else edge_filter(filter, PASSAGE)
    with edge_errors():
        request = edge.FacetRequest(counted, MAX_FACET_VALUES, exact=True, filter=where)
        return facet_counts(path, ((str(hit.value), hit.count) for hit in shard.facet(request).hits))


def _answer_alone(shard: edge.EdgeShard, query: StoreQuery) -> StoreResult | PlatformError:
    wanted = query.offset + query.limit
    try:
        query = _after_feedback(shard, query) if wants_feedback(query) else query
        if query.group_by is None:
            best = _ranked(shard, query, wanted, ())[query.offset : wanted]
        else:
            best = _first_of_groups(shard, query, query.group_by, wanted)[query.offset :]
        return _with_facets(shard, query, _with_payload(shard, best))
    except StoreBroken:
        raise
    except PlatformError as error:
        return error


def _first_of_groups(shard: edge.EdgeShard, query: StoreQuery, path: str, wanted: int) -> list[Found]:
    """Repeats the search with more candidates until there are enough groups, no candidates are left, or the maximum is
    reached."""
    most = MAX_CANDIDATES if query.diversity is None else MAX_DIVERSE_CANDIDATES
    candidates = min(most, max(4 * wanted, query.candidates))
    while True:
        found = _ranked(shard, query, candidates, (path,))
        kept = first_of_each(values_at(point.payload or {}, path) for point in found)
        if len(kept) >= wanted or len(found) < candidates or candidates >= most:
            return [found[place] for place in kept[:wanted]]
        candidates = min(most, candidates * 4)


def _ranked(shard: edge.EdgeShard, query: StoreQuery, candidates: int, fields: Sequence[str]) -> Sequence[Found]:
    """Best first; at least `candidates` points, if there are that many. fields: of the payload."""
    smoothing = smoothing_of(query)
    limit = depth(query, candidates)
    with edge_errors():
        found = shard.query(_request(query, limit + MAX_EQUAL_RANKS * _has_ties(query), 0, fields))
    found = _in_order(found)[:limit] if _has_ties(query) else found
    if smoothing is None:
        return found
    vectors = _vectors(shard, found[: smoothing.candidates])
    order = smoothed([point.score for point in found], vectors, smoothing)
    return [Smoothed(found[place].id, score, found[place].payload) for place, score in order]


def _after_feedback(shard: edge.EdgeShard, query: StoreQuery) -> StoreQuery:
    assert query.feedback is not None
    passages = query.feedback.passages
    first = _ranked(shard, replace(query, diversity=None, smoothing=None), passages, ())[:passages]
    return with_feedback(query, [vector for vector in _vectors(shard, first) if vector is not None])


def _vectors(shard: edge.EdgeShard, points: Sequence[Found]) -> list[Vector | None]:
    """The dense vector of each point, (dim,); None if the point was deleted in between."""
    ids: list[int | UUID | str] = [point.id for point in points]
    with edge_errors():
        records: list[Any] = shard.retrieve(ids, False, [DENSE])
    vectors = {record.id: np.fromiter(record.vector[DENSE], np.float32) for record in records if record.vector}
    return [vectors.get(id) for id in ids]


def _with_payload(shard: edge.EdgeShard, points: Sequence[Found]) -> tuple[Hit, ...]:
    ids: list[int | UUID | str] = [point.id for point in points]
    with edge_errors():
        records = {str(record.id): record.payload for record in shard.retrieve(ids, [*HIT_FIELDS], False)}
    # A point that was deleted in between has no payload.
    return tuple(
        to_hit(str(point.id), point.score, payload) for point in points if (payload := records.get(str(point.id)))
    )


def _hit(point: edge.ScoredPoint) -> Hit:
    return to_hit(str(point.id), point.score, point.payload or {})


def _request(query: StoreQuery, limit: int, offset: int, fields: Sequence[str]) -> edge.QueryRequest:
    """A request to Edge. For a hybrid query with diversity, maximal marginal relevance over the dense vectors reorders
    the fused hits."""
    candidates = max(query.candidates, offset + limit)
    result: dict[str, Any] = {"limit": limit, "offset": offset, "with_payload": [*fields] or False}
    retrievers = _retrievers(query)
    fused = [edge.Prefetch(candidates, **retriever) for retriever in retrievers]
    if query.diversity is not None:
        diverse = edge.Mmr(dense_vector(query.dense), 1 - query.diversity, candidates, using=DENSE)  # type: ignore[arg-type]
        if len(retrievers) == 1:
            return edge.QueryRequest(**{**retrievers[0], "query": diverse}, **result)
        return edge.QueryRequest(
            query=diverse, prefetches=[edge.Prefetch(candidates, query=_fusion(query), prefetches=fused)], **result
        )
    if len(retrievers) == 1:
        return edge.QueryRequest(**retrievers[0], **result)
    return edge.QueryRequest(query=_fusion(query), prefetches=fused, **result)


def _retrievers(query: StoreQuery) -> list[dict[str, Any]]:
    """The arguments of each retriever. Sparse search is always exact, so it has no search parameters."""
    matching = edge_filter(query.filter, PASSAGE) if query.filter else None  # only passages have vectors
    retrievers: list[dict[str, Any]] = []
    if query.dense is not None:
        nearest = edge.Query.Nearest(dense_vector(query.dense), using=DENSE)
        retrievers.append({"query": nearest, "filter": matching, "params": _params(query)})
    if query.sparse is not None:
        retrievers.append({"query": edge.Query.Nearest(sparse_vector(query.sparse), using=SPARSE), "filter": matching})
    return retrievers


def _params(query: StoreQuery) -> edge.SearchParams:
    quantization = edge.QuantizationSearchParams(
        ignore=query.exact, rescore=query.rescore, oversampling=query.oversampling
    )
    return edge.SearchParams(hnsw_ef=query.hnsw_ef, exact=query.exact, quantization=quantization)


def _fusion(query: StoreQuery) -> Any:
    return edge.Fusion.Rrf(k=query.fusion.rrf_k) if query.fusion.method is FusionMethod.RRF else edge.Fusion.Dbsf()
