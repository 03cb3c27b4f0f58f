"""The batched embedder gives what the plain one gives, whoever else asks, fails or leaves."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import EngineUnavailable, Overloaded
from serve_app.search.batched_embedder import BatchedEmbedder, embed_concurrency
from serve_app.settings import BatchingSettings, Settings
from serve_app.types import Embeddings, Lane, VectorSpace

WAIT_S = 10.0


class PlainEmbedder:
    """A text's vector is its own; a call with a poisoned text fails whole. Keeps what it was called with."""

    space = VectorSpace("plain", "1", 3)

    def __init__(self, poison: frozenset[str] = frozenset()) -> None:
        self.poison = poison
        self.calls: list[list[str]] = []
        self.failed: list[str] = []
        self.called, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def embed(self, texts: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Embeddings:
        self.calls.append(list(texts))
        self.called.set()
        await self.gate.wait()
        for _ in range(len(texts) % 3):  # batches that run at once do not end in their order
            await asyncio.sleep(0)
        if self.poison.intersection(texts):
            self.failed += texts
            raise EngineUnavailable("poisoned")
        rows = [[zlib.crc32(text.encode()), len(text), 1] for text in texts]
        tokens = [len(text) + 2 for text in texts]
        return Embeddings(np.array(rows, np.float32).reshape(-1, 3), np.array(tokens, np.int32))


def some_settings() -> st.SearchStrategy[tuple[BatchingSettings, int]]:
    limits = st.builds(BatchingSettings, max_embed_texts=st.integers(1, 6), max_embed_chars=st.integers(1, 40))
    return st.tuples(limits, st.integers(1, 3))


@given(some_settings(), st.lists(st.lists(st.text(max_size=12), max_size=15), max_size=10))
def test_any_mix_of_calls_gets_what_the_plain_embedder_gives(
    limits: tuple[BatchingSettings, int], calls: list[list[str]]
) -> None:
    settings, concurrency = limits

    async def ask_both() -> tuple[list[Embeddings], list[Embeddings], list[list[str]]]:
        behind, plain = PlainEmbedder(), PlainEmbedder()
        batched = BatchedEmbedder(behind, settings, concurrency)
        answers = await asyncio.wait_for(asyncio.gather(*map(batched.embed, calls)), WAIT_S)
        return answers, [await plain.embed(texts) for texts in calls], behind.calls

    answers, expected, reached = asyncio.run(ask_both())
    for answer, right in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer.vectors, right.vectors, strict=True)
        np.testing.assert_array_equal(answer.tokens, right.tokens, strict=True)
    assert sorted(chain(*reached)) == sorted(chain(*calls)), "each text is embedded once"
    assert all(0 < len(batch) <= settings.max_embed_texts for batch in reached)


async def test_a_long_call_is_cut_and_shares_the_engine() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=4, max_embed_chars=100))
    behind.gate.clear()
    long = asyncio.create_task(batched.embed(list("abcdefghij")))
    await behind.called.wait()
    short = asyncio.create_task(batched.embed(["x", "y"]))
    await asyncio.sleep(0)
    behind.gate.set()
    await asyncio.wait_for(asyncio.gather(long, short), WAIT_S)
    assert list(map("".join, behind.calls)) == ["abcd", "efgh", "ijxy"]


async def test_lanes_do_not_wait_for_each_other() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings())
    behind.gate.clear()
    bulk = asyncio.create_task(batched.embed(["upload"], Lane.BULK))
    await behind.called.wait()
    behind.called.clear()
    search = asyncio.create_task(batched.embed(["query"]))
    await asyncio.wait_for(behind.called.wait(), WAIT_S)
    behind.gate.set()
    await asyncio.gather(bulk, search)
    assert behind.calls == [["upload"], ["query"]]


async def test_characters_close_a_batch_and_a_text_beyond_them_goes_alone() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=10, max_embed_chars=5))
    await asyncio.gather(*(batched.embed([text]) for text in ("aaa", "bb", "c", "ddddddd", "e")))
    assert behind.calls == [["aaa", "bb"], ["c"], ["ddddddd"], ["e"]]


@given(some_settings(), st.lists(st.lists(st.sampled_from([False, False, False, True]), max_size=15), max_size=10))
def test_an_error_reaches_all_and_only_those_whose_texts_were_in_the_call_that_failed(
    limits: tuple[BatchingSettings, int], poisoned: list[list[bool]]
) -> None:
    settings, concurrency = limits
    calls = [[f"{call}/{i}" for i in range(len(flags))] for call, flags in enumerate(poisoned)]
    poison = {f"{call}/{i}" for call, flags in enumerate(poisoned) for i, bad in enumerate(flags) if bad}

    async def ask_all() -> tuple[list[Embeddings | BaseException], PlainEmbedder]:
        behind = PlainEmbedder(frozenset(poison))
        batched = BatchedEmbedder(behind, settings, concurrency)
        asked = asyncio.gather(*map(batched.embed, calls), return_exceptions=True)
        return await asyncio.wait_for(asked, WAIT_S), behind

    answers, behind = asyncio.run(ask_all())
    for texts, answer in zip(calls, answers, strict=True):
        if poison.intersection(texts):
            assert isinstance(answer, EngineUnavailable)
        if set(behind.failed).intersection(texts):
            assert isinstance(answer, EngineUnavailable)
        else:
            assert isinstance(answer, Embeddings) and len(answer.vectors) == len(texts)


async def test_of_a_long_call_that_fails_nothing_goes_on() -> None:
    behind = PlainEmbedder(frozenset({"0"}))
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=1))
    with pytest.raises(EngineUnavailable):
        await batched.embed([str(i) for i in range(50)])
    await batched.embed(["next"])
    assert len(behind.calls) <= 3, "the failed one, one that was under way, and the next"


async def test_of_a_long_call_that_is_refused_nothing_goes_on() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=1, max_waiting=20))
    with pytest.raises(Overloaded):
        await batched.embed([str(i) for i in range(50)])
    await asyncio.wait_for(batched.embed(["next"]), WAIT_S)
    assert len(behind.calls) <= 3


async def test_texts_are_what_may_wait_and_not_calls() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=64, max_waiting=100))
    behind.gate.clear()
    calls = [asyncio.create_task(batched.embed(["x"] * 50)) for _ in range(5)]
    done, waiting = await asyncio.wait(calls, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    assert [type(call.exception()) for call in done] == [Overloaded] * 3
    behind.gate.set()
    await asyncio.gather(*waiting)


async def test_a_caller_that_leaves_takes_its_texts_with_it_and_no_others() -> None:
    behind = PlainEmbedder()
    batched = BatchedEmbedder(behind, BatchingSettings(max_embed_texts=4))
    behind.gate.clear()
    leaver, companion = asyncio.create_task(batched.embed(["a"])), asyncio.create_task(batched.embed(["b"]))
    await behind.called.wait()
    long, last = asyncio.create_task(batched.embed(list("0123456789"))), asyncio.create_task(batched.embed(["z"]))
    await asyncio.sleep(0)
    leaver.cancel()
    long.cancel()
    await asyncio.wait([leaver, long], timeout=WAIT_S)
    assert leaver.cancelled() and long.cancelled()
    behind.gate.set()
    b, z = await asyncio.wait_for(asyncio.gather(companion, last), WAIT_S)
    assert b.vectors[0, 0] == np.float32(zlib.crc32(b"b")) and z.vectors[0, 0] == np.float32(zlib.crc32(b"z"))
    assert behind.calls == [["a", "b"], ["z"]]


@pytest.mark.parametrize(("batching", "batches"), [({}, 6), ({"embed_concurrency": 5}, 5)])
def test_batches_under_way_at_once(batching: dict[str, int], batches: int) -> None:
    sections = {"batching": batching, "serving": {"embedder_max_replicas": 3}}
    assert embed_concurrency(Settings.model_validate(sections)) == batches
