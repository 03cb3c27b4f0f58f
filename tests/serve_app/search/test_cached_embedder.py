"""Callers who ask for the same text at once share its embedding, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from serve_app.cache.tiered import Tiered
from serve_app.cache.tiers.memory import MemoryTier
from serve_app.errors import DeadlineExceeded, Overloaded
from serve_app.flow.deadline import deadline
from serve_app.search.batched_embedder import BatchedEmbedder
from serve_app.search.cached_embedder import CachedEmbedder
from serve_app.settings import MIB, BatchingSettings
from serve_app.types import Embeddings, Lane, VectorSpace

WAIT_S = 10.0


class GatedEmbedder:
    """A text's vector is its length; answers, or refuses a call of too many, when the gate is open; keeps the texts of
    each call."""

    space = VectorSpace("gated", "1", 1)

    def __init__(self, most_texts: int = 10) -> None:
        self.most_texts = most_texts
        self.calls: list[list[str]] = []
        self.called, self.gate = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.calls.append(list(texts))
        self.called.set()
        await self.gate.wait()
        if len(texts) > self.most_texts:
            raise Overloaded("too many")
        lengths = [len(text) for text in texts]
        return Embeddings(np.asarray(lengths, np.float32).reshape(-1, 1), np.asarray(lengths, np.int32))


def memory() -> Tiered:
    return Tiered((MemoryTier(8 * MIB, ttl_s=600),))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_has_time_is_answered_though_the_one_he_joined_had_none() -> None:
    """Pooled: the text waits for a batch, which drops what nobody waits for any more."""
    loop = asyncio.get_running_loop()
    behind = GatedEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(), concurrency=1)
    cached = CachedEmbedder(batched, memory(), "fp32")

    async def ask(left_s: float) -> Embeddings:
        with deadline(loop.time() + left_s):
            return await cached.embed(["same"])

    busy = asyncio.create_task(batched.embed(["busy"]))
    await behind.called.wait()
    hurried, patient = asyncio.create_task(ask(0.0)), asyncio.create_task(ask(WAIT_S))
    await turns()
    hurried.cancel()  # as the API does at the deadline
    behind.gate.set()
    answer = await asyncio.wait_for(patient, WAIT_S)
    assert answer.tokens.tolist() == [4] and behind.calls == [["busy"], ["same"]]
    await busy


async def test_a_deadline_of_its_own_drops_what_still_waits() -> None:
    behind = GatedEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(), concurrency=1)
    busy = asyncio.create_task(batched.embed(["busy"]))
    await behind.called.wait()
    with deadline(asyncio.get_running_loop().time()):
        late = asyncio.create_task(batched.embed(["late"]))
        await turns()
    behind.gate.set()
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(late, WAIT_S)
    await busy
    assert behind.calls == [["busy"]]


async def test_calls_of_one_text_share_it_and_those_of_many_depend_on_no_other() -> None:
    behind = GatedEmbedder(most_texts=2)
    cached = CachedEmbedder(behind, memory(), "fp32")
    texts = [["aa"], ["aa"], ["aa", "b"], ["b", "aa", "b"], ["aa", "b", "cccc"]]
    calls = [asyncio.create_task(cached.embed(each)) for each in texts]
    await turns()
    behind.gate.set()
    *answers, refused = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)
    assert isinstance(refused, Overloaded)
    for each, answer in zip(texts, answers, strict=False):
        assert isinstance(answer, Embeddings) and answer.tokens.tolist() == [len(text) for text in each]
    assert sorted(behind.calls) == [["aa"], ["aa", "b"], ["aa", "b", "cccc"], ["b", "aa"]]
    await cached.embed(["b", "aa"])
    assert len(behind.calls) == 4, "all of it is kept"
