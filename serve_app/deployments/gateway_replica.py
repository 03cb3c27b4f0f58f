"""What a gateway replica is made of. Wiring only; the work is in the domain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.api.app import build_app
from serve_app.api.services import wire
from serve_app.assembly import assemble, load_model
from serve_app.cache.build import open_cache
from serve_app.deployments.embedder import PooledEmbedder
from serve_app.deployments.metrics import start_export
from serve_app.deployments.store import connect_store
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.ports import ServedModel
from serve_app.search.batched_embedder import BatchedEmbedder, embed_concurrency
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.telemetry.meter import Meter


class GatewayReplica:
    """Raises at construction if an engine cannot be loaded.

    pools: handles of the embedders of each model (EmbeddingSettings.of_each) where placement is `pooled`; none loads
    the engines into this replica. Cross-encoders are in this replica either way.
    """

    def __init__(self, settings: Settings, pools: Sequence[DeploymentHandle[Any]]) -> None:
        meter = Meter()
        models = (
            [pooled_model(settings, *each) for each in zip(settings.embedding.of_each, pools, strict=True)]
            if pools
            else [load_model(settings, each, meter) for each in settings.embedding.of_each]
        )
        self._embedders = [model.embedder for model in models]
        rerankers = load_rerankers(settings)
        self._rerankers = set(rerankers.values())
        store = connect_store(settings)
        cache = open_cache(settings.cache, settings.with_secrets().redis, settings.data_dir, meter)
        checks = {
            "engine": self._check_engine,
            "store": store.check,
            **{f"reranker of profile {profile}": one.check for profile, one in rerankers.items()},
        }
        self._services = wire(assemble(settings, store, models, rerankers=rerankers, cache=cache, meter=meter), checks)
        start_export(meter.samples)

    def app(self) -> Any:
        return build_app(self._services)

    async def _check_engine(self) -> None:
        await asyncio.gather(
            *(each.check() if isinstance(each, LocalEmbedder) else each.embed(["health"]) for each in self._embedders)
        )

    async def check_health(self) -> None:
        """Serve replaces a replica that fails this check, which helps only if the fault is the replica's own: in its
        engines or cross-encoders. A store or a pool that is down must not end every gateway; `/health/ready` reports
        it."""
        for embedder in self._embedders:
            if isinstance(embedder, LocalEmbedder):
                await embedder.check()
        for reranker in self._rerankers:
            await reranker.check()


def pooled_model(settings: Settings, model: EmbeddingSettings, pool: DeploymentHandle[Any]) -> ServedModel:
    resolved = resolve_model(model, settings.data_dir)
    pooled = PooledEmbedder(pool, resolved.space, settings.api.request_timeout_s)
    embedder = BatchedEmbedder(pooled, settings.batching, embed_concurrency(settings))
    return ServedModel(embedder, load_tokenizer(resolved), model.precision)
