"""Finding passages: the query's vectors (batched), then `store.query_batch` (micro-batched)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from serve_app.errors import Conflict, InvalidInput, PlatformError
from serve_app.flow.batcher import BatchLimits, MicroBatcher
from serve_app.flow.recent import Recent
from serve_app.ports import SearchStore, ServedModel, SparseEncoder
from serve_app.query_types import StoreQuery, StoreResult
from serve_app.search.release import Release
from serve_app.search.request import SearchMode, SearchRequest
from serve_app.settings import BatchingSettings, SearchProfile, SearchSettings
from serve_app.telemetry.catalogue.requests import STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from serve_app.types import Lane, Scope, VectorSpace, not_served

QueryKey = tuple[Scope, bytes, str]  # collection and index, canonical request, key of the release
MAX_KNOWN = 10_000  # collections whose active release is remembered


class Retriever:
    """models: all that are loaded. Their embedders batch what is asked at the same time."""

    def __init__(
        self,
        models: Mapping[VectorSpace, ServedModel],
        sparse: SparseEncoder,
        store: SearchStore,
        batching: BatchingSettings,
        meter: Meter,
    ) -> None:
        self._models = models
        self._sparse = sparse
        self._store = store
        self._meter = meter
        self._active: Recent[tuple[Scope, str], Release] = Recent(MAX_KNOWN)
        self._queries: MicroBatcher[tuple[QueryKey, StoreQuery], StoreResult] = MicroBatcher(
            self._query_each_once,
            BatchLimits(
                max_items=batching.max_queries,
                max_weight=batching.max_queries,
                concurrency=batching.query_concurrency,
                max_waiting=batching.max_waiting,
            ),
        )

    async def find(self, scope: Scope, release: Release, request: SearchRequest, lane: Lane) -> tuple[StoreResult, str]:
        """Also returns the name of the release that answered. scope: with the name of the release's index.

        For the active index, the query is embedded with the model that this index had at the last search. If it has
        another model by now, the store refuses the query, and it is embedded again with that model. Raises Conflict if
        the model of the index is not loaded."""
        if release.index:
            result = await self._query(scope, release, request, lane)
            return result, release.name
        active = self._active.get((scope, release.key)) or release
        try:
            result = await self._query(scope, active, request, lane)
        except Conflict:
            active = await self._follow(scope, release)
            result = await self._query(scope, active, request, lane)
        return result, active.name_at(result.index)

    def stage(self, stage: str, lane: Lane) -> AbstractContextManager[None]:
        """Measures interactive searches only."""
        return self._meter.time(STAGE_SECONDS, stage=stage, lane=lane) if lane is Lane.INTERACTIVE else nullcontext()

    async def _follow(self, collection: Scope, release: Release) -> Release:
        """The release with the model of the active index."""
        space = (await self._store.active_index(collection)).recipe.space
        active = replace(release, space=space, precision=self._model(space).precision)
        self._active.put((collection, release.key), active)
        return active

    def _model(self, space: VectorSpace) -> ServedModel:
        if (model := self._models.get(space)) is None:
            raise not_served(space)
        return model

    async def _query(self, scope: Scope, release: Release, request: SearchRequest, lane: Lane) -> StoreResult:
        profile, embedder = profile_of(release.search, request.profile), self._model(release.space).embedder
        dense = sparse = None
        if request.mode is not SearchMode.SPARSE:
            dense = (await embedder.embed([request.query], lane)).vectors[0]
        if request.mode is not SearchMode.DENSE:
            sparse = self._sparse.encode_query(request.query)
        query = StoreQuery(
            scope=scope,
            space=release.space,
            dense=dense,
            sparse=sparse,
            limit=request.limit,
            offset=request.offset,
            filter=request.filter,
            fusion=profile.to_fusion(),
            candidates=profile.candidates,
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
        with self.stage("search", lane):
            return await self._queries.submit(((scope, request.canonical, release.key), query))

    async def _query_each_once(self, batch: Sequence[tuple[QueryKey, StoreQuery]]) -> list[StoreResult | PlatformError]:
        """Equal queries of a batch are one query. All of them were asked before it begins, so it sees every write that
        was acknowledged to any of the callers."""
        queries = dict(batch)
        answers = dict(zip(queries, await self._store.query_batch([*queries.values()]), strict=True))
        return [answers[key] for key, _ in batch]


def profile_of(search: SearchSettings, name: str | None) -> SearchProfile:
    """Raises InvalidInput."""
    name = name or search.default_profile
    try:
        return search.profiles[name]
    except KeyError:
        known = ", ".join(sorted(search.profiles))
        raise InvalidInput(f"{name[:80]!r} is not a search profile; there are: {known}") from None
