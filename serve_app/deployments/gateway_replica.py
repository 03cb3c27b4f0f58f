"""What a gateway replica is made of. Wiring only; the work is in the domain."""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.api.app import build_app
from serve_app.api.services import wire
from serve_app.cache.build import open_cache
from serve_app.deployments.embedder import PooledEmbedder
from serve_app.deployments.metrics import cache_samples, prefetch_samples, start_export
from serve_app.deployments.store import connect_store
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.ports import Embedder
from serve_app.search.embedder import BatchedEmbedder, embed_concurrency
from serve_app.settings import Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.telemetry.meter import Meter


class GatewayReplica:
    """Raises at construction if an engine cannot be loaded.

    pool: the embedders' handle where placement is `pooled`; None loads the engine into this replica. Cross-encoders are
    in this replica either way.
    """

    def __init__(self, settings: Settings, pool: DeploymentHandle[Any] | None) -> None:
        self._local: LocalEmbedder | None = None
        embedder: Embedder
        precision: str
        meter = Meter()
        if pool is None:
            engine = EmbeddingEngine.load(settings.embedding, settings.data_dir)
            embedder = self._local = LocalEmbedder(engine, settings.batching.max_waiting, meter)
            tokenizer, precision = engine.tokenizer, engine.precision
        else:
            model = resolve_model(settings.embedding, settings.data_dir)
            pooled = PooledEmbedder(pool, model.space, settings.api.request_timeout_s)
            embedder = BatchedEmbedder(pooled, settings.batching, embed_concurrency(settings))
            tokenizer, precision = load_tokenizer(model), settings.embedding.precision
        rerankers = load_rerankers(settings)
        self._rerankers = set(rerankers.values())
        store = connect_store(settings)
        cache = open_cache(settings.cache, settings.with_secrets().redis, settings.data_dir)
        self._embedder = embedder
        self._services = wire(
            settings,
            embedder=embedder,
            tokenizer=tokenizer,
            sparse=Bm25SparseEncoder(),
            store=store,
            precision=precision,
            cache=cache,
            checks={
                "engine": self._check_engine,
                "store": store.check,
                **{f"reranker of profile {profile}": one.check for profile, one in rerankers.items()},
            },
            meter=meter,
            rerankers=rerankers,
        )
        usefulness = self._services.prefetcher.usefulness
        start_export(meter.samples, lambda: cache_samples(cache), lambda: prefetch_samples(usefulness))

    def app(self) -> Any:
        return build_app(self._services)

    async def _check_engine(self) -> None:
        if self._local is not None:
            await self._local.check()
        else:
            await self._embedder.embed(["health"])

    async def check_health(self) -> None:
        """Engine and cross-encoders are the replica's own and a new replica would help; the store is not (a dead store
        must not take every gateway with it): `/health/ready` tells of that one."""
        if self._local is not None:
            await self._local.check()
        for reranker in self._rerankers:
            await reranker.check()
