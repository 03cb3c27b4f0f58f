"""A search from request to answer: cache → profile → vectors (batched) → store.query_batch (micro-batched) → rerank,
where the profile has a cross-encoder → answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from serve_app.cache.entry import EntryKind
from serve_app.cache.keys import result_key
from serve_app.cache.tiered import MISS, CachedPayload, Tiered
from serve_app.errors import ConfigurationError, Conflict, InvalidInput, PlatformError
from serve_app.flow.batcher import BatchLimits, MicroBatcher
from serve_app.ports import Embedder, Reranker, SearchStore, SparseEncoder
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.search.content import decode_result, encode_result
from serve_app.search.release import release_at
from serve_app.search.request import SearchAnswer, SearchMode, SearchRequest
from serve_app.search.rerank import first_hits, hits_behind, ordered, page_of, require_rerankable, texts_of
from serve_app.settings import BatchingSettings, SearchProfile, SearchSettings
from serve_app.telemetry.catalogue.requests import STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Principal, Scope, VectorSpace, not_served

Asked = tuple[Scope, bytes, VectorSpace]  # with a request in its canonical form
MAX_KNOWN = 10_000  # collections of other models that are remembered


@dataclass(frozen=True, slots=True)
class QueryModel:
    """What a query's vector is made with, and the name of the release that it is part of."""

    embedder: Embedder
    release: str


class Searcher:
    """Answers searches. `embedder` batches what is asked at once: it is called once per search. also: models of
    collections that are not of the embedder's space. rerankers: by profile; raises ConfigurationError if one with a
    `rerank_model` has none."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        sparse: SparseEncoder,
        store: SearchStore,
        search: SearchSettings,
        batching: BatchingSettings,
        release: str,
        cache: Tiered,
        meter: Meter | None = None,
        also: Sequence[QueryModel] = (),
        rerankers: Mapping[str, Reranker] | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self._main = QueryModel(embedder, release)
        self._models = {model.embedder.space: model for model in (self._main, *also)}
        self._known: dict[Scope, QueryModel] = {}  # of collections that are not of the main one, when last asked
        self._rerankers = rerankers or {}
        for name, profile in search.profiles.items():
            if profile.rerank_model is not None and name not in self._rerankers:
                raise ConfigurationError(f"rerank_model of search profile {name!r} is not loaded")
        self._sparse = sparse
        self._search = search
        self._release = release
        self._store = store
        self._cache = cache
        self._queries: MicroBatcher[tuple[Asked, StoreQuery], StoreResult] = MicroBatcher(
            self._query_each_once,
            BatchLimits(
                max_items=batching.max_queries,
                max_weight=batching.max_queries,
                concurrency=batching.query_concurrency,
                max_waiting=batching.max_waiting,
            ),
        )

    async def search(self, principal: Principal, request: SearchRequest, lane: Lane = Lane.INTERACTIVE) -> SearchAnswer:
        """lane: of the embedding; a search joins only one that is under way in its lane. Raises NotFound (no such
        collection), InvalidInput (profile, filter), Conflict, Overloaded, Unavailable."""
        started_at = time.perf_counter()
        scope = principal.scope(request.collection)
        version = await self._store.version(scope)  # before the search, so that a write meanwhile makes it stale
        if version is None:  # nor may it join a search under way, which may have begun before an acknowledged write
            found = CachedPayload(await self._work(scope, request, lane, version)(), MISS)
        else:
            key = result_key(scope, request.canonical, self._release, version)
            work = self._work(scope, request, lane, version)
            found = await self._cache.get_or_compute(EntryKind.RESULT, key, work, lane)
        return self._answer(found, started_at, is_cacheable=version is not None)

    def kept(self, principal: Principal, request: SearchRequest) -> SearchAnswer | None:
        """The answer that is in this process already, or the error that is remembered. Waits for nothing; None says
        nothing, not even that `search` will not find it at once."""
        started_at = time.perf_counter()
        scope = principal.scope(request.collection)
        version = self._store.version_now(scope)
        if version is None:
            return None
        found = self._cache.get_now(EntryKind.RESULT, result_key(scope, request.canonical, self._release, version))
        return None if found is None else self._answer(found, started_at)

    def _answer(self, found: CachedPayload, started_at: float, *, is_cacheable: bool = True) -> SearchAnswer:
        took_ms = (time.perf_counter() - started_at) * 1e3
        return SearchAnswer(found.payload, took_ms, found.tier, is_cacheable)

    def _work(
        self, scope: Scope, request: SearchRequest, lane: Lane, version: bytes | None
    ) -> Callable[[], Coroutine[Any, Any, bytes]]:
        profile = request.profile or self._search.default_profile
        if profile not in self._rerankers:
            return partial(self._compute, scope, request, lane)
        return partial(self._compute_reranked, scope, replace(request, profile=profile), lane, version, profile)

    async def _compute(self, scope: Scope, request: SearchRequest, lane: Lane) -> bytes:
        return self._encoded(*await self._find(scope, request, lane), lane)

    async def _find(self, scope: Scope, request: SearchRequest, lane: Lane) -> tuple[StoreResult, str]:
        """And the name of the release that found it. With the model that the collection had when last asked; if it has
        another one by now, the search is made anew with that one, so that no search asks which it is."""
        model = self._known.get(scope, self._main)
        try:
            result = await self._result(model, scope, request, lane)
        except Conflict:
            model = await self._look_up(scope)
            result = await self._result(model, scope, request, lane)
        return result, release_at(model.release, result.index)

    def _encoded(self, result: StoreResult, release: str, lane: Lane) -> bytes:
        with self._stage("serialise", lane):
            return encode_result(result, release)

    async def _result(self, model: QueryModel, scope: Scope, request: SearchRequest, lane: Lane) -> StoreResult:
        query = await self._to_store_query(model.embedder, scope, request, lane)
        with self._stage("search", lane):
            return await self._queries.submit(((scope, request.canonical, query.space), query))

    async def _look_up(self, scope: Scope) -> QueryModel:
        """Raises Conflict if the collection's model is not loaded here."""
        space = (await self._store.active_index(scope)).recipe.space
        if (model := self._models.get(space)) is None:
            raise not_served(space)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[scope] = model
        return model

    async def _compute_reranked(
        self, scope: Scope, request: SearchRequest, lane: Lane, version: bytes | None, profile: str
    ) -> bytes:
        """A page of the one ranking that all pages are of, which is kept beside them."""
        require_rerankable(request, profile)
        candidates = self._search.profiles[profile].rerank_candidates
        first, behind = first_hits(request, candidates), hits_behind(request, candidates)
        if request == first:
            return await self._rerank(scope, first, lane, profile)
        head: StoreResult | None = None
        tail: StoreResult | None = None
        release = ""
        if behind is not None:
            tail, release = await self._find(scope, behind, lane)
        if request.offset < candidates:
            head, of_head = decode_result(await self._first(scope, first, lane, version, profile))
            if tail is not None and of_head != release:  # the collection has another index since: no page is of both
                return await self._compute_reranked(scope, request, lane, None, profile)
            release = of_head
        return self._encoded(page_of(request, head, tail), release, lane)

    async def _first(
        self, scope: Scope, first: SearchRequest, lane: Lane, version: bytes | None, profile: str
    ) -> bytes:
        work = partial(self._rerank, scope, first, lane, profile)
        if version is None:
            return await work()
        key = result_key(scope, first.canonical, self._release, version)
        return (await self._cache.get_or_compute(EntryKind.RESULT, key, work, lane)).payload

    async def _rerank(self, scope: Scope, first: SearchRequest, lane: Lane, profile: str) -> bytes:
        found, release = await self._find(scope, first, lane)
        with self._stage("rerank", lane):
            scores = await self._rerankers[profile].score(first.query, texts_of(found.hits), lane)
        return self._encoded(ordered(found, scores), release, lane)

    def _stage(self, stage: str, lane: Lane) -> AbstractContextManager[None]:
        """Measures what somebody waits for, and that alone."""
        return self._meter.time(STAGE_SECONDS, stage=stage, lane=lane) if lane is Lane.INTERACTIVE else nullcontext()

    async def _query_each_once(self, batch: Sequence[tuple[Asked, StoreQuery]]) -> list[StoreResult | PlatformError]:
        """Equal ones are one query: all were asked before it begins, so it finds every write acknowledged to them."""
        queries = dict(batch)
        answers = dict(zip(queries, await self._store.query_batch([*queries.values()]), strict=True))
        return [answers[asked] for asked, _ in batch]

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

    async def _to_store_query(self, embedder: Embedder, scope: Scope, request: SearchRequest, lane: Lane) -> StoreQuery:
        profile = self._profile(request.profile)
        dense = sparse = None
        if request.mode is not SearchMode.SPARSE:
            dense = (await embedder.embed([request.query], lane)).vectors[0]
        if request.mode is not SearchMode.DENSE:
            sparse = self._sparse.encode_query(request.query)
        return StoreQuery(
            scope=scope,
            space=embedder.space,
            dense=dense,
            sparse=sparse,
            limit=request.limit,
            offset=request.offset,
            filter=request.filter,
            fusion=profile.to_fusion(),
            prefetch=profile.prefetch,
            hnsw_ef=profile.hnsw_ef,
            exact=profile.exact,
            rescore=profile.rescore,
            oversampling=profile.oversampling,
            group_by=request.group_by,
            facets=request.facets,
            diversity=request.diversity,
            feedback=profile.to_feedback(),
            smoothing=profile.to_smoothing(),
        )

    def _profile(self, name: str | None) -> SearchProfile:
        name = name or self._search.default_profile
        try:
            return self._search.profiles[name]
        except KeyError:
            known = ", ".join(sorted(self._search.profiles))
            raise InvalidInput(f"{name[:80]!r} is not a search profile; there are: {known}") from None
