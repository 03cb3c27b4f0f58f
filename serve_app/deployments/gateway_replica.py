"""What a gateway replica is made of. Wiring only; the work is in the domain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.api.app import build_app
from serve_app.api.services import wire
from serve_app.cache.build import open_cache
from serve_app.deployments.embedder import PooledEmbedder
from serve_app.deployments.metrics import start_export
from serve_app.deployments.store import connect_store
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.ports import ServedModel
from serve_app.search.batched_embedder import BatchedEmbedder, embed_concurrency
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.telemetry.meter import Meter


class GatewayReplica:
    """Raises at construction if an engine cannot be loaded.

    pools: handles of the embedders of each model (EmbeddingSettings.of_each) where placement is `pooled`; none loads
    the engines into this replica. Cross-encoders are in this replica either way.
    """

    def __init__(self, settings: Settings, pools: Sequence[DeploymentHandle[Any]]) -> None:
        meter = Meter()
        self._local: list[LocalEmbedder] = []
        main, *also = (
            [self._pooled(settings, *each) for each in zip(settings.embedding.of_each, pools, strict=True)]
            if pools
            else [self._loaded(settings, each, meter) for each in settings.embedding.of_each]
        )
        rerankers = load_rerankers(settings)
        self._rerankers = set(rerankers.values())
        store = connect_store(settings)
        cache = open_cache(settings.cache, settings.with_secrets().redis, settings.data_dir, meter)
        self._embedders = [model.embedder for model in (main, *also)]
        self._services = wire(
            settings,
            embedder=main.embedder,
            tokenizer=main.tokenizer,
            sparse=Bm25SparseEncoder(),
            store=store,
            precision=main.precision,
            cache=cache,
            checks={
                "engine": self._check_engine,
                "store": store.check,
                **{f"reranker of profile {profile}": one.check for profile, one in rerankers.items()},
            },
            meter=meter,
            also=also,
            rerankers=rerankers,
        )
        start_export(meter.samples)

    def _loaded(self, settings: Settings, model: EmbeddingSettings, meter: Meter) -> ServedModel:
        engine = EmbeddingEngine.load(model, settings.data_dir)
        embedder = LocalEmbedder(engine, settings.batching.max_waiting, meter)
        self._local.append(embedder)
        return ServedModel(embedder, engine.tokenizer, engine.precision)

    def _pooled(self, settings: Settings, model: EmbeddingSettings, pool: DeploymentHandle[Any]) -> ServedModel:
        resolved = resolve_model(model, settings.data_dir)
        pooled = PooledEmbedder(pool, resolved.space, settings.api.request_timeout_s)
        embedder = BatchedEmbedder(pooled, settings.batching, embed_concurrency(settings))
        return ServedModel(embedder, load_tokenizer(resolved), model.precision)

    def app(self) -> Any:
        return build_app(self._services)

    async def _check_engine(self) -> None:
        if self._local:
            await self.check_health()
        else:
            await asyncio.gather(*(embedder.embed(["health"]) for embedder in self._embedders))

    async def check_health(self) -> None:
        """Engines and cross-encoders are the replica's own and a new replica would help; the store is not (a dead store
        must not take every gateway with it): `/health/ready` tells of that one."""
        for embedder in self._local:
            await embedder.check()
        for reranker in self._rerankers:
            await reranker.check()
