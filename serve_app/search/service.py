"""A search from request to answer: profile → vectors (micro-batched) → store.query_batch (micro-batched) → answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from serve_app.errors import InvalidInput, PlatformError
from serve_app.ports import Embedder, SparseEncoder, VectorStore
from serve_app.search.batcher import BatchLimits, MicroBatcher
from serve_app.search.request import SearchAnswer, SearchMode, SearchRequest
from serve_app.settings import BatchingSettings, SearchProfile, SearchSettings
from serve_app.types import Principal, StoreQuery, StoreResult


class Searcher:
    """Answers searches. `embedder` batches what is asked at once: it is called once per search."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        sparse: SparseEncoder,
        store: VectorStore,
        search: SearchSettings,
        batching: BatchingSettings,
        release: str,
    ) -> None:
        self._embedder = embedder
        self._sparse = sparse
        self._search = search
        self._release = release
        self._queries: MicroBatcher[StoreQuery, StoreResult] = MicroBatcher(
            store.query_batch,
            BatchLimits(
                max_items=batching.max_queries,
                max_weight=batching.max_queries,
                concurrency=batching.query_concurrency,
                max_waiting=batching.max_waiting,
            ),
        )

    async def search(self, principal: Principal, request: SearchRequest) -> SearchAnswer:
        """Raises NotFound (no such collection), InvalidInput (profile, filter), Conflict, Overloaded, Unavailable."""
        started_at = time.perf_counter()
        query = await self._to_store_query(principal, request)
        result = await self._queries.submit(query)
        return SearchAnswer(
            hits=result.hits,
            facets=result.facets,
            total=result.total,
            release=self._release,
            took_ms=(time.perf_counter() - started_at) * 1e3,
        )

    async def search_batch(
        self, principal: Principal, requests: Sequence[SearchRequest]
    ) -> list[SearchAnswer | PlatformError]:
        """One answer or error per request, in order; one that fails does not disturb the others."""
        answers = await asyncio.gather(
            *(self.search(principal, request) for request in requests), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, PlatformError):
                raise answer
        return answers  # type: ignore[return-value]  # narrowed by the loop above

    async def _to_store_query(self, principal: Principal, request: SearchRequest) -> StoreQuery:
        profile = self._profile(request.profile)
        dense = sparse = None
        if request.mode is not SearchMode.SPARSE:
            dense = (await self._embedder.embed([request.query])).vectors[0]
        if request.mode is not SearchMode.DENSE:
            sparse = self._sparse.encode_query(request.query)
        return StoreQuery(
            scope=principal.scope(request.collection),
            space=self._embedder.space,
            dense=dense,
            sparse=sparse,
            limit=request.limit,
            offset=request.offset,
            filter=request.filter,
            fusion=profile.to_fusion(),
            prefetch=profile.prefetch,
            hnsw_ef=profile.hnsw_ef,
            group_by=request.group_by,
            facets=request.facets,
            diversity=request.diversity,
        )

    def _profile(self, name: str | None) -> SearchProfile:
        name = name or self._search.default_profile
        try:
            return self._search.profiles[name]
        except KeyError:
            known = ", ".join(sorted(self._search.profiles))
            raise InvalidInput(f"{name[:80]!r} is not a search profile; there are: {known}") from None
