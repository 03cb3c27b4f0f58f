"""A search from request to answer: assign → cache → vectors → store → rerank (if the profile has a cross-encoder)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from serve_app.cache.entry import EntryKind
from serve_app.cache.keys import result_key
from serve_app.cache.tiered import MISS, CachedPayload, Tiered
from serve_app.errors import Conflict, PlatformError
from serve_app.ports import Reranker, SearchStore
from serve_app.query_types import StoreResult
from serve_app.search.content import decode_result, encode_result
from serve_app.search.release import Assignment, Release
from serve_app.search.request import SearchAnswer, SearchRequest
from serve_app.search.rerank import first_hits, hits_behind, ordered, page_of, require_rerankable, texts_of
from serve_app.search.retrieval import Retriever
from serve_app.types import Lane, Principal, Scope


@dataclass(frozen=True, slots=True)
class AssignedSearch:
    """A search that this process cannot answer at once, and the release that will answer it. scope: with the name of
    the release's index. version: the scope's before the search began, None if the store cannot tell without waiting.
    key: of the answer in the cache."""

    scope: Scope
    release: Release
    request: SearchRequest
    lane: Lane
    started_at_s: float
    version: bytes | None
    key: bytes | None


class Searcher:
    """Answers each search with the release that `assign` gives it. store: as the retriever's. rerankers: the loaded
    cross-encoders, by identity."""

    def __init__(
        self,
        retriever: Retriever,
        store: SearchStore,
        *,
        assign: Assignment,
        cache: Tiered,
        rerankers: Mapping[str, Reranker],
    ) -> None:
        self._retriever, self._store, self._assign = retriever, store, assign
        self._cache, self._rerankers = cache, rerankers

    async def search(
        self, principal: Principal, request: SearchRequest, lane: Lane = Lane.INTERACTIVE, sticky_key: str = ""
    ) -> SearchAnswer:
        """lane: of the embedding. A search joins an equal one under way only if that is in the same lane. Raises
        NotFound (no such collection), InvalidInput (profile, filter), Conflict, Overloaded, Unavailable."""
        begun = self.begin(principal, request, lane, sticky_key)
        return begun if isinstance(begun, SearchAnswer) else await self.finish(begun)

    def begin(
        self, principal: Principal, request: SearchRequest, lane: Lane = Lane.INTERACTIVE, sticky_key: str = ""
    ) -> SearchAnswer | AssignedSearch:
        """The answer if this process holds it, else what `finish` takes. Never blocks. Raises the error if the cache
        remembers one."""
        started_at_s = time.perf_counter()
        release = self._assign(principal, request.collection, sticky_key)
        scope, key = principal.scope(request.collection), None
        if release.index:
            scope = scope.at(release.index)
        version = self._store.version_now(scope)
        if version is not None:
            key = result_key(scope, request.canonical, release.key, version)
            found = self._cache.get_now(EntryKind.RESULT, key)
            if found is not None:
                return answer_of(found, started_at_s)
        return AssignedSearch(scope, release, request, lane, started_at_s, version, key)

    async def finish(self, search: AssignedSearch) -> SearchAnswer:
        """Call it without awaiting anything after `begin`, so that no answer is computed twice. Raises as `search`."""
        key, get = search.key, self._cache.compute_once
        if key is None:
            version = await self._store.version(search.scope)  # before the search, so that a later write makes it stale
            search, get = replace(search, version=version), self._cache.get_or_compute
            if version is None:  # it cannot join a search that began earlier, perhaps before an acknowledged write
                found = CachedPayload(await self._compute(search), MISS)
                return answer_of(found, search.started_at_s, is_cacheable=False)
            key = result_key(search.scope, search.request.canonical, search.release.key, version)
        found = await get(EntryKind.RESULT, key, partial(self._compute, search), search.lane)
        return answer_of(found, search.started_at_s)

    async def search_batch(
        self, principal: Principal, requests: Sequence[SearchRequest], sticky_key: str = ""
    ) -> list[SearchAnswer | PlatformError]:
        """One answer or error per request, in order; one that fails does not disturb the others."""
        answers = await asyncio.gather(
            *(self.search(principal, request, sticky_key=sticky_key) for request in requests), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, PlatformError):
                raise answer
        return answers  # type: ignore[return-value]  # narrowed by the loop above

    async def _compute(self, search: AssignedSearch) -> bytes:
        profile = search.request.profile or search.release.search.default_profile
        if profile in search.release.rerankers:
            require_rerankable(search.request, profile)
            return await self._reranked_page(replace(search, request=replace(search.request, profile=profile)), profile)
        return self._encoded(*await self._find(search, search.request), search.lane)

    async def _reranked_page(self, search: AssignedSearch, profile: str) -> bytes:
        """A page of the reranked list. The cache keeps the list's head, which all pages share."""
        request, candidates = search.request, search.release.search.profiles[profile].rerank_candidates
        first, behind = first_hits(request, candidates), hits_behind(request, candidates)
        if request == first:
            return await self._reranked(search, first, profile)
        head: StoreResult | None = None
        tail: StoreResult | None = None
        release = ""
        if behind is not None:
            tail, release = await self._find(search, behind)
        if request.offset < candidates:
            head, release_of_head = decode_result(await self._head(search, first, profile))
            if tail is not None and release_of_head != release:  # another index became active: no page mixes the two
                return await self._reranked_page(replace(search, version=None), profile)
            release = release_of_head
        return self._encoded(page_of(request, head, tail), release, search.lane)

    async def _head(self, search: AssignedSearch, first: SearchRequest, profile: str) -> bytes:
        work = partial(self._reranked, search, first, profile)
        if search.version is None:
            return await work()
        key = result_key(search.scope, first.canonical, search.release.key, search.version)
        return (await self._cache.get_or_compute(EntryKind.RESULT, key, work, search.lane)).payload

    async def _reranked(self, search: AssignedSearch, first: SearchRequest, profile: str) -> bytes:
        identity, lane = search.release.rerankers[profile], search.lane
        if (reranker := self._rerankers.get(identity)) is None:
            raise Conflict(f"cross-encoder {identity} of search profile {profile!r} is not loaded here: name another")
        found, release = await self._find(search, first)
        with self._retriever.stage("rerank", lane):
            scores = await reranker.score(first.query, texts_of(found.hits), lane)
        return self._encoded(ordered(found, scores), release, lane)

    async def _find(self, search: AssignedSearch, request: SearchRequest) -> tuple[StoreResult, str]:
        return await self._retriever.find(search.scope, search.release, request, search.lane)

    def _encoded(self, result: StoreResult, release: str, lane: Lane) -> bytes:
        with self._retriever.stage("serialise", lane):
            return encode_result(result, release)


def answer_of(found: CachedPayload, started_at_s: float, *, is_cacheable: bool = True) -> SearchAnswer:
    return SearchAnswer(found.payload, (time.perf_counter() - started_at_s) * 1e3, found.tier, is_cacheable)
