"""Continuous batching: every call gets its own rows, even if concurrent calls are cancelled or fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from tokenizers import Encoding

from serve_app.embedding import passes
from serve_app.embedding.batches import padded_width
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.passes import BULK_PASS_IN, HEAD_TEXTS
from serve_app.errors import EngineUnavailable, Overloaded
from serve_app.telemetry.meter import Meter
from serve_app.types import Embeddings, Lane, Vector, VectorSpace
from tests.serve_app.telemetry.counted import counted

SOON_S = 20.0
DIM = 4
WORDS = ["one", "two words", "now three words", "and these are some more words than before"]


class CountingEngine(EmbeddingEngine):
    """The real tokenizer and composition; a pass answers each text's ids in a row, and waits where it is told to."""

    def __init__(self, real: EmbeddingEngine, passes_at_once: int = 1) -> None:
        super().__init__(real.model, real.tokenizer, real._backend, 1_024)
        self.passes_at_once = passes_at_once
        self.passes: list[list[int]] = []  # lengths of the texts in each
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails_on: set[int] = set()

    @property
    def space(self) -> VectorSpace:
        return VectorSpace("counting", "1", DIM)

    @property
    def dim(self) -> int:
        return DIM

    def infer(self, encodings: Sequence[Encoding]) -> Vector:
        self.passes.append([len(encoding.ids) for encoding in encodings])
        self.begun.release()
        assert self.go_on.wait(SOON_S)
        if len(self.passes) in self.fails_on:
            raise EngineUnavailable("broken")
        return np.stack([expected(encoding) for encoding in encodings])


def expected(encoding: Encoding) -> Vector:
    ids = encoding.ids
    return np.asarray([len(ids), sum(ids), ids[0], ids[-2]], dtype=np.float32)


@pytest.fixture
def counting(engine: EmbeddingEngine) -> CountingEngine:
    return CountingEngine(engine)


@pytest.fixture
async def embedder(counting: CountingEngine) -> AsyncIterator[LocalEmbedder]:
    embedder = LocalEmbedder(counting, max_waiting_texts=200)
    yield embedder
    counting.go_on.set()
    await asyncio.to_thread(embedder.close)


async def busy(counting: CountingEngine, embedder: LocalEmbedder) -> asyncio.Task[Embeddings]:
    """A call whose pass runs until `go_on` is set."""
    counting.go_on.clear()
    call = asyncio.create_task(embedder.embed(["first"]))
    assert await asyncio.to_thread(counting.begun.acquire, timeout=SOON_S)
    return call


def require_right(counting: CountingEngine, texts: Sequence[str], answer: Embeddings) -> None:
    encodings = counting.tokenizer.encode(texts)
    assert answer.tokens.tolist() == [len(encoding.ids) for encoding in encodings]
    np.testing.assert_array_equal(answer.vectors, np.stack([expected(encoding) for encoding in encodings]))


async def test_many_calls_share_passes_and_get_their_own_rows(
    counting: CountingEngine, embedder: LocalEmbedder
) -> None:
    first = await busy(counting, embedder)
    calls = [[WORDS[(i + j) % len(WORDS)] + f" {i}" for j in range(i % 5)] for i in range(30)]
    tasks = [asyncio.create_task(embedder.embed(texts, list(Lane)[i % 2])) for i, texts in enumerate(calls)]
    await asyncio.sleep(0)
    counting.go_on.set()
    for texts, answer in zip(calls, await asyncio.gather(*tasks), strict=True):
        if texts:
            require_right(counting, texts, answer)
        else:
            assert answer.vectors.shape == (0, DIM)
    await first
    assert len(counting.passes) < len([texts for texts in calls if texts])


async def test_an_upload_delays_a_search_by_one_pass(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    first = await busy(counting, embedder)
    upload = asyncio.create_task(embedder.embed([WORDS[3]] * (3 * HEAD_TEXTS), Lane.BULK))
    await asyncio.sleep(0)
    search = asyncio.create_task(embedder.embed(["a query"]))
    await asyncio.sleep(0)
    counting.go_on.set()
    await asyncio.gather(first, search, upload)
    assert counting.passes[1] == [len(counting.tokenizer.encode(["a query"])[0].ids)]


async def test_bulk_goes_on_under_a_full_load_of_searches(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    upload = asyncio.create_task(embedder.embed(WORDS, Lane.BULK))

    async def searches() -> None:
        while not upload.done():
            await embedder.embed(["a query"])

    async with asyncio.timeout(SOON_S):
        await asyncio.gather(upload, *(searches() for _ in range(4)))
    assert len(counting.passes) <= 10 * BULK_PASS_IN


async def test_two_passes_share_a_call_and_a_third_waits(engine: EmbeddingEngine) -> None:
    counting = CountingEngine(engine, passes_at_once=2)
    embedder = LocalEmbedder(counting)
    counting.go_on.clear()
    call = asyncio.create_task(embedder.embed(WORDS))
    for _ in range(2):
        assert await asyncio.to_thread(counting.begun.acquire, timeout=SOON_S)
    later = asyncio.create_task(embedder.embed(["a", "b"]))
    await asyncio.sleep(0.05)  # time in which a third pass would begin
    assert sorted(length for lengths in counting.passes for length in lengths) == sorted(
        len(encoding.ids) for encoding in counting.tokenizer.encode(WORDS)
    )
    counting.go_on.set()
    require_right(counting, WORDS, await call)
    require_right(counting, ["a", "b"], await later)
    await asyncio.to_thread(embedder.close)


async def test_calls_of_many_texts_are_whole_after_passes_side_by_side(engine: EmbeddingEngine) -> None:
    counting = CountingEngine(engine, passes_at_once=3)
    embedder = LocalEmbedder(counting)
    calls = [[f"{WORDS[(i + j) % len(WORDS)]} {i} {j}" for j in range(40)] for i in range(20)]
    async with asyncio.timeout(SOON_S):
        answers = await asyncio.gather(*(embedder.embed(texts, list(Lane)[i % 2]) for i, texts in enumerate(calls)))
    for texts, answer in zip(calls, answers, strict=True):
        require_right(counting, texts, answer)
    await asyncio.to_thread(embedder.close)


async def test_who_leaves_takes_his_texts_along(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    first = await busy(counting, embedder)
    leaving = [asyncio.create_task(embedder.embed([WORDS[3]])) for _ in range(100)]
    staying = asyncio.create_task(embedder.embed(["stays"]))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    counting.go_on.set()
    require_right(counting, ["stays"], await staying)
    await first
    assert len(counting.passes) == 2


async def test_a_pass_that_fails_fails_its_calls_only(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    counting.fails_on = {1}
    first = await busy(counting, embedder)
    second = asyncio.create_task(embedder.embed(["second"]))
    await asyncio.sleep(0)
    counting.go_on.set()
    with pytest.raises(EngineUnavailable, match="broken"):
        await first
    require_right(counting, ["second"], await second)


async def test_a_call_of_which_one_pass_failed_has_failed_whichever_pass_tells_it_first(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass that failed loses its core before it tells the call, and the other one ends meanwhile."""
    counting = CountingEngine(engine, passes_at_once=2)
    told, tell = threading.Event(), passes.settle
    first = threading.Lock()

    def late(call: passes.EngineCall, error: Exception | None) -> None:
        if first.acquire(blocking=False):
            assert told.wait(SOON_S)
        else:
            tell(call, error)
            told.set()

    infer, order = counting.infer, iter([True, False])

    def one_fails(encodings: Sequence[Encoding]) -> Vector:
        if next(order):
            raise EngineUnavailable("broken")
        return infer(encodings)

    monkeypatch.setattr(passes, "settle", late)
    monkeypatch.setattr(counting, "infer", one_fails)
    embedder = LocalEmbedder(counting)
    try:
        with pytest.raises(EngineUnavailable, match="broken"):
            await asyncio.wait_for(embedder.embed(["one", "and some more words"]), SOON_S)
    finally:
        await asyncio.to_thread(embedder.close)


async def test_beyond_the_limit_is_refused_and_health_is_not(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    first = await busy(counting, embedder)
    waiting = asyncio.create_task(embedder.embed(["so it waits"] * 250))  # more than may wait, but nothing else does
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await embedder.embed(["one too many"])
    check = asyncio.create_task(embedder.check())
    await asyncio.sleep(0)
    counting.go_on.set()
    with pytest.raises(EngineUnavailable, match="length"):  # this engine's vectors are no unit vectors
        await check
    await asyncio.gather(first, waiting)
    assert len(counting.tokenizer.encode(["health"])[0].ids) in counting.passes[1]


async def test_a_full_lane_refuses_its_own_and_not_the_other(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    first = await busy(counting, embedder)
    upload = asyncio.create_task(embedder.embed(["so it waits"] * 200, Lane.BULK))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await embedder.embed(["one too many"], Lane.BULK)
    search = asyncio.create_task(embedder.embed(["a query"]))
    await asyncio.sleep(0)
    counting.go_on.set()
    require_right(counting, ["a query"], await search)
    await asyncio.gather(first, upload)


async def test_closing_answers_those_who_wait(counting: CountingEngine, embedder: LocalEmbedder) -> None:
    first = await busy(counting, embedder)
    waiting = asyncio.create_task(embedder.embed(["waits"], Lane.BULK))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(embedder.close))
    with pytest.raises(EngineUnavailable, match="closed"):
        await waiting
    counting.go_on.set()
    await closing
    await first
    with pytest.raises(EngineUnavailable, match="closed"):
        await embedder.embed(["late"])


async def test_waits_and_passes_are_metered_by_lane_also_if_they_fail(counting: CountingEngine) -> None:
    meter = Meter()
    embedder = LocalEmbedder(counting, meter=meter)
    await embedder.embed(["one", "now three words"])
    counting.fails_on = {2}
    with pytest.raises(EngineUnavailable, match="broken"):
        await embedder.embed(["two words"], Lane.BULK)
    await asyncio.to_thread(embedder.close)
    lengths = counting.passes
    assert counted(meter, "aidocs_pass_tokens_sum", counted="real") == {"": sum(map(sum, lengths))}
    assert counted(meter, "aidocs_pass_tokens_sum", counted="padded") == {
        "": sum(padded_width(max(p), 256) * len(p) for p in lengths)
    }
    for lane, texts in ((Lane.INTERACTIVE, 2), (Lane.BULK, 1)):
        assert counted(meter, "aidocs_stage_seconds_count", stage="queue", lane=lane) == {"": texts}
        assert counted(meter, "aidocs_stage_seconds_count", stage="tokenize", lane=lane) == {"": 1}
        assert counted(meter, "aidocs_stage_seconds_count", stage="infer", lane=lane) == {"": 1}
