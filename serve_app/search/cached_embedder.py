"""The cached Embedder: a text whose vector is kept is not computed again, whoever asks for it and for what.

Calls of one text (every search) share its computation while it is under way, those of a lane. A call of many texts
shares with none: two that have a text in common would fail together and wait for each other's texts, and a search would
be refused for what a large call brought along. So texts that such calls have in common are computed by each, if asked
for at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from serve_app.cache.entry import EntryKind
from serve_app.cache.keys import embedding_key
from serve_app.cache.tiered import Tiered
from serve_app.ports import Embedder
from serve_app.types import Embeddings, Lane, VectorSpace

TOKENS_BYTES = 4


class CachedEmbedder:
    """An Embedder. An entry is a text's tokens (int32) and its vector (float32), both little-endian."""

    def __init__(self, embedder: Embedder, cache: Tiered, arithmetic: str) -> None:
        """arithmetic: engine and precision of what computes the vectors; vectors of another one are other entries."""
        self._embedder = embedder
        self._cache = cache
        self._arithmetic = arithmetic

    @property
    def space(self) -> VectorSpace:
        return self._embedder.space

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        """Raises Overloaded, EngineUnavailable."""
        keys = [embedding_key(self.space, self._arithmetic, text) for text in texts]
        if len(texts) == 1:
            compute = partial(self._compute, texts[0], lane)
            payloads = [(await self._cache.get_or_compute(EntryKind.EMBEDDING, keys[0], compute, lane)).payload]
            return decode(payloads, self.space.dim)
        found = {key: hit.payload for key, hit in (await self._cache.get_many(EntryKind.EMBEDDING, keys)).items()}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            computed = dict(zip(missing, encode(await self._embedder.embed([*missing.values()], lane)), strict=True))
            self._cache.put_soon(EntryKind.EMBEDDING, computed)
            found |= computed
        return decode([found[key] for key in keys], self.space.dim)

    async def _compute(self, text: str, lane: Lane) -> bytes:
        return encode(await self._embedder.embed([text], lane))[0]


def encode(embeddings: Embeddings) -> list[bytes]:
    tokens, vectors = embeddings.tokens.astype("<i4"), embeddings.vectors.astype("<f4")
    return [count.tobytes() + vector.tobytes() for count, vector in zip(tokens, vectors, strict=True)]


def decode(payloads: Sequence[bytes], dim: int) -> Embeddings:
    row = np.dtype([("tokens", "<i4"), ("vector", "<f4", (dim,))])
    rows = np.frombuffer(b"".join(payloads), row)
    return Embeddings(rows["vector"].astype(np.float32), rows["tokens"].astype(np.int32))
