"""The engine in this process, seen from async code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import EngineUnavailable
from serve_app.types import Embeddings, VectorSpace


class LocalEmbedder:
    """Implements `ports.Embedder`. The engine computes in one thread of its own, so the event loop stays free; calls
    wait for each other (batch before, not here)."""

    def __init__(self, engine: EmbeddingEngine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._closed = False

    @property
    def space(self) -> VectorSpace:
        return self._engine.space

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        if self._closed:
            raise EngineUnavailable("the embedder is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.embed, texts)

    def close(self) -> None:
        """Waits for the call that is running; those that wait are cancelled. Idempotent."""
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
