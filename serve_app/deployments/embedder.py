"""The pooled placement: the engine runs in its own autoscaled deployment, for GPUs and big models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app.deployments.metrics import start_export
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.errors import EngineUnavailable, Overloaded, PlatformError
from serve_app.settings import EmbeddingSettings
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, VectorSpace


class EmbedderDeployment:
    """The engine as a deployment. The constructor raises if the model cannot be loaded, so that a rollout stops.

    max_waiting_texts: limit for each lane; `embed` returns Overloaded beyond it."""

    def __init__(self, settings: EmbeddingSettings, data_dir: Path, max_waiting_texts: int) -> None:
        meter = Meter()
        self._embedder = LocalEmbedder(EmbeddingEngine.load(settings, data_dir), max_waiting_texts, meter)
        start_export(meter.samples)

    async def embed(self, texts: Sequence[str], lane: Lane) -> Embeddings | PlatformError:
        """Returns errors as values, because Ray would wrap raised ones."""
        try:
            return await self._embedder.embed(texts, lane)
        except PlatformError as error:
            return error.with_traceback(None)

    async def check_health(self) -> None:
        await self._embedder.check()


class PooledEmbedder:
    """Implements `ports.Embedder` in the gateway, by calls to the pool."""

    def __init__(self, handle: DeploymentHandle[Any], space: VectorSpace, timeout_s: float) -> None:
        self._handle = handle
        self._space = space
        self._timeout_s = timeout_s

    @property
    def space(self) -> VectorSpace:
        return self._space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        try:
            async with asyncio.timeout(self._timeout_s):  # Serve's router waits without limit if no replica is free
                answer = await self._ask(list(texts), lane)
        except TimeoutError:
            raise EngineUnavailable(f"no embedder answered within {self._timeout_s:g} s") from None
        except BackPressureError as error:
            raise Overloaded("all embedders are busy; try again later") from error
        except (RayError, RayServeException) as error:
            raise EngineUnavailable(f"the embedder's replica failed: {error}") from error
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    async def _ask(self, texts: list[str], lane: Lane) -> Embeddings | PlatformError:
        """Call the pool, once more if the replica dies. Embedding twice does no harm."""
        try:
            return await self._handle.embed.remote(texts, lane)
        except RayActorError:
            return await self._handle.embed.remote(texts, lane)
