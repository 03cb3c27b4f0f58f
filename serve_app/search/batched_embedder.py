"""The micro-batched Embedder: many requests' texts in one call of the one behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np

from serve_app.flow.batcher import BatchLimits, MicroBatcher
from serve_app.ports import Embedder
from serve_app.settings import BatchingSettings, Settings
from serve_app.types import Embeddings, Lane, VectorSpace


class BatchedEmbedder:
    """An Embedder before one that is a process hop away. A call with many texts is cut, so that it shares what is
    behind with those that come after it; each lane has batches of its own, so that none waits for the other."""

    def __init__(self, embedder: Embedder, settings: BatchingSettings, concurrency: int = 1) -> None:
        """concurrency: batches of each lane under way at once."""
        self._embedder = embedder
        self._max_texts = settings.max_embed_texts
        limits = BatchLimits(
            max_items=settings.max_embed_texts,
            max_weight=settings.max_embed_chars,
            concurrency=concurrency,
            max_waiting=settings.max_waiting,
        )
        self._batchers: dict[Lane, MicroBatcher[Sequence[str], Embeddings]] = {
            lane: MicroBatcher(
                partial(self._embed_batch, lane), limits, weigh=lambda texts: sum(map(len, texts)), count=len
            )
            for lane in Lane
        }

    @property
    def space(self) -> VectorSpace:
        return self._embedder.space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """Raises Overloaded, EngineUnavailable. Of a long call that fails nothing goes on."""
        batcher = self._batchers[lane]
        parts = [texts[i : i + self._max_texts] for i in range(0, len(texts), self._max_texts)]
        if len(parts) == 1:
            return await batcher.submit(parts[0])
        tasks = [asyncio.create_task(batcher.submit(part)) for part in parts]
        try:
            return join(await asyncio.gather(*tasks), self.space.dim)
        finally:
            for task in tasks:  # what still waits after another part failed would be work for nobody
                task.cancel()

    async def _embed_batch(self, lane: Lane, requests: list[Sequence[str]]) -> list[Embeddings]:
        answer = await self._embedder.embed([text for texts in requests for text in texts], lane)
        bounds = np.cumsum([len(texts) for texts in requests])[:-1]
        vectors, tokens = np.split(answer.vectors, bounds), np.split(answer.tokens, bounds)
        return [Embeddings(v, t) for v, t in zip(vectors, tokens, strict=True)]


def join(parts: Sequence[Embeddings], dim: int) -> Embeddings:
    """One behind the other; no part gives an empty result of the right width."""
    if not parts:
        return Embeddings(np.empty((0, dim), np.float32), np.empty(0, np.int32))
    return Embeddings(np.concatenate([p.vectors for p in parts]), np.concatenate([p.tokens for p in parts]))


def embed_concurrency(settings: Settings) -> int:
    """Batches of each lane under way at once: one at work and one waiting per embedder keep a pool busy."""
    return settings.batching.embed_concurrency or 2 * settings.serving.embedder_max_replicas
