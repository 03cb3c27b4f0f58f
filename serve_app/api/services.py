"""What a replica has, handed to `build_app` once. Deployments wire it; the API only calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from serve_app.api.schemas.search import SearchBody
from serve_app.assembly import Assembly
from serve_app.cache.tiered import Tiered
from serve_app.documents.indexing import Indexer
from serve_app.flow.recent import Recent
from serve_app.ports import CollectionStore, DocumentStore, Embedder, SparseEncoder
from serve_app.search.prefetch.prefetcher import Prefetcher
from serve_app.search.request import SearchRequest
from serve_app.search.searcher import Searcher
from serve_app.settings import ApiSettings
from serve_app.telemetry.meter import Meter
from serve_app.types import Scope

REMEMBERED_BODIES = 2_048
Check = Callable[[], Awaitable[None]]
AskedSearch = tuple[SearchBody, SearchRequest]


@dataclass(frozen=True)
class Services:
    """embedder: of `/v1/embeddings`. models: the ids that this route accepts; its answer names the first one. The part
    of an id behind its last slash is accepted too. checks: by name, for `/health/ready`. Each raises if its part cannot
    work, and is given up after `settings.health_timeout_s`. asked: the searches of recent bodies."""

    embedder: Embedder
    sparse: SparseEncoder
    documents: DocumentStore
    collections: CollectionStore
    cache: Tiered
    searcher: Searcher
    prefetcher: Prefetcher
    indexer: Indexer
    settings: ApiSettings
    models: tuple[str, ...]
    checks: Mapping[str, Check] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    asked: Recent[tuple[Scope, bytes], AskedSearch] = field(default_factory=lambda: Recent(REMEMBERED_BODIES))


def wire(assembly: Assembly, checks: Mapping[str, Check]) -> Services:
    settings, searcher = assembly.settings, assembly.searcher()
    return Services(
        embedder=assembly.first_model.embedder,
        sparse=assembly.sparse,
        documents=assembly.store,
        collections=assembly.store,
        cache=assembly.cache,
        searcher=searcher,
        prefetcher=Prefetcher(searcher, settings.prefetch, assembly.meter),
        indexer=assembly.indexer(),
        settings=settings.api,
        models=(settings.embedding.model,),
        checks=checks,
        meter=assembly.meter,
    )
