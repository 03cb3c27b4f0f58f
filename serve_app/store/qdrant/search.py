"""Searches on a Qdrant server. A batch takes one request for each scope. Groups, facets, feedback and smoothing take
more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from serve_app.errors import InvalidInput, NotFound, PlatformError, Unavailable
from serve_app.query_types import FacetCounts, Hit, StoreQuery, StoreResult
from serve_app.store.feedback import depth, is_plain, smoothed, smoothing_of, wants_feedback, with_feedback
from serve_app.store.grouping import first_of_each, values_at
from serve_app.store.indexes import from_index
from serve_app.store.payload import DENSE, HIT_FIELDS, MAX_FACET_VALUES, PASSAGE, facet_counts, facet_path, to_hit
from serve_app.store.qdrant.active_index import QdrantActiveIndex, physical_name
from serve_app.store.qdrant.calls import QdrantCalls
from serve_app.store.qdrant.collections import QdrantCollections
from serve_app.store.qdrant.facet_terms import facet_terms
from serve_app.store.qdrant.requests import require_answerable, to_filter, to_request
from serve_app.types import Scope, Vector

MAX_CANDIDATES = 10_000  # searched for groups
MAX_DIVERSE_CANDIDATES = 500  # with diversity, whose cost grows with the square of the candidates

T = TypeVar("T")
Hits = tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class FoundPoint:
    """A point that was found. score: after smoothing, if any."""

    id: str
    score: float
    payload: Mapping[str, Any]


class QdrantSearch:
    def __init__(
        self,
        client: AsyncQdrantClient,
        ask: QdrantCalls,
        collections: QdrantCollections,
        active: QdrantActiveIndex,
        consistency: models.ReadConsistencyType | None,
    ) -> None:
        self._client = client
        self._ask = ask
        self._collections = collections
        self._active_index = active
        self._consistency = consistency

    async def query_batch(self, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        """See ports.SearchStore. Raises StoreUnavailable if the searches of all scopes fail with it. If only some fail,
        it is the result of their queries."""
        places: dict[Scope, list[int]] = {}
        for place, query in enumerate(queries):
            places.setdefault(query.scope, []).append(place)
        batches = await asyncio.gather(
            *(self._of_scope(scope, [queries[place] for place in asked]) for scope, asked in places.items())
        )
        failures = [batch for batch in batches if isinstance(batch, Unavailable)]
        if failures and len(failures) == len(batches):
            raise failures[0]
        answers: dict[int, StoreResult | PlatformError] = {}
        for asked, given in zip(places.values(), batches, strict=True):
            answers.update(zip(asked, [given] * len(asked) if isinstance(given, Unavailable) else given, strict=True))
        return [answers[place] for place in range(len(queries))]

    async def count(self, scope: Scope, where: models.Filter) -> int:
        answer = await self._ask(
            self._client.count, collection_name=physical_name(scope), count_filter=where, exact=True
        )
        return answer.count

    async def _of_scope(
        self, scope: Scope, queries: Sequence[StoreQuery]
    ) -> list[StoreResult | PlatformError] | Unavailable:
        """The results of all queries of a scope, from one index."""
        try:
            index = await self._active_index.resolve(scope)
            answers = await self._index_batch(index, queries)
            if any(isinstance(answer, NotFound) for answer in answers):  # dropped since it was cached
                now = await self._active_index.resolve(scope, fresh=True)
                answers = answers if now == index else await self._index_batch(now, queries)
            return answers
        except Unavailable as error:
            return error

    async def _index_batch(self, index: Scope, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        return from_index(index.index, await self._scope_batch(index, [replace(q, scope=index) for q in queries]))

    async def _scope_batch(self, scope: Scope, queries: Sequence[StoreQuery]) -> list[StoreResult | PlatformError]:
        hits: list[Hits | PlatformError | None] = [await self._fault(query) for query in queries]
        plain = [i for i, query in enumerate(queries) if hits[i] is None and is_plain(query)]
        for i, found in zip(plain, await self._plain(scope, [queries[i] for i in plain]), strict=True):
            hits[i] = found
        return list(await asyncio.gather(*(self._answer(q, found) for q, found in zip(queries, hits, strict=True))))

    async def _fault(self, query: StoreQuery) -> PlatformError | None:
        async def examine() -> None:
            await self._collections.require_space(query.scope, query.space)
            require_answerable(query)
            paths = [terms.path for terms in facet_terms(query.filter)]
            await self._collections.index_soon(query.scope, paths, partial(self._has_field, query.scope))

        return await value_or_fault(examine())

    async def _plain(self, scope: Scope, queries: Sequence[StoreQuery]) -> list[Hits | PlatformError]:
        """Send the queries in one request. If that fails, send each alone, so only the faulty query fails."""
        requests = [to_request(query, query.limit, query.offset, HIT_FIELDS) for query in queries]
        found = await value_or_fault(self._points(scope, requests))
        if not isinstance(found, PlatformError):
            return [tuple(to_hit(str(p.id), p.score, p.payload or {}) for p in points) for points in found]
        if len(queries) == 1:
            return [found]
        return [hits for query in queries for hits in await self._plain(scope, [query])]

    async def _answer(self, query: StoreQuery, found: Hits | PlatformError | None) -> StoreResult | PlatformError:
        """The result of a query. found: the hits of a plain query, None for any other query."""
        if isinstance(found, PlatformError):
            return found
        return await value_or_fault(self._completed(query, found))

    async def _completed(self, query: StoreQuery, found: Hits | None) -> StoreResult:
        hits = await self._alone(query) if found is None else found
        if not query.facets:
            return StoreResult(hits)
        passages = to_filter(query.filter, PASSAGE)
        counts = await asyncio.gather(*(self._facet(query.scope, path, passages) for path in query.facets))
        return StoreResult(hits, dict(zip(query.facets, counts, strict=True)), await self.count(query.scope, passages))

    async def _alone(self, query: StoreQuery) -> Hits:
        wanted = query.offset + query.limit
        query = await self._after_feedback(query) if wants_feedback(query) else query
        if query.group_by is None:
            best = (await self._ranked(query, wanted, ()))[query.offset : wanted]
        else:
            best = (await self._first_of_groups(query, query.group_by, wanted))[query.offset :]
        payloads = await self._payloads(query.scope, [point.id for point in best])
        # A point that was deleted in between has no payload.
        return tuple(to_hit(p.id, p.score, payloads[p.id]) for p in best if p.id in payloads)

    async def _first_of_groups(self, query: StoreQuery, path: str, wanted: int) -> list[FoundPoint]:
        """Repeats the search with more candidates until there are enough groups, no candidates are left, or the maximum
        is reached.

        Does not use Qdrant's own grouping, which has no offset and searches only one prefetch, which a single long
        document can fill."""
        most = MAX_CANDIDATES if query.diversity is None else MAX_DIVERSE_CANDIDATES
        candidates = min(most, max(4 * wanted, query.candidates))
        while True:
            found = await self._ranked(query, candidates, (selector(path),))
            kept = first_of_each(values_at(point.payload, path) for point in found)
            if len(kept) >= wanted or len(found) < candidates or candidates >= most:
                return [found[place] for place in kept[:wanted]]
            candidates = min(most, candidates * 4)

    async def _ranked(self, query: StoreQuery, candidates: int, fields: Sequence[str]) -> list[FoundPoint]:
        """Best first; at least `candidates` points, if there are that many. fields: of the payload."""
        smoothing = smoothing_of(query)
        [points] = await self._points(query.scope, [to_request(query, depth(query, candidates), 0, fields)])
        found = [FoundPoint(str(point.id), point.score, point.payload or {}) for point in points]
        if smoothing is None:
            return found
        vectors = await self._vectors(query.scope, [point.id for point in found[: smoothing.candidates]])
        order = smoothed([point.score for point in found], vectors, smoothing)
        return [replace(found[place], score=score) for place, score in order]

    async def _after_feedback(self, query: StoreQuery) -> StoreQuery:
        assert query.feedback is not None
        passages = query.feedback.passages
        first = await self._ranked(replace(query, diversity=None, smoothing=None), passages, ())
        vectors = await self._vectors(query.scope, [point.id for point in first[:passages]])
        return with_feedback(query, [vector for vector in vectors if vector is not None])

    async def _vectors(self, scope: Scope, ids: list[str]) -> list[Vector | None]:
        """The dense vector of each point, (dim,); None if the point was deleted in between."""
        records = await self._records(scope, ids, False, [DENSE])
        vectors = {
            str(record.id): np.asarray(record.vector[DENSE], np.float32)
            for record in records
            if isinstance(record.vector, dict)
        }
        return [vectors.get(id) for id in ids]

    async def _payloads(self, scope: Scope, ids: list[str]) -> dict[str, dict[str, object]]:
        return {str(record.id): record.payload or {} for record in await self._records(scope, ids, list(HIT_FIELDS))}

    async def _records(
        self, scope: Scope, ids: list[str], payload: bool | list[str], vectors: bool | list[str] = False
    ) -> list[models.Record]:
        if not ids:
            return []
        return await self._ask(
            self._client.retrieve,
            collection_name=physical_name(scope),
            ids=ids,
            with_payload=payload,
            with_vectors=vectors,
            consistency=self._consistency,
        )

    async def _points(
        self, scope: Scope, requests: Sequence[models.QueryRequest | None]
    ) -> list[list[models.ScoredPoint]]:
        """The points of each request, best first. A request that is None has no points."""
        asked = [request for request in requests if request is not None]
        answers = iter(
            await self._ask(
                self._client.query_batch_points,
                collection_name=physical_name(scope),
                requests=asked,
                consistency=self._consistency,
            )
            if asked
            else ()
        )
        return [[] if request is None else next(answers).points for request in requests]

    async def _facet(self, scope: Scope, path: str, passages: models.Filter) -> FacetCounts:
        """The counts of a facet. A server counts only fields with a payload index, so the first facet on a field
        creates its index, unless no passage has the field."""
        try:
            return await self._facet_counts(scope, path, passages)
        except InvalidInput:
            if not await self._has_field(scope, facet_path(path)):
                return {}
            await self._collections.index_facet(scope, facet_path(path))
            return await self._facet_counts(scope, path, passages)

    async def _has_field(self, scope: Scope, path: str) -> bool:
        """Whether any passage has a value at this path."""
        return await self.count(scope, to_filter({"must_not": [{"is_empty": {"key": path}}]}, PASSAGE)) > 0

    async def _facet_counts(self, scope: Scope, path: str, passages: models.Filter) -> FacetCounts:
        answer = await self._ask(
            self._client.facet,
            collection_name=physical_name(scope),
            key=facet_path(path),
            facet_filter=passages,
            limit=MAX_FACET_VALUES,
            exact=True,
            consistency=self._consistency,
        )
        return facet_counts(path, ((str(hit.value), hit.count) for hit in answer.hits))


def selector(path: str) -> str:
    """The payload selector that includes the path. A selector cannot name a place in a list, so it then selects the
    field that contains the list."""
    return path if "[" not in path else path.split(".", 1)[0].split("[", 1)[0]


async def value_or_fault(answer: Awaitable[T]) -> T | PlatformError:
    """The value, or the error if the query caused it. Raises Unavailable."""
    try:
        return await answer
    except Unavailable:
        raise
    except PlatformError as error:
        return error
