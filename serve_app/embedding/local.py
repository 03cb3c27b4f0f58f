"""An async interface to an engine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding

from serve_app.embedding.engine import EmbeddingEngine, require_unit_length
from serve_app.embedding.passes import Passes
from serve_app.telemetry.catalogue.requests import STAGE_SECONDS
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, VectorSpace

CHARS_ON_THE_LOOP = 4_000  # tokenised on the event loop (about 1 ms); longer input goes to a thread


class LocalEmbedder:
    """Implements `ports.Embedder`. The engine computes in its own threads, so the event loop stays free."""

    def __init__(self, engine: EmbeddingEngine, max_waiting_texts: int = 4_096, meter: Meter | None = None) -> None:
        """max_waiting_texts: limit for each lane, so that a full bulk lane never refuses a search."""
        self._engine = engine
        self._meter = meter or Meter()
        self._passes = Passes(engine, max_waiting_texts, self._meter)

    @property
    def space(self) -> VectorSpace:
        return self._engine.space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """A call with more texts than may wait is accepted if nothing else waits in its lane. Raises Overloaded,
        EngineUnavailable."""
        return await self._embed(texts, lane, urgent=False)

    async def check(self) -> None:
        """Embed one short text ahead of all waiting work. Raises EngineUnavailable if its vector is wrong."""
        require_unit_length(await self._embed(["health"], Lane.INTERACTIVE, urgent=True), self.space.model)

    def close(self) -> None:
        """Wait for running passes; waiting calls fail with EngineUnavailable. Idempotent."""
        self._passes.close()

    async def _embed(self, texts: Sequence[str], lane: Lane, *, urgent: bool) -> Embeddings:
        with self._meter.time(STAGE_SECONDS, stage="tokenize", lane=lane):
            encodings = await self._encode(texts)
        tokens = np.asarray([len(encoding) for encoding in encodings], dtype=np.int32)
        return Embeddings(await self._passes.infer(encodings, lane, urgent=urgent), tokens)

    async def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        if sum(map(len, texts)) <= CHARS_ON_THE_LOOP:
            return self._engine.tokenizer.encode(texts)
        return await asyncio.to_thread(self._engine.tokenizer.encode, texts)
