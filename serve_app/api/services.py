"""What a replica has, handed to `build_app` once. Deployments wire it; the API only calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from serve_app.api.schemas.search import SearchBody
from serve_app.cache.tiered import Tiered
from serve_app.documents.indexing import Indexer
from serve_app.flow.recent import Recent
from serve_app.ports import (
    CollectionStore,
    DocumentStore,
    Embedder,
    Reranker,
    ServedModel,
    SparseEncoder,
    Tokenizer,
    VectorStore,
)
from serve_app.search.cached_embedder import CachedEmbedder
from serve_app.search.prefetch.prefetcher import Prefetcher
from serve_app.search.release import Release
from serve_app.search.request import SearchRequest
from serve_app.search.searcher import QueryModel, Searcher
from serve_app.settings import ApiSettings, Settings
from serve_app.telemetry.meter import Meter
from serve_app.types import Scope

REMEMBERED_BODIES = 2_048
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Services:
    """embedder: batches what is asked at once. models: ids that `/v1/embeddings` accepts, the answer's own one first;
    the part behind an id's last slash is accepted too. checks: by name, for `/health/ready`; each raises if its part
    cannot work, and is given up after `settings.health_timeout_s`. asked: bodies of searches, as they were read."""

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
    asked: Recent[tuple[Scope, bytes], tuple[SearchBody, SearchRequest]] = field(
        default_factory=lambda: Recent(REMEMBERED_BODIES)
    )


def wire(
    settings: Settings,
    *,
    embedder: Embedder,
    tokenizer: Tokenizer,
    sparse: SparseEncoder,
    store: VectorStore,
    precision: str,
    cache: Tiered,
    checks: Mapping[str, Check],
    meter: Meter | None = None,
    also: Sequence[ServedModel] = (),
    rerankers: Mapping[str, Reranker] | None = None,
) -> Services:
    """The replica's services around its parts. embedder: one that batches what uploads, searches and `/v1/embeddings`
    ask at once. precision: see Release. also: models of collections that are not of the embedder's space. rerankers: of
    the search profiles that have one."""
    engine = settings.embedding.engine
    embedder = CachedEmbedder(embedder, cache, f"{engine} {precision}")
    also = [
        replace(model, embedder=CachedEmbedder(model.embedder, cache, f"{engine} {model.precision}")) for model in also
    ]
    meter = meter or Meter()
    searcher = Searcher(
        embedder=embedder,
        sparse=sparse,
        store=store,
        search=settings.search,
        batching=settings.batching,
        release=Release.of(settings, embedder.space, precision, rerankers).name,
        cache=cache,
        meter=meter,
        also=[
            QueryModel(model.embedder, Release.of(settings, model.embedder.space, model.precision, rerankers).name)
            for model in also
        ],
        rerankers=rerankers,
    )
    return Services(
        meter=meter,
        settings=settings.api,
        models=(settings.embedding.model,),
        embedder=embedder,
        sparse=sparse,
        documents=store,
        collections=store,
        cache=cache,
        searcher=searcher,
        prefetcher=Prefetcher(searcher, settings.prefetch, meter),
        indexer=Indexer(
            tokenizer=tokenizer,
            chunking=settings.chunking,
            embedder=embedder,
            sparse=sparse,
            store=store,
            also=also,
        ),
        checks=checks,
    )
